"""What is done to the values at a site: masks, noise, skips; ablation of cached values."""
