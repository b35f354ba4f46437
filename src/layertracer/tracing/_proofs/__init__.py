"""Whether a reading is right: the self-check at load, sites, shared prefixes, and the audit of a trace."""
