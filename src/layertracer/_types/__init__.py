"""The vocabulary that every floor above shares: samples, perturbations, results. No torch."""

from layertracer._types.certificates import Certificate, Ending, ParticleCertificate, Until
from layertracer._types.draws import count_sure_draws, name_draws
from layertracer._types.fingerprint import WHOLE_FINGERPRINT
from layertracer._types.given import checked_whole, shown
from layertracer._types.interrupts import InterruptGate, keeping_interrupts_back
from layertracer._types.log import make_printable
from layertracer._types.mask import Mask, Scheme
from layertracer._types.measures import (
    JS_BITS,
    KNOWN_ROWS,
    MEASURE_NAME,
    MOST_MEANING,
    MOST_UNIT,
    RESERVED_NAMES,
    TARGET_LOG_PROB,
    LayerMeasure,
    MeasureInfo,
    checked_name,
    is_line,
    read_only,
    refuse_reserved,
)
from layertracer._types.noise import Noise
from layertracer._types.origin import Origin, find_origin
from layertracer._types.panic import LibraryPanicError, is_panic, panics_as_errors
from layertracer._types.perturbations import Draws, Perturbation, fills_from_runs, is_site_asked, kind_of
from layertracer._types.plain_files import FileTooLargeError, NotAFileError, read_plain_file
from layertracer._types.registries import Registration, Registrations
from layertracer._types.results import (
    Audit,
    Check,
    Interval,
    LargestLayer,
    LayerRecord,
    LossLayer,
    Method,
    MixerGroup,
    SelfCheck,
    Status,
    TaskParticle,
    VulnerableLayer,
)
from layertracer._types.samples import EncodedAnswer, EncodedSample, Sample, TargetKind, TargetTokens
from layertracer._types.sites import (
    DEFAULT_SITE,
    FALLBACK_SITE,
    SITES,
    Fill,
    Positions,
    Site,
    SiteFacts,
    UnaskedSite,
    register_site_facts,
)
from layertracer._types.skip import Skip
from layertracer._types.substitutes import (
    MeanMixer,
    NoMixer,
    Substitute,
    Window,
    checked_substitute,
    substitute_from_dict,
)

__all__ = [
    "DEFAULT_SITE",
    "FALLBACK_SITE",
    "JS_BITS",
    "KNOWN_ROWS",
    "MEASURE_NAME",
    "MOST_MEANING",
    "MOST_UNIT",
    "RESERVED_NAMES",
    "SITES",
    "TARGET_LOG_PROB",
    "WHOLE_FINGERPRINT",
    "Audit",
    "Certificate",
    "Check",
    "Draws",
    "EncodedAnswer",
    "EncodedSample",
    "Ending",
    "FileTooLargeError",
    "Fill",
    "InterruptGate",
    "Interval",
    "LargestLayer",
    "LayerMeasure",
    "LayerRecord",
    "LibraryPanicError",
    "LossLayer",
    "Mask",
    "MeanMixer",
    "MeasureInfo",
    "Method",
    "MixerGroup",
    "NoMixer",
    "Noise",
    "NotAFileError",
    "Origin",
    "ParticleCertificate",
    "Perturbation",
    "Positions",
    "Registration",
    "Registrations",
    "Sample",
    "Scheme",
    "SelfCheck",
    "Site",
    "SiteFacts",
    "Skip",
    "Status",
    "Substitute",
    "TargetKind",
    "TargetTokens",
    "TaskParticle",
    "UnaskedSite",
    "Until",
    "VulnerableLayer",
    "Window",
    "checked_name",
    "checked_substitute",
    "checked_whole",
    "count_sure_draws",
    "fills_from_runs",
    "find_origin",
    "is_line",
    "is_panic",
    "is_site_asked",
    "keeping_interrupts_back",
    "kind_of",
    "make_printable",
    "name_draws",
    "panics_as_errors",
    "read_only",
    "read_plain_file",
    "refuse_reserved",
    "register_site_facts",
    "shown",
    "substitute_from_dict",
]
