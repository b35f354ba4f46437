"""What single numbers and names of advice may be, field by field."""

from __future__ import annotations

import math
from collections.abc import Mapping

from layertracer.runs import Number, OrNan, RecordRules, Rule, Text, Whole

_ANY = Number(low=-math.inf)
_ANY_OR_NAN = OrNan()
_KL, _KL_OR_NAN = Number(), OrNan(low=0.0)
_SHARE, _SHARE_OR_NAN = Number(high=1.0), OrNan(low=0.0, high=1.0)
_PERCENT = Number(high=100.0)
_COUNT = Whole(high=2**31 - 1)
_LAYER = _COUNT

LIMITS: Mapping[str, Rule] = {
    "Interval.low": _ANY,
    "Interval.high": _ANY,
    "Interval.level": Number(low=1e-9, high=1.0),
    "Accuracy.share": _SHARE,
    "Accuracy.full_share": _SHARE,
    "Accuracy.n_prompts": Whole(low=1, high=2**31 - 1),
    "Accuracy.kl_nats": _KL,
    "Judgement.kept": _LAYER,
    "Judgement.kl_nats": _KL_OR_NAN,
    "Judgement.nll_change": _ANY_OR_NAN,
    "Judgement.n_rows": _COUNT,
    "Judgement.n_positions": Whole(),
    "Placement.layers": _LAYER,
    "Placement.n_layers": Whole(low=1, high=2**31 - 1),
    "Placement.placeable": _LAYER,
    "Placement.percentile": _PERCENT,
    "Placement.n_random": _COUNT,
    "Placement.objective": _KL_OR_NAN,
    "Placement.compared_kl_nats": _KL_OR_NAN,
    "Placement.below_best_nats": _ANY,
    "Placement.kv_cache_share": _SHARE,
    "Singles.layers": _LAYER,
    "Singles.removed_kl_nats": _KL,
    "Singles.restored_kl_nats": _KL,
    "Singles.removed_accuracy": _SHARE,
    "Singles.restored_accuracy": _SHARE,
    "Singles.all_kl_nats": _KL,
    "Singles.joint_js": OrNan(low=0.0, high=2.0 + 1e-6),
    "Singles.rank_agreement": OrNan(low=-1.0 - 1e-9, high=1.0 + 1e-9),
    "Pairs.layers": _LAYER,
    "Pairs.kl_nats": _KL,
    "Pairs.interaction": _ANY,
    "Baseline.placements": _LAYER,
    "Baseline.objective": _KL,
    "Baseline.kl_nats": _KL_OR_NAN,
    "Baseline.percentile": _PERCENT,
    "PublishedMatch.layers": _LAYER,
    "PublishedMatch.overlap": _COUNT,
    "PublishedMatch.expected": Number(),
    "PublishedMatch.p": _SHARE,
    "PublishedMatch.p_spaced": _SHARE_OR_NAN,
    "PublishedMatch.p_holm": _SHARE,
    "Ratio.n_kept": _COUNT,
    "Ratio.knee": _COUNT,
    "Region.first": _LAYER,
    "Region.last": _LAYER,
    "Divisions.curves": _ANY_OR_NAN,
    "Divisions.p": _SHARE_OR_NAN,
    "Divisions.cka": _ANY_OR_NAN,
    "EarlyExit.layers": _LAYER,
    "EarlyExit.agreement": _SHARE,
    "EarlyExit.stays": _SHARE,
    "EarlyExit.accuracy": _SHARE_OR_NAN,
    "EarlyExit.full_accuracy": _SHARE_OR_NAN,
    "EarlyExit.compute_saved": _SHARE,
    "EarlyExit.thresholds": _SHARE,
    "EarlyExit.exit_layer": OrNan(low=0.0),
    "EarlyExit.threshold_agreement": _SHARE_OR_NAN,
    "EarlyExit.threshold_accuracy": _SHARE_OR_NAN,
    "EarlyExit.threshold_saved": _SHARE_OR_NAN,
    "EarlyExit.agreement_interval": _SHARE_OR_NAN,
    "EarlyExit.threshold_agreement_interval": _SHARE_OR_NAN,
    "EarlyExit.threshold_net_saved": _ANY_OR_NAN,
    "EarlyExit.threshold_net_saved_interval": _ANY_OR_NAN,
    "Switching.before": _KL_OR_NAN,
    "Switching.after": _KL_OR_NAN,
    "Switching.layers_before": _COUNT,
    "Switching.layers_after": _COUNT,
    "Switching.random": _KL_OR_NAN,
    "Switching.random_after": _KL_OR_NAN,
    "Switching.prompts": _COUNT,
    "Evaluations.n_search_rows": _COUNT,
    "Evaluations.n_held_out_rows": _COUNT,
    "Evaluations.n_compared_rows": _COUNT,
    "Evaluations.n_evaluations": Whole(),
    "Evaluations.audit_cells": Whole(),
    "Evaluations.audit_worst_nats": _KL_OR_NAN,
    "Evaluations.cpu_s": Number(),
    "AdviceRecord.seed": Whole(high=None),
}
"""By record and field, what its numbers may be."""


BASELINES = ("uniform", "random", "most_vulnerable", "around_particle", "published")
"""Placements that nobody searched for, in the order in which they are shown."""

TEXTS: Mapping[str, Rule] = {"Baseline.name": Text(choices=BASELINES)}
"""By record and field, what a text may be that is not any."""

RULES = RecordRules(LIMITS, TEXTS)
"""What the fields of advice may be."""
