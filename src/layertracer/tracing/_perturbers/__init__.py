"""What is done to the values at a site: masks, noise, skips; ablation of cached values."""

from layertracer.tracing._perturbers.mask import make_mask
from layertracer.tracing._perturbers.noise import make_noise
from layertracer.tracing._perturbers.protocol import register_perturber
from layertracer.tracing._perturbers.skip import make_skip

register_perturber("mask", make_mask)
register_perturber("noise", make_noise)
register_perturber("skip", make_skip)
