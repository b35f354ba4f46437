"""Design advice for hybrids, as it is kept: which layers keep their mixer, at what cost, how sure."""
