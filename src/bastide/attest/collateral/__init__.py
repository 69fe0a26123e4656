"""Where collateral comes from: directories of bundles, watched."""
