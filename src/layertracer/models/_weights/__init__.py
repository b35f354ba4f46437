"""A network's weights: their shapes, digests and fingerprint, and where they lie."""
