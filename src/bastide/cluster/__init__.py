"""The cluster side: admission, signer gate, scanner, controller, metrics; and placement, which the lab shares."""
