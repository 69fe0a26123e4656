"""Where collateral comes from: directories of bundles, watched, or a PCS or PCCS."""
