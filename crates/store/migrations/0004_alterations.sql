-- What is being made of a compute that is resized or rebuilt, until it has become that: the size or the image that it will
-- have. Quota and capacity of what a larger size adds are taken while the row is there.
CREATE TABLE alterations (
    tenant BIGINT NOT NULL,
    compute_id TEXT NOT NULL,
    size TEXT,
    vcpus BIGINT,
    memory_mib BIGINT,
    disk_gib BIGINT,
    image_id TEXT,
    image TEXT,
    PRIMARY KEY (tenant, compute_id)
);
