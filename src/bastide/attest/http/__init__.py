"""The service over HTTP: Azure Attestation's wire, at the edge and nowhere else."""
