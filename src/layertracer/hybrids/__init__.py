"""How design advice for hybrids is made: rows, substitutes judged on them, search, gates, divisions."""

from layertracer.hybrids._design_options import DesignOptions, default_rows
from layertracer.hybrids._judging.evaluation import Judged, evaluate
from layertracer.hybrids._run_design import Question, make_ready, run_design

__all__ = [
    "DesignOptions",
    "Judged",
    "Question",
    "default_rows",
    "evaluate",
    "make_ready",
    "run_design",
]
