"""Evidence as data: causal tracing, agreement, controls, and what they come to. No torch."""

from layertracer.evidence._causal_records import (
    CausalRecord,
    Corruption,
    Direction,
    ExcludedSample,
    LogitDifference,
    RoleEffects,
    TokenRole,
)
from layertracer.evidence._records import (
    Agreement,
    Answer,
    Control,
    DoseResponse,
    EvidenceRecord,
    LensQuality,
    ParticleReading,
    Probing,
    PromptsNeeded,
    SiteEffect,
    VarianceShares,
    Verdict,
)
from layertracer.evidence._validation_plan import ValidationPlan, ValidationStage

__all__ = [
    "Agreement",
    "Answer",
    "CausalRecord",
    "Control",
    "Corruption",
    "Direction",
    "DoseResponse",
    "EvidenceRecord",
    "ExcludedSample",
    "LensQuality",
    "LogitDifference",
    "ParticleReading",
    "Probing",
    "PromptsNeeded",
    "RoleEffects",
    "SiteEffect",
    "TokenRole",
    "ValidationPlan",
    "ValidationStage",
    "VarianceShares",
    "Verdict",
]
