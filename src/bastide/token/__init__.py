"""Attestation tokens: their claims, their signature, their key sets."""
