"""The ladder pass: every lens row and every perturbed row of a model in one forward of its own code."""

from layertracer.tracing._batching.memory_budget import parse_memory
from layertracer.tracing._distributions.js_divergence import js_divergence
from layertracer.tracing._model import Loadable, TracedModel, is_module, load_model, wrap_model
from layertracer.tracing._options import TraceOptions
from layertracer.tracing._plan import plan_trace
from layertracer.tracing._planning.trace_plan import BucketPlan, PlannedFlops, PrefixPlan, TracePlan
from layertracer.tracing._readings import Progress
from layertracer.tracing._readout import Readout, read_layers
from layertracer.tracing._record import describe_model, token_texts
from layertracer.tracing._trace import MEASURING, TraceInterrupted, trace_model

__all__ = [
    "MEASURING",
    "BucketPlan",
    "Loadable",
    "PlannedFlops",
    "PrefixPlan",
    "Progress",
    "Readout",
    "TraceInterrupted",
    "TraceOptions",
    "TracePlan",
    "TracedModel",
    "describe_model",
    "is_module",
    "js_divergence",
    "load_model",
    "parse_memory",
    "plan_trace",
    "read_layers",
    "token_texts",
    "trace_model",
    "wrap_model",
]
