-- Invoices: one for each workspace and month in which something was metered, written once and never changed. `body` is the
-- whole invoice as it is shown; the other columns are what lists show of it.
CREATE TABLE invoices (
    tenant BIGINT NOT NULL,
    id TEXT NOT NULL,
    number BIGINT NOT NULL,
    month TEXT NOT NULL,
    currency TEXT NOT NULL,
    compute_seconds BIGINT NOT NULL,
    amount_microunits BIGINT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX invoices_month ON invoices (tenant, month);

-- The second before which all of a tenant's months are closed.
CREATE TABLE invoice_closings (
    tenant BIGINT NOT NULL,
    closed_before_s BIGINT NOT NULL,
    PRIMARY KEY (tenant)
);
