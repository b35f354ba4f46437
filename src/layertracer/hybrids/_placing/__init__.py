"""Which layers to keep: searches, placements to compare with, and what is said of them. Pure numbers."""
