-- Times are microseconds since 1970 (UTC) in columns ending in _at; seconds in columns ending in _s.
-- A tenant is one (workspace, mode, epoch); its integer leads every index of what a tenant owns.

CREATE TABLE installation (
    id BIGINT PRIMARY KEY,
    canary BLOB,
    initialized_at BIGINT,
    created_at BIGINT NOT NULL
);

CREATE TABLE workspaces (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    plan TEXT NOT NULL,
    suspended_at BIGINT,
    -- Members who are Owners, and members and pending invitations together. Whoever changes who belongs to a workspace
    -- writes its row first, so such changes come one after the other.
    owners BIGINT NOT NULL,
    seats BIGINT NOT NULL,
    -- A deleted workspace keeps its row, under its id as name, and no credential of it works.
    deleted_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX workspaces_name ON workspaces (name);

CREATE TABLE tenants (
    id BIGINT PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    is_current BIGINT NOT NULL,
    clock_ahead_us BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX tenants_epoch ON tenants (workspace_id, mode, epoch);
CREATE INDEX tenants_current ON tenants (workspace_id, mode, is_current);
CREATE INDEX tenants_over ON tenants (id) WHERE is_current = 0;
CREATE INDEX tenants_sandboxes ON tenants (created_at, id) WHERE mode = 'test' AND is_current = 1;

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_email ON users (email);

CREATE TABLE members (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    role TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX members_user ON members (workspace_id, user_id);
CREATE INDEX members_list ON members (workspace_id, id);
CREATE INDEX members_of_user ON members (user_id, id);

-- Pending ones only: one that was accepted, revoked or expired is gone, and its event tells of it.
CREATE TABLE invitations (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    invited_by TEXT NOT NULL,
    hash BLOB NOT NULL,
    expires_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX invitations_hash ON invitations (hash);
CREATE UNIQUE INDEX invitations_email ON invitations (workspace_id, email);
CREATE INDEX invitations_list ON invitations (workspace_id, id);
CREATE INDEX invitations_by ON invitations (workspace_id, invited_by, id);
CREATE INDEX invitations_expiry ON invitations (expires_at, id);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    member_id TEXT NOT NULL,
    name TEXT NOT NULL,
    hint TEXT NOT NULL,
    hash BLOB NOT NULL,
    previous_hash BLOB,
    previous_until_at BIGINT,
    scopes TEXT,
    project_id TEXT,
    environment_id TEXT,
    allowed_ips TEXT,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX api_keys_hash ON api_keys (hash);
CREATE INDEX api_keys_previous_hash ON api_keys (previous_hash);
-- Revoked keys stay for the audit log, and are in no list.
CREATE INDEX api_keys_list ON api_keys (workspace_id, mode, id) WHERE revoked_at IS NULL;
CREATE INDEX api_keys_name ON api_keys (workspace_id, mode, name, id) WHERE revoked_at IS NULL;
CREATE INDEX api_keys_project ON api_keys (workspace_id, mode, project_id, id) WHERE revoked_at IS NULL;
CREATE INDEX api_keys_member ON api_keys (member_id, id);

-- Keys that sign tokens, their seeds sealed with the master key. `seq` is their order: two processes that make the next
-- one at once run into each other.
CREATE TABLE signing_keys (
    seq BIGINT PRIMARY KEY,
    id TEXT NOT NULL,
    public_key BLOB NOT NULL,
    sealed_seed BLOB NOT NULL,
    signs_from_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- When a key last called an operation that is deprecated.
CREATE TABLE deprecated_calls (
    key_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    last_called_at BIGINT NOT NULL,
    PRIMARY KEY (key_id, operation)
) WITHOUT ROWID;

-- What a workspace was told once: new versions, deprecations.
CREATE TABLE announcements (
    workspace_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, subject)
) WITHOUT ROWID;

CREATE TABLE projects (
    tenant BIGINT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    is_default BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX projects_name ON projects (tenant, name, id);
CREATE INDEX projects_default ON projects (tenant, is_default, id);

CREATE TABLE environments (
    tenant BIGINT NOT NULL,
    id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX environments_name ON environments (tenant, project_id, name);
CREATE INDEX environments_list ON environments (tenant, project_id, id);

CREATE TABLE computes (
    tenant BIGINT NOT NULL,
    id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    environment_id TEXT NOT NULL,
    name TEXT NOT NULL,
    region TEXT NOT NULL,
    size TEXT NOT NULL,
    vcpus BIGINT NOT NULL,
    memory_mib BIGINT NOT NULL,
    disk_gib BIGINT NOT NULL,
    image_id TEXT NOT NULL,
    image TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    wish TEXT NOT NULL,
    restart_policy TEXT NOT NULL,
    restarts BIGINT NOT NULL,
    protected BIGINT NOT NULL,
    labels TEXT NOT NULL,
    ssh_keys TEXT NOT NULL,
    user_data TEXT,
    ssh_host TEXT,
    ssh_port BIGINT,
    private_ip TEXT,
    ssh_host_key TEXT,
    boots BIGINT NOT NULL,
    operation_id TEXT,
    notes TEXT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    started_at BIGINT,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX computes_name ON computes (tenant, environment_id, name);
CREATE INDEX computes_named ON computes (tenant, name, id);
CREATE INDEX computes_project ON computes (tenant, project_id, id);
CREATE INDEX computes_environment ON computes (tenant, environment_id, id);
CREATE INDEX computes_status ON computes (tenant, status, id);
CREATE INDEX computes_region ON computes (tenant, region, id);

CREATE TABLE compute_labels (
    tenant BIGINT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    compute_id TEXT NOT NULL,
    PRIMARY KEY (tenant, name, value, compute_id)
) WITHOUT ROWID;
CREATE INDEX compute_labels_compute ON compute_labels (tenant, compute_id);

-- How many computes there are of each kind that lists can be filtered by, so that a total is never counted row by row.
CREATE TABLE compute_counts (
    tenant BIGINT NOT NULL,
    project_id TEXT NOT NULL,
    environment_id TEXT NOT NULL,
    region TEXT NOT NULL,
    status TEXT NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (tenant, project_id, environment_id, region, status)
) WITHOUT ROWID;

-- A deleted compute of which something may be left on a host. Its end returns quota and capacity.
CREATE TABLE removals (
    tenant BIGINT NOT NULL,
    compute_id TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    region TEXT NOT NULL,
    machine TEXT NOT NULL,
    vcpus BIGINT NOT NULL,
    memory_mib BIGINT NOT NULL,
    disk_gib BIGINT NOT NULL,
    requested_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, compute_id)
);

-- The reconcilers' queue: which compute wants a look, and when. Owned by the system, so led by time.
CREATE TABLE work (
    compute_id TEXT PRIMARY KEY,
    tenant BIGINT NOT NULL,
    region TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    lease_owner TEXT,
    lease_until_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL
);
CREATE INDEX work_due ON work (due_at, compute_id);
CREATE INDEX work_tenant ON work (tenant, due_at, compute_id);

CREATE TABLE operations (
    tenant BIGINT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    compute_id TEXT,
    project_id TEXT NOT NULL,
    environment_id TEXT,
    steps TEXT NOT NULL,
    error_code TEXT,
    error_message TEXT,
    request_id TEXT NOT NULL,
    trace TEXT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX operations_status ON operations (tenant, status, id);
CREATE INDEX operations_compute ON operations (tenant, compute_id, id);
CREATE INDEX operations_project ON operations (tenant, project_id, id);
CREATE INDEX operations_ended ON operations (ended_at);

-- Written in the transaction that makes the change; the sequencer moves them on.
CREATE TABLE events_pending (
    id TEXT PRIMARY KEY,
    tenant BIGINT NOT NULL,
    kind TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    project_id TEXT,
    environment_id TEXT,
    version BIGINT NOT NULL,
    data TEXT NOT NULL,
    previous TEXT,
    actor_kind TEXT NOT NULL,
    actor_id TEXT,
    request_id TEXT,
    created_at BIGINT NOT NULL
);

CREATE TABLE events (
    tenant BIGINT NOT NULL,
    id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    kind TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    project_id TEXT,
    environment_id TEXT,
    version BIGINT NOT NULL,
    data TEXT NOT NULL,
    previous TEXT,
    actor_kind TEXT NOT NULL,
    actor_id TEXT,
    request_id TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX events_seq ON events (tenant, seq);
CREATE INDEX events_kind ON events (tenant, kind, id);
CREATE INDEX events_resource ON events (tenant, resource_id, id);
CREATE INDEX events_project ON events (tenant, project_id, id) WHERE project_id IS NOT NULL;
CREATE INDEX events_environment ON events (tenant, environment_id, id) WHERE environment_id IS NOT NULL;
CREATE INDEX events_age ON events (created_at);

CREATE TABLE audit_pending (
    id TEXT PRIMARY KEY,
    tenant BIGINT NOT NULL,
    action TEXT NOT NULL,
    resource_id TEXT,
    project_id TEXT,
    actor_kind TEXT NOT NULL,
    actor_id TEXT,
    member_id TEXT,
    address TEXT,
    client_request_id TEXT,
    request_id TEXT NOT NULL,
    before_state TEXT,
    after_state TEXT,
    status BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE audit_log (
    tenant BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    id TEXT NOT NULL,
    action TEXT NOT NULL,
    resource_id TEXT,
    project_id TEXT,
    actor_kind TEXT NOT NULL,
    actor_id TEXT,
    member_id TEXT,
    address TEXT,
    client_request_id TEXT,
    request_id TEXT NOT NULL,
    before_state TEXT,
    after_state TEXT,
    status BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    chain BLOB NOT NULL,
    PRIMARY KEY (tenant, seq)
);

-- The sequencer's last numbers, one row a tenant.
CREATE TABLE sequences (
    tenant BIGINT PRIMARY KEY,
    event_seq BIGINT NOT NULL,
    audit_seq BIGINT NOT NULL,
    audit_chain BLOB NOT NULL
);

-- Minutes in which a place was seen working, as bits of an hour since 1970. The place '' is the installation itself.
CREATE TABLE measured_hours (
    hour BIGINT NOT NULL,
    place TEXT NOT NULL,
    minutes BIGINT NOT NULL,
    PRIMARY KEY (hour, place)
);

-- How long answers took: how many fell into a range, and their sum.
CREATE TABLE measured_latencies (
    hour BIGINT NOT NULL,
    bucket BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    total_us BIGINT NOT NULL,
    PRIMARY KEY (hour, bucket)
);

-- Trouble that the operator tells about. One that is not over has the greatest time as its end.
CREATE TABLE incidents (
    id TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    title TEXT NOT NULL,
    impact TEXT NOT NULL,
    status TEXT NOT NULL,
    regions TEXT NOT NULL,
    updates TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    resolved_at BIGINT NOT NULL
);
CREATE INDEX incidents_resolved ON incidents (resolved_at);

CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    until_at BIGINT NOT NULL
);

-- What a process that ended in order had counted against budgets; the next one takes it.
CREATE TABLE budget_windows (
    id TEXT PRIMARY KEY,
    windows BLOB NOT NULL,
    saved_at BIGINT NOT NULL
);

-- Exact numbers of rows (noun, scope '' or a project) and what is used of a quota (noun 'quota.…').
CREATE TABLE counters (
    tenant BIGINT NOT NULL,
    noun TEXT NOT NULL,
    scope TEXT NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (tenant, noun, scope)
) WITHOUT ROWID;

CREATE TABLE idempotency (
    tenant BIGINT NOT NULL,
    key_hash BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    member_id TEXT NOT NULL,
    project_id TEXT,
    environment_id TEXT,
    status BIGINT NOT NULL,
    body BLOB NOT NULL,
    is_sealed BIGINT NOT NULL,
    location TEXT,
    etag TEXT,
    preference_applied TEXT,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, key_hash)
);
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

-- What is admitted in a region, over all tenants.
CREATE TABLE capacity (
    region TEXT PRIMARY KEY,
    vcpus BIGINT NOT NULL,
    memory_mib BIGINT NOT NULL,
    disk_gib BIGINT NOT NULL
);

CREATE TABLE images (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    checksum TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    min_memory_mib BIGINT NOT NULL,
    min_disk_gib BIGINT NOT NULL,
    login_user TEXT NOT NULL,
    kernel TEXT,
    initrd TEXT,
    command_line TEXT,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX images_name ON images (name);

CREATE TABLE ssh_keys (
    tenant BIGINT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    public_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX ssh_keys_name ON ssh_keys (tenant, name);
CREATE UNIQUE INDEX ssh_keys_fingerprint ON ssh_keys (tenant, fingerprint);

-- What is metered now: one open interval a resource.
CREATE TABLE meters (
    tenant BIGINT NOT NULL,
    resource_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    environment_id TEXT NOT NULL,
    item TEXT NOT NULL,
    size TEXT NOT NULL,
    region TEXT NOT NULL,
    microunits_per_hour BIGINT NOT NULL,
    from_s BIGINT NOT NULL,
    PRIMARY KEY (tenant, resource_id)
);

-- The ledger: closed intervals, never changed. Whole seconds, half open, so that parts sum to the whole.
CREATE TABLE ledger (
    tenant BIGINT NOT NULL,
    resource_id TEXT NOT NULL,
    from_s BIGINT NOT NULL,
    to_s BIGINT NOT NULL,
    project_id TEXT NOT NULL,
    environment_id TEXT NOT NULL,
    item TEXT NOT NULL,
    size TEXT NOT NULL,
    region TEXT NOT NULL,
    microunits_per_hour BIGINT NOT NULL,
    entry_id TEXT NOT NULL,
    PRIMARY KEY (tenant, resource_id, entry_id)
);
CREATE INDEX ledger_time ON ledger (tenant, to_s, resource_id, entry_id);

-- Names of deleted projects and environments, for usage reports that still count them.
CREATE TABLE tombstones (
    tenant BIGINT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);

CREATE TABLE request_counts (
    tenant BIGINT NOT NULL,
    day BIGINT NOT NULL,
    project_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    surface TEXT NOT NULL,
    requests BIGINT NOT NULL,
    PRIMARY KEY (tenant, day, project_id, key_id, surface)
) WITHOUT ROWID;
