"""The attestation service: evidence in, token or explained refusal out."""
