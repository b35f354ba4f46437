"""Causal tracing on samples: what is corrupted, what is left out and why, and what comes of it."""
