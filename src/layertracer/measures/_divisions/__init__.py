"""Layers divided into regions: CKA, change points, and both put together."""
