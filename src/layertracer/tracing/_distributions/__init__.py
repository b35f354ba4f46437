"""Next-token distributions: log-softmax, JS divergence, top-k, and their reduction to the numbers kept."""

from layertracer.tracing._distributions.js_bits import JsBits
from layertracer.tracing._distributions.row_measures import register_row_measure
from layertracer.tracing._distributions.target_log_prob import TargetLogProb

register_row_measure(JsBits())
register_row_measure(TargetLogProb())
