"""Controls: the same measurement where nothing, or something else, should be found."""
