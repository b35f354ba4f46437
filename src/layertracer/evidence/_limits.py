"""What single numbers and texts of evidence may be, field by field."""

from __future__ import annotations

import math
from collections.abc import Mapping

from layertracer._types.measures import MEASURE_NAME
from layertracer.runs import Array, Number, OrNan, RecordRules, Rule, Text, Whole

_ANY = Number(low=-math.inf)
_ANY_OR_NAN = OrNan()
_SHARE, _SHARE_OR_NAN = Number(high=1.0), OrNan(low=0.0, high=1.0)
_PROB = OrNan(low=0.0, high=1.0 + 1e-4)
"""A probability out of log-probabilities of float32, which sum to 1 within rounding."""
_JS = OrNan(low=0.0, high=1.0 + 1e-6)
_CORRELATION = Number(low=-1.0 - 1e-9, high=1.0 + 1e-9)
_CORRELATION_OR_NAN = OrNan(low=-1.0 - 1e-9, high=1.0 + 1e-9)
_KL = OrNan(low=-1e-6)
_COUNT = Whole(high=2**31 - 1)
_LAYER = _COUNT
_ROW = Whole(low=-1, high=2**31 - 1)
"""A layer, or −1 for the embeddings."""

LIMITS: Mapping[str, Rule] = {
    "Interval.low": _ANY,
    "Interval.high": _ANY,
    "Interval.level": Number(low=1e-9, high=1.0),
    "ParticleReading.layer": _LAYER,
    "ParticleReading.share_found": _SHARE_OR_NAN,
    "ParticleReading.per_prompt": _LAYER,
    "ParticleReading.false_positive_rate": _SHARE_OR_NAN,
    "ParticleReading.n_random": _COUNT,
    "ParticleReading.random_token_rate": _SHARE_OR_NAN,
    "ParticleReading.n_random_tokens": _COUNT,
    "SiteEffect.js_bits": _JS,
    "SiteEffect.layer": _LAYER,
    "SiteEffect.contenders": _LAYER,
    "Agreement.value": _CORRELATION,
    "Agreement.p": _SHARE,
    "Agreement.p_holm": _SHARE,
    "Agreement.n_units": _COUNT,
    "Control.layer": _LAYER,
    "Control.share_found": _SHARE_OR_NAN,
    "Control.rank_correlation": _CORRELATION,
    "Control.value": _ANY_OR_NAN,
    "Control.true_value": _ANY_OR_NAN,
    "DoseResponse.fractions": _SHARE,
    "DoseResponse.js_bits": _JS,
    "DoseResponse.layer": _LAYER,
    "DoseResponse.rank_correlation": _CORRELATION_OR_NAN,
    "DoseResponse.reference": _SHARE,
    "DoseResponse.without_dominant": _JS,
    "DoseResponse.only_dominant": _JS,
    "DoseResponse.n_dominant": _COUNT,
    "VarianceShares.shares": OrNan(low=-1e-9, high=1.0 + 1e-9),
    "VarianceShares.levels": _COUNT,
    "PromptsNeeded.n_prompts": Whole(low=1, high=2**31 - 1),
    "PromptsNeeded.measured": OrNan(low=0.0),
    "LensQuality.kl_nats": _KL,
    "LensQuality.bias_nats": _KL,
    "LensQuality.top1": _SHARE_OR_NAN,
    "LensQuality.fallback": _ROW,
    "LensQuality.n_tokens": Whole(),
    "Probing.layer": _ROW,
    "Probing.k": _COUNT,
    "Probing.accuracy": _SHARE,
    "Probing.control_accuracy": _SHARE_OR_NAN,
    "Probing.selectivity": _CORRELATION_OR_NAN,
    "Probing.chance": _SHARE,
    "Probing.n_test": _COUNT,
    "EvidenceRecord.n_prompts": _COUNT,
    "EvidenceRecord.solved_share": _SHARE_OR_NAN,
    "EvidenceRecord.seed": Whole(high=None),
    "EvidenceRecord.target_prob": _PROB,
    "EvidenceRecord.gradient_fidelity": _CORRELATION_OR_NAN,
    "Audit.share": _SHARE,
    "Audit.n_cells": Whole(),
    "Audit.n_forwards": Whole(),
    "Audit.n_drawn": Whole(),
    "Audit.worst_nats": OrNan(low=0.0),
    "Audit.worst_bits": OrNan(low=0.0),
    "ExcludedSample.prompt": _COUNT,
    "LogitDifference.clean": _ANY_OR_NAN,
    "LogitDifference.corrupted": _ANY_OR_NAN,
    "LogitDifference.restored": _ANY_OR_NAN,
    "RoleEffects.mean": _ANY_OR_NAN,
    "RoleEffects.low": _ANY_OR_NAN,
    "RoleEffects.high": _ANY_OR_NAN,
    "RoleEffects.n_prompts": _COUNT,
    "CausalRecord.window": Whole(low=1, high=2**31 - 1),
    "CausalRecord.n_draws": Whole(low=1, high=2**31 - 1),
    "CausalRecord.noise_scale": Number(),
    "CausalRecord.noise_std": Number(),
    "CausalRecord.seed": Whole(high=None),
    "CausalRecord.clean_prob": _PROB,
    "CausalRecord.corrupted_prob": _PROB,
    "CausalRecord.restored_prob": _PROB,
    "CausalRecord.subject_spans": _ROW,
    "CausalRecord.lengths": _COUNT,
}
"""By record and field, what its numbers may be."""

OTHERS: Mapping[str, Rule] = {
    "SiteEffect.rows": Text(choices=("task", "text")),
    "Agreement.method": Text(choices=("spearman", "pearson")),
    "Probing.kind": Text(choices=("linear", "k_sparse")),
    "CausalRecord.corrupt": Text(choices=("noise", "swap")),
    "CausalRecord.direction": Text(choices=("denoise", "noise")),
    "MeasureInfo.name": Text(
        pattern=(MEASURE_NAME.pattern, "an identifier of at most 64 letters, digits and underscores")
    ),
    "MeasureInfo.low": _ANY,
    "MeasureInfo.high": _ANY,
    "LayerMeasure.values": Array(_ANY_OR_NAN, 2),
}
"""By record and field, what it may be where its type does not say so."""

RULES = RecordRules(LIMITS, OTHERS)
"""What the fields of evidence and of causal tracing may be."""
