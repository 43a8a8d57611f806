-- Reading the audit log: one index for each filter, and what was cut off at its old end.
CREATE UNIQUE INDEX audit_log_id ON audit_log (tenant, id);
CREATE INDEX audit_log_action ON audit_log (tenant, action, seq);
CREATE INDEX audit_log_resource ON audit_log (tenant, resource_id, seq);
CREATE INDEX audit_log_actor ON audit_log (tenant, actor_id, seq);
CREATE INDEX audit_log_time ON audit_log (tenant, created_at, seq);

-- The last row that retention removed, with its link: where the chain of what is left begins.
CREATE TABLE audit_cuts (
    tenant BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL,
    chain BLOB NOT NULL,
    cut_at BIGINT NOT NULL
);
