"""Room ``pki``: DER, Intel's PCK certificate extension, certificate chains with a pinned root, CRLs."""
