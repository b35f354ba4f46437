"""How design advice for hybrids is made: rows, substitutes judged on them, search, gates, divisions."""

from layertracer.hybrids._design_options import DesignOptions, default_rows
from layertracer.hybrids._judging.evaluation import Judged, evaluate
from layertracer.hybrids._make_ready import Question, make_ready
from layertracer.hybrids._run_design import run_design
from layertracer.hybrids._snippets.snippet import Snippet, config_snippet, linear_snippet, snippets_for

__all__ = [
    "DesignOptions",
    "Judged",
    "Question",
    "Snippet",
    "config_snippet",
    "default_rows",
    "evaluate",
    "linear_snippet",
    "make_ready",
    "run_design",
    "snippets_for",
]
