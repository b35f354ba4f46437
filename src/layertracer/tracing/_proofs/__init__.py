"""Self-check at load, proofs of sites and of shared prefixes, and the audit of a trace: whether a reading is right."""
