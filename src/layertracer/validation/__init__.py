"""Validation: a model's trace put to the test, by causal tracing, other measures, controls and statistics."""
