"""The vocabulary that every floor above shares: samples, perturbations, results. No torch."""

from layertracer._types._given import checked_whole, shown
from layertracer._types._origin import Origin, find_origin
from layertracer._types._perturbations import (
    DEFAULT_SITE,
    FALLBACK_SITE,
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
    is_site_asked,
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
    "DEFAULT_SITE",
    "FALLBACK_SITE",
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
    "Origin",
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
    "checked_whole",
    "describe_perturbation",
    "find_origin",
    "is_site_asked",
    "shown",
]
