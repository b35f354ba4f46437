"""The model's own caches: keys and values, convolution and recurrent states, layer by layer."""
