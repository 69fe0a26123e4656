-- The audit log: rows are added, never changed. The chain is in the bodies: each names the hash of the one before.
CREATE TABLE audit_record (
    tenant TEXT COLLATE "C" NOT NULL,
    writer TEXT COLLATE "C" NOT NULL,           -- a replica
    seq BIGINT NOT NULL,            -- from 1, without gaps
    body BYTEA NOT NULL,            -- canonical JSON
    hash BYTEA NOT NULL,            -- SHA-256 of body
    PRIMARY KEY (tenant, writer, seq)
);

CREATE TABLE audit_checkpoint (
    tenant TEXT COLLATE "C" NOT NULL,
    writer TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    jws TEXT NOT NULL,
    PRIMARY KEY (tenant, writer, seq)
);
