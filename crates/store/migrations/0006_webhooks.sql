-- Where events are sent. Secrets are sealed with the master key.
CREATE TABLE webhooks (
    tenant BIGINT NOT NULL,
    id TEXT NOT NULL,
    url TEXT NOT NULL,
    description TEXT,
    event_types TEXT NOT NULL,
    project_id TEXT,
    environment_id TEXT,
    status TEXT NOT NULL,
    sealed_secret BLOB NOT NULL,
    sealed_previous BLOB,
    previous_until_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

-- Up to which of a tenant's events all deliveries have a row. `version` rises with each change of its endpoints.
CREATE TABLE webhook_cursors (
    tenant BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    endpoints BIGINT NOT NULL,
    version BIGINT NOT NULL,
    lease_owner TEXT NOT NULL,
    lease_until_at BIGINT NOT NULL,
    PRIMARY KEY (tenant)
);

-- When an endpoint wants to be looked at for deliveries that wait, since when it fails everything, and which events it
-- is to get again. `version` rises with whatever may make it due sooner.
CREATE TABLE webhook_queues (
    webhook_id TEXT NOT NULL,
    tenant BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    lease_owner TEXT NOT NULL,
    lease_until_at BIGINT NOT NULL,
    failing_since_at BIGINT,
    recover_after BIGINT,
    recover_through BIGINT,
    PRIMARY KEY (webhook_id)
);
CREATE INDEX webhook_queues_due ON webhook_queues (due_at, webhook_id);
CREATE INDEX webhook_queues_tenant ON webhook_queues (tenant, webhook_id);

-- One row for each event and endpoint, with its last try; the tries before it are in delivery_attempts.
CREATE TABLE deliveries (
    tenant BIGINT NOT NULL,
    id TEXT NOT NULL,
    webhook_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    event_seq BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    status TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    step BIGINT NOT NULL,
    first_at BIGINT,
    attempts BIGINT NOT NULL,
    tried_at BIGINT,
    http_status BIGINT,
    latency_ms BIGINT,
    error TEXT,
    answer TEXT,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX deliveries_webhook ON deliveries (tenant, webhook_id, id);
CREATE INDEX deliveries_open ON deliveries (tenant, webhook_id, status, id) WHERE status <> 'succeeded';
CREATE INDEX deliveries_due ON deliveries (webhook_id, due_at) WHERE status = 'pending';

CREATE TABLE delivery_attempts (
    tenant BIGINT NOT NULL,
    delivery_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    tried_at BIGINT NOT NULL,
    http_status BIGINT,
    latency_ms BIGINT NOT NULL,
    error TEXT,
    answer TEXT,
    PRIMARY KEY (tenant, delivery_id, number)
) WITHOUT ROWID;

INSERT INTO counters (tenant, noun, scope, value) SELECT id, 'quota.webhooks', '', 0 FROM tenants;
