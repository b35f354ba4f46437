"""What puts a trace to the test: other measures of the same layers, controls, causal tracing."""

from layertracer.validation._causal.options import CausalSettings
from layertracer.validation._causal.trace import CausalTraceInterrupted, trace_causally
from layertracer.validation._importance.infos import IMPORTANCE_NAMES
from layertracer.validation._importance.measure import Importance, measure_importance

__all__ = [
    "IMPORTANCE_NAMES",
    "CausalSettings",
    "CausalTraceInterrupted",
    "Importance",
    "measure_importance",
    "trace_causally",
]
