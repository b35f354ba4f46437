"""Many traces, one question: models compared on relative depth, verdicts. Input: `runs.TraceRecord`; no torch."""

from layertracer.comparisons._comparison import ModelComparison, compare_records
from layertracer.comparisons._results import (
    Claim,
    DepthCurve,
    Difference,
    Estimate,
    MixerContrast,
    ModelSummary,
    Outcome,
    PairDifference,
    ParticleDepth,
    Quantity,
    ScalingTrend,
    Verdict,
    VulnerableDepth,
)
from layertracer.comparisons._settings import ComparisonSettings
from layertracer.comparisons._tidy_table import COLUMNS

__all__ = [
    "COLUMNS",
    "Claim",
    "ComparisonSettings",
    "DepthCurve",
    "Difference",
    "Estimate",
    "MixerContrast",
    "ModelComparison",
    "ModelSummary",
    "Outcome",
    "PairDifference",
    "ParticleDepth",
    "Quantity",
    "ScalingTrend",
    "Verdict",
    "VulnerableDepth",
    "compare_records",
]
