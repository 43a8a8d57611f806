-- Budget alerts: what a month may cost, and at which parts of it somebody wants to hear.
CREATE TABLE budget_alerts (
    tenant BIGINT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    project_id TEXT,
    amount_microunits BIGINT NOT NULL,
    -- Percents in ascending order, with commas between.
    thresholds TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);

-- What was told of a month, once each.
CREATE TABLE budget_reached (
    tenant BIGINT NOT NULL,
    alert_id TEXT NOT NULL,
    month TEXT NOT NULL,
    threshold_percent BIGINT NOT NULL,
    reached_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, alert_id, month, threshold_percent)
);
