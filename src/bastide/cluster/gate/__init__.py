"""The signer gate: what an image holds, whom the cluster trusts, and the verdict; values only."""
