"""Evidence as data: causal tracing, agreement, controls, and what they come to. No torch."""

from layertracer.evidence._causal_arrival import Arrival, find_arrival
from layertracer.evidence._causal_records import (
    CausalRecord,
    Corruption,
    Direction,
    ExcludedSample,
    LogitDifference,
    RoleEffects,
    TokenRole,
)
from layertracer.evidence._causal_roles import ROLES, Peak, find_peak, mean_by_role, mean_interval, role_of
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

__all__ = [
    "ROLES",
    "Agreement",
    "Answer",
    "Arrival",
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
    "Peak",
    "Probing",
    "PromptsNeeded",
    "RoleEffects",
    "SiteEffect",
    "TokenRole",
    "VarianceShares",
    "Verdict",
    "find_arrival",
    "find_peak",
    "mean_by_role",
    "mean_interval",
    "role_of",
]
