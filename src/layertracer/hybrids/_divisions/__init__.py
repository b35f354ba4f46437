"""Layers of a traced model divided into regions, with names."""
