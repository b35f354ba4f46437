"""How design advice for hybrids is made: rows, substitutes judged on them, search, gates, divisions."""

from layertracer.hybrids._judging.evaluation import Judged, evaluate
from layertracer.hybrids._snippets.snippet import Snippet, config_snippet, linear_snippet, snippets_for

__all__ = [
    "Judged",
    "Snippet",
    "config_snippet",
    "evaluate",
    "linear_snippet",
    "snippets_for",
]
