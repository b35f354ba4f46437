"""Forwards of the model's own code: the ladder, its cached form, the plain method, the tail."""
