"""Fitting of lenses, what they are worth, and published ones: everything that needs a model to make a lens."""
