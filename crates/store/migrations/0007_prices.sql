-- Price lists: versions that never change. Prices are integers, in millionths of the currency by the hour.
CREATE TABLE price_lists (
    version BIGINT PRIMARY KEY,
    valid_from_s BIGINT NOT NULL,
    installed_at BIGINT NOT NULL
);
CREATE TABLE prices (
    version BIGINT NOT NULL,
    size TEXT NOT NULL,
    running_microunits_per_hour BIGINT NOT NULL,
    stopped_microunits_per_hour BIGINT NOT NULL,
    PRIMARY KEY (version, size)
);
