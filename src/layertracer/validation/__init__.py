"""What puts a trace to the test: other measures of the same layers, controls, causal tracing."""

from layertracer.validation._importance.infos import IMPORTANCE_NAMES
from layertracer.validation._importance.measure import Importance, measure_importance

__all__ = [
    "IMPORTANCE_NAMES",
    "Importance",
    "measure_importance",
]
