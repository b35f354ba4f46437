"""What a design measures: placements kept as they come, one trace, the KV cache, and what all that takes."""
