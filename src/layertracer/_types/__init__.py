"""The vocabulary that every floor above shares: samples, perturbations, results. No torch."""

from layertracer._types._perturbations import (
    SITES,
    Fill,
    Mask,
    Noise,
    Perturbation,
    Positions,
    Scheme,
    Site,
    Skip,
    describe_perturbation,
    has_random_draws,
)
from layertracer._types._results import (
    Check,
    Interval,
    LayerRecord,
    Method,
    MixerGroup,
    SelfCheck,
    Status,
    TaskParticle,
    VulnerableLayer,
)
from layertracer._types._samples import EncodedSample, Sample, TargetKind, TargetTokens

__all__ = [
    "SITES",
    "Check",
    "EncodedSample",
    "Fill",
    "Interval",
    "LayerRecord",
    "Mask",
    "Method",
    "MixerGroup",
    "Noise",
    "Perturbation",
    "Positions",
    "Sample",
    "Scheme",
    "SelfCheck",
    "Site",
    "Skip",
    "Status",
    "TargetKind",
    "TargetTokens",
    "TaskParticle",
    "VulnerableLayer",
    "describe_perturbation",
    "has_random_draws",
]
