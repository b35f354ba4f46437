"""What a user's program calls: plan, trace, read, load, save, compare, write reports. No torch before that."""

from layertracer._types import sites_there_are
from layertracer.api._advice import Advice, load_advice
from layertracer.api._causal import CausalTrace, causal_trace, load_causal
from layertracer.api._compare import Comparison, compare
from layertracer.api._design import design, plan_design
from layertracer.api._evaluate_placement import evaluate_placement, load_placement
from layertracer.api._evidence import Evidence, load_evidence
from layertracer.api._lenses import fit_lens, load_lens, read_grid
from layertracer.api._plan import plan
from layertracer.api._readout import read_layers
from layertracer.api._trace import Trace, load_run, trace, verify_run
from layertracer.api._validate import plan_validation, validate

__all__ = [
    "Advice",
    "CausalTrace",
    "Comparison",
    "Evidence",
    "Trace",
    "causal_trace",
    "compare",
    "design",
    "evaluate_placement",
    "fit_lens",
    "load_advice",
    "load_causal",
    "load_evidence",
    "load_lens",
    "load_placement",
    "load_run",
    "plan",
    "plan_design",
    "plan_validation",
    "read_grid",
    "read_layers",
    "sites_there_are",
    "trace",
    "validate",
    "verify_run",
]
