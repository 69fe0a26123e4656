-- What the replicas of an attestation service remember of its tenants. Times are whole seconds since 1970-01-01 UTC.
-- COLLATE "C": names are ordered by their bytes on every machine, so an upgrade of its locales spoils no index.
CREATE TABLE setting (
    name TEXT COLLATE "C" PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE signing_key (
    tenant TEXT COLLATE "C" NOT NULL,
    kid TEXT COLLATE "C" NOT NULL,
    private_key BYTEA,              -- PKCS#8 in PEM, sealed under the mounted key; NULL once the key is retired
    certificate BYTEA NOT NULL,     -- DER
    published_at BIGINT NOT NULL,
    active_from BIGINT NOT NULL,
    PRIMARY KEY (tenant, kid)
);

CREATE TABLE policy (
    tenant TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,             -- SgxEnclave, OpenEnclave, Tpm
    jws TEXT NOT NULL,              -- as it was sent
    PRIMARY KEY (tenant, kind)
);

CREATE TABLE policy_certificate (
    tenant TEXT COLLATE "C" NOT NULL,
    thumbprint TEXT COLLATE "C" NOT NULL,       -- SHA-1 of the DER, upper hex
    certificate BYTEA NOT NULL,     -- DER
    added_at BIGINT NOT NULL,
    place BIGINT GENERATED ALWAYS AS IDENTITY,  -- the order in which they came
    PRIMARY KEY (tenant, thumbprint)
);
