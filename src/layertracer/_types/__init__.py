"""The vocabulary that every floor above shares: samples, perturbations, results. No torch."""

from layertracer._types.draws import count_sure_draws, name_draws
from layertracer._types.fingerprint import WHOLE_FINGERPRINT
from layertracer._types.given import checked_whole, shown
from layertracer._types.interrupts import InterruptGate, keeping_interrupts_back
from layertracer._types.log import make_printable
from layertracer._types.origin import Origin, find_origin
from layertracer._types.panic import LibraryPanicError, is_panic, panics_as_errors
from layertracer._types.perturbations import (
    DEFAULT_SITE,
    FALLBACK_SITE,
    SITES,
    Draws,
    Fill,
    Mask,
    Noise,
    Perturbation,
    Positions,
    Scheme,
    Site,
    Skip,
    is_site_asked,
)
from layertracer._types.plain_files import FileTooLargeError, NotAFileError, read_plain_file
from layertracer._types.results import (
    Audit,
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
from layertracer._types.samples import EncodedAnswer, EncodedSample, Sample, TargetKind, TargetTokens

__all__ = [
    "DEFAULT_SITE",
    "FALLBACK_SITE",
    "SITES",
    "WHOLE_FINGERPRINT",
    "Audit",
    "Check",
    "Draws",
    "EncodedAnswer",
    "EncodedSample",
    "FileTooLargeError",
    "Fill",
    "InterruptGate",
    "Interval",
    "LayerRecord",
    "LibraryPanicError",
    "Mask",
    "Method",
    "MixerGroup",
    "Noise",
    "NotAFileError",
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
    "count_sure_draws",
    "find_origin",
    "is_panic",
    "is_site_asked",
    "keeping_interrupts_back",
    "make_printable",
    "name_draws",
    "panics_as_errors",
    "read_plain_file",
    "shown",
]
