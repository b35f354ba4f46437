"""A causal trace for people: page, terminal, JSON, CSV."""
