-- Letters on their way. What a letter says is sealed, and forgotten when it was sent or given up.
CREATE TABLE mails (
    id TEXT NOT NULL,
    recipient TEXT NOT NULL,
    about TEXT NOT NULL,
    kind TEXT NOT NULL,
    workspace_id TEXT,
    sealed BLOB,
    attempts BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    last_error TEXT,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    PRIMARY KEY (id, recipient)
) WITHOUT ROWID;
-- Nobody is told the same twice.
CREATE UNIQUE INDEX mails_about ON mails (about, recipient);
CREATE INDEX mails_due ON mails (due_at, id) WHERE ended_at IS NULL;
CREATE INDEX mails_ended ON mails (ended_at) WHERE ended_at IS NOT NULL;

-- Who is to be reminded: of a key that will expire, and of what is deprecated and still called.
CREATE INDEX api_keys_expiry ON api_keys (expires_at, id) WHERE expires_at IS NOT NULL AND revoked_at IS NULL;
CREATE INDEX deprecated_calls_operation ON deprecated_calls (operation, last_called_at);
