"""Converted copies of models in the user's cache: found, verified, swept."""
