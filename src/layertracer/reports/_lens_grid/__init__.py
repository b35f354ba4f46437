"""Grids of what lenses read at every position and layer of one prompt: a page, and lines for a terminal."""
