"""All numbers of a comparison as one tidy table: one row a number."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from layertracer._types import Interval
from layertracer.comparisons._results import (
    DepthCurve,
    MixerContrast,
    ModelSummary,
    PairDifference,
    ScalingTrend,
    Verdict,
)

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "part",
    "model",
    "other",
    "quantity",
    "lens",
    "criterion",
    "depth",
    "value",
    "low",
    "high",
    "level",
    "unit",
    "p_value",
    "n_prompts",
    "n_models",
    "method",
    "note",
)
"""Columns of the table; empty where a number has none."""

_UNITS = {"mean_js_bits": "bits", "max_js_bits": "bits", "vulnerable_depth": "relative depth"}

Row = dict[str, Any]


def build_frame(
    *,
    models: Sequence[ModelSummary],
    pairs: Sequence[PairDifference],
    trends: Sequence[ScalingTrend],
    mixers: Sequence[MixerContrast],
    verdicts: Sequence[Verdict],
    level: float,
) -> pd.DataFrame:
    """The tidy table of a comparison's parts; see `ModelComparison.to_frame`."""
    import pandas as pd

    rows: Iterable[Row] = itertools.chain(
        *(_model_rows(model, level) for model in models),
        *(_pair_rows(pair, level) for pair in pairs),
        *(_trend_rows(trend) for trend in trends),
        map(_mixer_row, mixers),
        map(_verdict_row, verdicts),
    )
    frame = pd.DataFrame([dict.fromkeys(COLUMNS) | row for row in rows], columns=list(COLUMNS))
    numbers = ("depth", "value", "low", "high", "level", "p_value")
    return frame.astype(dict.fromkeys(numbers, "float64") | dict.fromkeys(("n_prompts", "n_models"), "Int64"))


def _ends(interval: Interval | None) -> Row:
    return {} if interval is None else {"low": interval.low, "high": interval.high, "level": interval.level}


def _model_rows(model: ModelSummary, level: float) -> Iterator[Row]:
    shared = {"part": "model", "model": model.label, "n_prompts": model.n_prompts}
    facts = (
        ("n_parameters", model.n_parameters, "parameters"),
        ("n_layers", model.n_layers, "layers"),
        ("solved_share", model.solved_share, "share"),
        ("begins_share", model.begins_share, "share"),
    )
    for name, value, unit in facts:
        yield shared | {"quantity": name, "value": value, "unit": unit, "note": model.family}
    for name, estimate in {"mean_js_bits": model.mean_js, "max_js_bits": model.max_js}.items():
        if estimate is not None:
            yield shared | {"quantity": name, "value": estimate.value, "unit": "bits"} | _ends(estimate.interval)
    if model.vulnerable is not None:
        where: Row = {"quantity": "vulnerable_depth", "value": model.vulnerable.depth, "unit": "relative depth"}
        is_clear = "" if model.vulnerable.is_clear else f", one of {len(model.vulnerable.contenders)} contenders"
        where["note"] = f"layer {model.vulnerable.layer}{is_clear}"
        yield shared | where | _ends(model.vulnerable.interval)
    for particle in model.particles:
        note = "none found" if particle.layer is None else f"layer {particle.layer}"
        where = {"quantity": "particle_depth", "lens": particle.lens, "criterion": particle.criterion}
        yield (
            shared
            | where
            | {"value": particle.depth, "unit": "relative depth", "note": note}
            | _ends(particle.interval)
        )
        yield shared | where | {"quantity": "particle_share_found", "value": particle.share_found, "unit": "share"}
    curves = {"js_profile_bits": (model.profile, "bits"), "js_bits": (model.js_curve, "bits")}
    for name, (curve, unit) in (curves | {"target_prob": (model.target_curve, "probability")}).items():
        yield from _curve_rows(curve, shared | {"part": "profile", "quantity": name, "unit": unit}, level)


def _curve_rows(curve: DepthCurve | None, shared: Mapping[str, Any], level: float) -> Iterator[Row]:
    if curve is None:
        return
    for depth, mean, low, high in zip(curve.depth, curve.mean, curve.low, curve.high, strict=True):
        numbers = {"depth": float(depth), "value": float(mean), "low": float(low), "high": float(high)}
        yield {**shared, **numbers, "level": level}


def _pair_rows(pair: PairDifference, level: float) -> Iterator[Row]:
    method = "paired" if pair.is_paired else "unpaired"
    n_prompts = pair.n_shared if pair.is_paired else min(pair.n_first, pair.n_second)
    shared = {"part": "difference", "model": pair.second, "other": pair.first, "method": method, "n_prompts": n_prompts}
    for one in pair.differences:
        what = {"quantity": one.quantity, "lens": one.lens, "criterion": one.criterion}
        yield (
            shared
            | what
            | {"value": one.value, "unit": _UNITS.get(one.quantity, "relative depth")}
            | _ends(one.interval)
        )
    where = {"part": "difference_profile", "quantity": "js_profile_bits", "unit": "bits"}
    yield from _curve_rows(pair.profile, shared | where, level)


def _trend_rows(trend: ScalingTrend) -> Iterator[Row]:
    shared = {
        "part": "trend",
        "lens": trend.lens,
        "criterion": trend.criterion,
        "n_models": trend.n_models,
        "n_prompts": trend.n_prompts,
        "method": "paired" if trend.is_paired else "unpaired",
        "note": trend.note or f"{trend.n_sizes} sizes in {trend.n_families} families",
    }
    slope = {"quantity": f"slope of {trend.quantity}", "value": trend.slope, "unit": "log per log parameters"}
    yield shared | slope | _ends(trend.interval)
    tau = {"quantity": f"tau of {trend.quantity}", "value": trend.tau, "unit": "Kendall's tau-b"}
    yield shared | tau | {"p_value": trend.p_value}


def _mixer_row(mixer: MixerContrast) -> Row:
    contrast = mixer.contrast
    counted = "all" if contrast.is_exact else "random"
    what = f"{contrast.n_layers} layers against {contrast.n_others} in {contrast.n_bands} bands"
    return {
        "part": "mixer",
        "model": mixer.label,
        "other": contrast.mixer,
        "quantity": "js_ratio_to_other_mixers",
        "value": contrast.ratio,
        "unit": "ratio",
        "p_value": contrast.p_value,
        "method": f"{contrast.n_arrangements} arrangements ({counted})",
        "note": contrast.note or what,
    }


def _verdict_row(verdict: Verdict) -> Row:
    return {
        "part": "headline" if verdict.is_headline else "verdict",
        "quantity": verdict.claim if verdict.quantity is None else f"{verdict.claim}: {verdict.quantity}",
        "lens": verdict.lens,
        "criterion": verdict.criterion,
        "value": verdict.statistic,
        "unit": verdict.statistic_name,
        "p_value": verdict.p_value,
        "n_models": verdict.n_models,
        "n_prompts": verdict.n_prompts,
        "method": verdict.outcome,
        "note": verdict.reason,
    } | _ends(verdict.interval)
