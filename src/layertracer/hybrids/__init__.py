"""How design advice for hybrids is made: rows, substitutes judged on them, search, gates, divisions."""

from layertracer.hybrids._judging.evaluation import Judged, evaluate

__all__ = [
    "Judged",
    "evaluate",
]
