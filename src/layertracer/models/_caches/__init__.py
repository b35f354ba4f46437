"""KV caches, convolution and recurrent states: the model's own, layer by layer."""
