"""Where inside a layer is perturbed: the residual stream, what a branch adds, the layer's cache."""
