"""Causal tracing: values of one run put into another, one layer and position at a time."""
