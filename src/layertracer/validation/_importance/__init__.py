"""Importance of layers by other means than masks: removals, gradients, direct attribution, probes."""
