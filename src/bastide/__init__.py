"""Bastide: confidential computing nodes for Kubernetes on Intel SGX."""

__version__ = "0.1.0"
