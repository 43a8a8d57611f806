-- The console: links that sign a person in once, and the sessions they begin. Of both secrets only a hash is kept.

CREATE TABLE sign_in_links (
    hash BLOB PRIMARY KEY,
    user_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX sign_in_links_expiry ON sign_in_links (expires_at, hash);
CREATE INDEX sign_in_links_user ON sign_in_links (user_id, expires_at);

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    hash BLOB NOT NULL,
    address TEXT NOT NULL,
    agent TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX sessions_hash ON sessions (hash);
CREATE INDEX sessions_user ON sessions (user_id, id);
CREATE INDEX sessions_expiry ON sessions (expires_at, id);
CREATE INDEX sessions_seen ON sessions (seen_at, id);
