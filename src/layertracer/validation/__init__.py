"""What puts a trace to the test: other measures of the same layers, controls, causal tracing."""

from layertracer.validation._causal.options import CausalSettings
from layertracer.validation._causal.trace import CausalTraceInterrupted, trace_causally
from layertracer.validation._importance.editor_range import EditorRange, editor_range
from layertracer.validation._importance.fidelity import fidelity_intervals, gradient_fidelity
from layertracer.validation._importance.infos import IMPORTANCE_NAMES
from layertracer.validation._importance.measure import Importance, measure_importance
from layertracer.validation._importance.probes import probe_layers
from layertracer.validation._importance.relation import RelationFaithfulness, relation_faithfulness
from layertracer.validation._question import REFERENCE, ValidationOptions, ValidationQuestion
from layertracer.validation._validate import ValidationInterrupted, plan_validation, run_validation

__all__ = [
    "IMPORTANCE_NAMES",
    "REFERENCE",
    "CausalSettings",
    "CausalTraceInterrupted",
    "EditorRange",
    "Importance",
    "RelationFaithfulness",
    "ValidationInterrupted",
    "ValidationOptions",
    "ValidationQuestion",
    "editor_range",
    "fidelity_intervals",
    "gradient_fidelity",
    "measure_importance",
    "plan_validation",
    "probe_layers",
    "relation_faithfulness",
    "run_validation",
    "trace_causally",
]
