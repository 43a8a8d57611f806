-- Telemetry: what computes used, in periods of a minute (kept a day) and of an hour (kept 90 days). All numbers add up.
CREATE TABLE compute_telemetry (
    tenant BIGINT NOT NULL,
    compute_id TEXT NOT NULL,
    period_s BIGINT NOT NULL,
    at_s BIGINT NOT NULL,
    measured_ms BIGINT NOT NULL,
    vcpu_ms BIGINT NOT NULL,
    cpu_ms BIGINT NOT NULL,
    memory_kib_s BIGINT NOT NULL,
    disk_kib_s BIGINT NOT NULL,
    disk_read_bytes BIGINT NOT NULL,
    disk_written_bytes BIGINT NOT NULL,
    disk_reads BIGINT NOT NULL,
    disk_writes BIGINT NOT NULL,
    network_ms BIGINT NOT NULL,
    received_bytes BIGINT NOT NULL,
    sent_bytes BIGINT NOT NULL,
    received_packets BIGINT NOT NULL,
    sent_packets BIGINT NOT NULL,
    private_ms BIGINT NOT NULL,
    private_received_bytes BIGINT NOT NULL,
    private_sent_bytes BIGINT NOT NULL,
    private_received_packets BIGINT NOT NULL,
    private_sent_packets BIGINT NOT NULL,
    PRIMARY KEY (tenant, compute_id, period_s, at_s)
);
CREATE INDEX compute_telemetry_age ON compute_telemetry (period_s, at_s);

-- The same, added up over the computes of an environment in a region: what is left of computes that are gone.
CREATE TABLE group_telemetry (
    tenant BIGINT NOT NULL,
    project_id TEXT NOT NULL,
    environment_id TEXT NOT NULL,
    region TEXT NOT NULL,
    period_s BIGINT NOT NULL,
    at_s BIGINT NOT NULL,
    measured_ms BIGINT NOT NULL,
    vcpu_ms BIGINT NOT NULL,
    cpu_ms BIGINT NOT NULL,
    memory_kib_s BIGINT NOT NULL,
    disk_kib_s BIGINT NOT NULL,
    disk_read_bytes BIGINT NOT NULL,
    disk_written_bytes BIGINT NOT NULL,
    disk_reads BIGINT NOT NULL,
    disk_writes BIGINT NOT NULL,
    network_ms BIGINT NOT NULL,
    received_bytes BIGINT NOT NULL,
    sent_bytes BIGINT NOT NULL,
    received_packets BIGINT NOT NULL,
    sent_packets BIGINT NOT NULL,
    private_ms BIGINT NOT NULL,
    private_received_bytes BIGINT NOT NULL,
    private_sent_bytes BIGINT NOT NULL,
    private_received_packets BIGINT NOT NULL,
    private_sent_packets BIGINT NOT NULL,
    PRIMARY KEY (tenant, period_s, at_s, environment_id, region)
);
CREATE INDEX group_telemetry_age ON group_telemetry (period_s, at_s);

-- What each compute that runs had counted when it was looked at last.
CREATE TABLE compute_counters (
    tenant BIGINT NOT NULL,
    compute_id TEXT NOT NULL,
    counted_at BIGINT NOT NULL,
    counters TEXT NOT NULL,
    PRIMARY KEY (tenant, compute_id)
);
CREATE INDEX compute_counters_age ON compute_counters (counted_at);

-- What clients did: requests by operation and key in periods of an hour. A row is for one range of
-- durations, so that quantiles can be told.
CREATE TABLE request_telemetry (
    tenant BIGINT NOT NULL,
    at_s BIGINT NOT NULL,
    operation TEXT NOT NULL,
    key_id TEXT NOT NULL,
    latency_range BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    client_errors BIGINT NOT NULL,
    server_errors BIGINT NOT NULL,
    rate_limited BIGINT NOT NULL,
    total_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, at_s, operation, key_id, latency_range)
);
CREATE INDEX request_telemetry_age ON request_telemetry (at_s);
