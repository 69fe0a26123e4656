-- The audit log: rows are added, never changed. The chain is in the bodies: each names the hash of the one before.
CREATE TABLE audit_record (
    tenant TEXT NOT NULL,
    writer TEXT NOT NULL,
    seq INTEGER NOT NULL,           -- from 1, without gaps
    body BLOB NOT NULL,             -- canonical JSON
    hash BLOB NOT NULL,             -- SHA-256 of body
    PRIMARY KEY (tenant, writer, seq)
);

CREATE TABLE audit_checkpoint (
    tenant TEXT NOT NULL,
    writer TEXT NOT NULL,
    seq INTEGER NOT NULL,
    jws TEXT NOT NULL,
    PRIMARY KEY (tenant, writer, seq)
);
