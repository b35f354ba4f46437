"""Next-token distributions: log-softmax, JS divergence, top-k, and their reduction to the numbers kept."""
