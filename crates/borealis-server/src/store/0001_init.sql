-- Portable subset: TEXT ids, INTEGER milliseconds since 1970, TEXT json.
CREATE TABLE account (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    credits INTEGER,                        -- ticks; NULL: no limit
    held INTEGER NOT NULL DEFAULT 0,        -- ticks held for jobs that have not ended
    created_at INTEGER NOT NULL
);
CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    prefix TEXT NOT NULL UNIQUE,            -- public part, for look-up
    hash TEXT NOT NULL,                     -- SHA-256 of the whole key
    redacted TEXT NOT NULL,
    name TEXT NOT NULL,
    acls TEXT NOT NULL,                     -- json
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
);
CREATE TABLE folder (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (account, name)
);
CREATE TABLE job (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    state TEXT NOT NULL,
    kind TEXT NOT NULL,
    still INTEGER NOT NULL,                 -- 1: pictures; they go before clips
    dialect TEXT NOT NULL,
    folder TEXT REFERENCES folder (id) ON DELETE SET NULL,
    spec TEXT NOT NULL,                     -- json
    progress INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,       -- grows whenever the job changes hands
    worker TEXT,
    lease_until INTEGER,
    outputs TEXT,                           -- json
    error TEXT,                             -- json
    usage TEXT,                             -- json
    hold INTEGER NOT NULL DEFAULT 0,        -- ticks
    cost INTEGER NOT NULL DEFAULT 0,        -- ticks
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    expires_at INTEGER,
    deleted INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX job_state ON job (state, still, created_at);
CREATE INDEX job_account ON job (account, created_at, id);
CREATE TABLE idempotency (
    account TEXT NOT NULL,
    idem_key TEXT NOT NULL,
    hash TEXT NOT NULL,
    job TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account, idem_key)
);
CREATE TABLE asset (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    sha256 TEXT NOT NULL,
    mime TEXT NOT NULL,
    size INTEGER NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    seconds REAL NOT NULL,
    job TEXT,                               -- the job that made it; NULL: an input
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE INDEX asset_blob ON asset (sha256);
CREATE INDEX asset_expiry ON asset (expires_at);
CREATE INDEX asset_job ON asset (job);
CREATE TABLE file (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    filename TEXT NOT NULL,
    purpose TEXT NOT NULL,
    mime TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    public_token TEXT UNIQUE,
    public_expires_at INTEGER,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
);
CREATE INDEX file_blob ON file (sha256);
CREATE INDEX file_account ON file (account, created_at, id);
CREATE TABLE batch (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    input_file TEXT,
    key_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    cancelled_at INTEGER
);
CREATE TABLE batch_request (
    batch TEXT NOT NULL REFERENCES batch (id),
    id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    job TEXT,
    error TEXT,                             -- json; why the line was never valid
    created_at INTEGER NOT NULL,
    PRIMARY KEY (batch, id)
);
CREATE TABLE outbox (
    id TEXT PRIMARY KEY,                    -- webhook-id
    account TEXT NOT NULL,
    job TEXT NOT NULL,
    url TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    state TEXT NOT NULL,                    -- pending, sent, failed
    created_at INTEGER NOT NULL
);
CREATE INDEX outbox_due ON outbox (state, next_at);
CREATE TABLE worker (
    id TEXT PRIMARY KEY,
    info TEXT NOT NULL,                     -- json: model, backend
    seen_at INTEGER NOT NULL
);
