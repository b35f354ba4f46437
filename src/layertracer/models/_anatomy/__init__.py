"""A model's decoder layers, found by execution: the stack, the residual stream, the mixer and the MLP."""
