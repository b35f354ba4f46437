"""What advice cannot be though each of its numbers could: at odds with itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from layertracer._types import Interval
from layertracer.advice._records import (
    Accuracy,
    AdviceRecord,
    Baseline,
    Judgement,
    Pairs,
    Placement,
    PublishedMatch,
    Ratio,
    Singles,
)
from layertracer.advice._role_records import Divisions, EarlyExit, Switching

_ROUNDING = 1e-9
_BY_THRESHOLD = (
    *("exit_layer", "threshold_agreement", "threshold_accuracy", "threshold_saved"),
    *("threshold_agreement_interval", "threshold_net_saved", "threshold_net_saved_interval"),
)


def find_contradictions(record: AdviceRecord) -> Iterator[str]:
    """What of a record contradicts the rest of it, each with its place; nothing where all goes together."""
    n_layers, placeable = record.model["n_layers"], record.singles.layers
    yield from _of_mixers(record.model)
    yield from _of_layers(placeable, "singles.layers", range(n_layers))
    yield from _of_singles(record.singles)
    if record.pairs is not None:
        yield from _of_pairs(record.pairs, placeable)
    for n_kept, placement in record.placements.items():
        yield from _of_placement(record, placement, n_kept)
    for n_kept, named in record.baselines.items():
        for name, baseline in named.items():
            yield from _of_baseline(baseline, n_kept, placeable, f"baselines.{n_kept}.{name}")
    for n_kept, matches in record.published.items():
        for index, match in enumerate(matches):
            yield from _of_match(record, match, n_kept, f"published.{n_kept}[{index}]")
    yield from _of_what_was_measured(record)
    yield from _of_snippets(record)


def _of_what_was_measured(record: AdviceRecord) -> Iterator[str]:
    """Of what not every advice has."""
    n_layers, placeable = record.model["n_layers"], record.singles.layers
    if record.ratio is not None:
        yield from _of_ratio(record.ratio, placeable)
    if record.divisions is not None:
        yield from _of_divisions(record.divisions, n_layers)
    if record.gates is not None:
        yield from _of_early_exit(record.gates.early_exit, n_layers)
        if record.gates.switching is not None:
            yield from _of_switching(record.gates.switching)


def _of_layers(layers: Sequence[int], place: str, among: Sequence[int]) -> Iterator[str]:
    if list(layers) != sorted(set(layers)):
        yield f"{place} are not ascending, each once: {list(layers)}"
    beyond = sorted(set(layers) - set(among))
    if beyond:
        yield f"{place} has layer {beyond[0]}, which is none of those that can be there ({_short(among)})"


def _short(layers: Sequence[int]) -> str:
    listed = ", ".join(map(str, list(layers)[:8]))
    return listed + (", …" if len(layers) > 8 else "")


def _of_length(values: Any, n_wanted: int, place: str, what: str) -> Iterator[str]:
    if len(values) != n_wanted:
        yield f"{place} has {len(values)} entries, and {what} are {n_wanted}"


def _of_singles(singles: Singles) -> Iterator[str]:
    n_layers = len(singles.layers)
    if not n_layers:
        yield "singles.layers is empty: no layer can be substituted"
    for name in ("removed_kl_nats", "restored_kl_nats", "removed_accuracy", "restored_accuracy"):
        for kind, values in getattr(singles, name).items():
            yield from _of_length(values, n_layers, f"singles.{name}.{kind}", "the placeable layers")
    if singles.joint_js is not None:
        yield from _of_length(singles.joint_js, n_layers, "singles.joint_js", "the placeable layers")


def _of_pairs(pairs: Pairs, placeable: Sequence[int]) -> Iterator[str]:
    if tuple(pairs.layers) != tuple(placeable):
        yield f"pairs.layers are {_short(pairs.layers)}, and singles.layers are {_short(placeable)}"
    for name in ("kl_nats", "interaction"):
        matrix = getattr(pairs, name)
        if matrix.shape != (len(pairs.layers),) * 2:
            yield f"pairs.{name} has the shape {list(matrix.shape)}, and pairs.layers are {len(pairs.layers)}"
        elif not np.array_equal(matrix, matrix.T):
            yield f"pairs.{name} is not symmetric"
    if pairs.interaction.shape == (len(pairs.layers),) * 2 and np.any(np.diag(pairs.interaction) != 0):
        yield "pairs.interaction of a layer with itself is not 0"


def _of_placement(record: AdviceRecord, placement: Placement, n_kept: int) -> Iterator[str]:
    place, placeable = f"placements.{n_kept}", record.singles.layers
    yield from _of_layers(placement.layers, f"{place}.layers", placeable)
    yield from _of_length(placement.layers, n_kept, f"{place}.layers", "the layers to keep")
    for name, found, whole in (
        ("placeable", tuple(placement.placeable), tuple(placeable)),
        ("n_layers", placement.n_layers, record.model["n_layers"]),
        ("substitute", placement.substitute, record.substitute),
        ("model", placement.model, record.model["name"]),
    ):
        if found != whole:
            yield f"{place}.{name} is not that of the advice"
    if placement.judgement is not None:
        yield from _of_judgement(placement.judgement, placement.layers, place)
    if placement.percentile is None and placement.verdict != "undecided":
        yield f"{place}.verdict is {placement.verdict!r}, and it has no percentile"
    if (placement.percentile is None) != (placement.n_random == 0):
        yield f"{place}.percentile is {placement.percentile}, and n_random is {placement.n_random}"
    if placement.below_best_interval is not None:
        yield from _of_interval(placement.below_best_interval, f"{place}.below_best_interval", (-np.inf, np.inf))
    if placement.percentile_interval is not None:
        yield from _of_interval(placement.percentile_interval, f"{place}.percentile_interval", (0.0, 100.0))


def _of_judgement(judgement: Judgement, layers: Sequence[int], place: str) -> Iterator[str]:
    if tuple(judgement.kept) != tuple(layers):
        yield f"{place}: what was judged keeps {_short(judgement.kept)}, and the placement {_short(layers)}"
    for name in ("kl_interval", "nll_interval"):
        interval = getattr(judgement, name)
        if interval is not None:
            yield from _of_interval(interval, f"{place}.{name}", (-np.inf, np.inf))
    if np.isnan(judgement.kl_nats) != np.isnan(judgement.nll_change):
        yield f"{place} has one of kl_nats and nll_change and not the other"
    if not np.isnan(judgement.kl_nats) and not judgement.n_rows:
        yield f"{place} has a KL of text, and n_rows is 0"
    for task, accuracy in judgement.accuracy.items():
        yield from _of_accuracy(accuracy, f"{place}.accuracy.{task}")


def _of_accuracy(accuracy: Accuracy, place: str) -> Iterator[str]:
    yield from _of_interval(accuracy.interval, f"{place}.interval", (0.0, 1.0))
    if accuracy.kl_interval is not None:
        yield from _of_interval(accuracy.kl_interval, f"{place}.kl_interval", (-np.inf, np.inf))


def _of_interval(interval: Interval, place: str, bounds: tuple[float, float]) -> Iterator[str]:
    low, high = bounds
    if interval.low > interval.high:
        yield f"{place} goes from {interval.low:g} to {interval.high:g}"
    if interval.low < low - _ROUNDING or interval.high > high + _ROUNDING:
        yield f"{place} goes from {interval.low:g} to {interval.high:g}, beyond [{low:g}, {high:g}]"


def _of_baseline(baseline: Baseline, n_kept: int, placeable: Sequence[int], place: str) -> Iterator[str]:
    for index, kept in enumerate(baseline.placements):
        yield from _of_layers(kept, f"{place}.placements[{index}]", placeable)
        yield from _of_length(kept, n_kept, f"{place}.placements[{index}]", "the layers to keep")
    for name in ("objective", "kl_nats"):
        yield from _of_length(getattr(baseline, name), len(baseline.placements), f"{place}.{name}", "its placements")


def _of_match(record: AdviceRecord, match: PublishedMatch, n_kept: int, place: str) -> Iterator[str]:
    yield from _of_layers(match.layers, f"{place}.layers", range(record.model["n_layers"]))
    advised = record.placements.get(n_kept)
    if advised is None:
        yield f"{place} is beside a placement that keeps {n_kept} layers, and there is none"
    elif match.overlap != len(set(match.layers) & set(advised.layers)):
        both = len(set(match.layers) & set(advised.layers))
        yield f"{place}.overlap is {match.overlap}, and {both} layers are in both"
    if match.p_holm < match.p - _ROUNDING:
        yield f"{place}.p_holm is {match.p_holm:g}, and p is {match.p:g}: a correction makes none smaller"


def _of_ratio(ratio: Ratio, placeable: Sequence[int]) -> Iterator[str]:
    yield from _of_layers(ratio.n_kept, "ratio.n_kept", range(len(placeable) + 1))
    yield from _of_length(ratio.judgements, len(ratio.n_kept), "ratio.judgements", "its numbers of layers")
    for n_kept, judgement in zip(ratio.n_kept, ratio.judgements, strict=False):
        yield from _of_layers(judgement.kept, f"ratio.{n_kept}.kept", placeable)
        yield from _of_length(judgement.kept, n_kept, f"ratio.{n_kept}.kept", "the layers to keep")
        yield from _of_judgement(judgement, judgement.kept, f"ratio.{n_kept}")
    if ratio.knee is not None and ratio.knee not in ratio.n_kept:
        yield f"ratio.knee is {ratio.knee}, which is none of ratio.n_kept"
    if ratio.knee is None and ratio.knee_interval is not None:
        yield "ratio.knee_interval is there, and ratio.knee is not"


def _of_divisions(divisions: Divisions, n_layers: int) -> Iterator[str]:
    starts = [region.first for region in divisions.regions]
    ends = [region.last for region in divisions.regions]
    if starts[:1] != [0] or ends[-1:] != [n_layers - 1] or starts[1:] != [end + 1 for end in ends[:-1]]:
        yield f"divisions.regions do not follow one another from layer 0 to layer {n_layers - 1}"
    odd = [index for index, region in enumerate(divisions.regions) if region.first > region.last]
    if odd:
        yield f"divisions.regions[{odd[0]}] ends before it begins"
    for name, curve in divisions.curves.items():
        yield from _of_length(curve, n_layers, f"divisions.curves.{name}", "the model's layers")
    if divisions.cka is not None and divisions.cka.shape != (n_layers, n_layers):
        yield f"divisions.cka has the shape {list(divisions.cka.shape)}, and the model's layers are {n_layers}"
    if set(divisions.curves) != set(divisions.units):
        yield "divisions.units are not of divisions.curves"


def _of_early_exit(leaving: EarlyExit, n_layers: int) -> Iterator[str]:
    yield from _of_layers(leaving.layers, "gates.early_exit.layers", range(n_layers))
    for name in ("agreement", "stays", "accuracy", "compute_saved", "agreement_interval"):
        values = getattr(leaving, name)
        yield from _of_length(values, len(leaving.layers), f"gates.early_exit.{name}", "its layers")
    for name in _BY_THRESHOLD:
        values = getattr(leaving, name)
        if values is not None:
            yield from _of_length(values, len(leaving.thresholds), f"gates.early_exit.{name}", "its thresholds")
    if np.any(leaving.stays > leaving.agreement + _ROUNDING):
        yield "gates.early_exit.stays is more than agreement: what agrees from a layer on agrees there"
    if leaving.agreement_interval.ndim != 2 or leaving.agreement_interval.shape[1:] != (2,):
        yield "gates.early_exit.agreement_interval has not two ends for each layer"


def _of_switching(switching: Switching) -> Iterator[str]:
    for name in ("after", "layers_before", "layers_after", "random", "random_after", "prompts"):
        values = getattr(switching, name)
        if values is not None:
            yield from _of_length(values, len(switching.before), f"gates.switching.{name}", "its prompts")


def _of_snippets(record: AdviceRecord) -> Iterator[str]:
    odd = sorted(set(record.snippets) - set(record.placements))
    if odd:
        yield f"snippets has one for {odd[0]} layers, and placements none"
    if any(snippet is None for snippet in record.snippets.values()) and not record.snippet_reason:
        yield "snippet_reason is empty, and there is no snippet"


def _of_mixers(model: Mapping[str, Any]) -> Iterator[str]:
    mixers = model.get("mixers")
    if isinstance(mixers, list | tuple) and len(mixers) != model["n_layers"]:
        yield f"model.mixers are {len(mixers)}, and model.n_layers is {model['n_layers']}"
