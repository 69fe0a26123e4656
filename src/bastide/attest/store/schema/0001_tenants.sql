-- What an attestation service remembers of its tenants. Times are whole seconds since 1970-01-01 UTC.
CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE signing_key (
    tenant TEXT NOT NULL,
    kid TEXT NOT NULL,
    private_key BLOB,               -- PKCS#8 in PEM; NULL once the key is retired
    certificate BLOB NOT NULL,      -- DER
    published_at INTEGER NOT NULL,
    active_from INTEGER NOT NULL,
    PRIMARY KEY (tenant, kid)
);

CREATE TABLE policy (
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,             -- SgxEnclave, OpenEnclave, Tpm
    jws TEXT NOT NULL,              -- as it was sent
    PRIMARY KEY (tenant, kind)
);

CREATE TABLE policy_certificate (
    tenant TEXT NOT NULL,
    thumbprint TEXT NOT NULL,       -- SHA-1 of the DER, upper hex
    certificate BLOB NOT NULL,      -- DER
    added_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, thumbprint)
);
