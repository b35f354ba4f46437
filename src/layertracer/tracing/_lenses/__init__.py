"""Lenses: what a layer's residual stream is translated into before the model's own unembedding reads it."""

from layertracer.tracing._lenses.logit import LogitLens
from layertracer.tracing._lenses.protocol import register_lens

register_lens(LogitLens())
