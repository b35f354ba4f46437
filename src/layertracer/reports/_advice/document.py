"""What a design found, as JSON values and as a table of all its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from layertracer.advice import AdviceRecord, Judgement, Placement
from layertracer.reports._advice.overview import build_advice_overview
from layertracer.reports._advice.wording import in_order, kinds_of, standing_words
from layertracer.reports._values.documents import (
    csv_text,
    number_row,
    plain_fields,
    plain_interval,
    plain_values,
    write_whole,
)

CSV_COLUMNS = ("part", "name", "n_kept", "kept", "layer", "rows", "quantity", "value", "low", "high", "unit")
"""Columns of the table: one row a number."""


def advice_json(record: AdviceRecord) -> dict[str, Any]:
    """What a design found, as JSON values: no NaN, no array.

    Returns:
        A dictionary with the answer as a sentence, the model, what was asked, the advised placements with their costs,
        intervals and standing, baselines, published lists, single layers, ratio, divisions, gates, configurations to
        paste, what it rests on, and notes.
    """
    overview = build_advice_overview(record)
    return {
        "sentence": "".join(phrase.text for phrase in overview.sentence),
        "model": plain_values(dict(record.model)),
        "substitute": record.substitute.to_dict(),
        "search": record.search,
        "seed": record.seed,
        "placements": {str(n): _placement(one) for n, one in sorted(record.placements.items())},
        "baselines": {
            str(n): {
                name: {
                    "placements": plain_values(one.placements),
                    "objective": plain_values(one.objective),
                    "kl_nats": plain_values(one.kl_nats),
                    "percentile": plain_values(one.percentile),
                    "note": one.note,
                }
                for name, one in in_order(named)
            }
            for n, named in sorted(record.baselines.items())
        },
        "published": {str(n): [plain_fields(one) for one in some] for n, some in sorted(record.published.items())},
        "singles": plain_fields(record.singles),
        "ratio": None if record.ratio is None else _ratio(record),
        "divisions": None if record.divisions is None else plain_fields(record.divisions),
        "gates": None if record.gates is None else plain_fields(record.gates),
        "snippets": {
            str(n): None if one is None else plain_values(dict(one)) for n, one in sorted(record.snippets.items())
        },
        "snippet_reason": record.snippet_reason,
        "evaluations": plain_fields(record.evaluations),
        "notes": list(record.notes),
    }


def _placement(placement: Placement) -> dict[str, Any]:
    return {
        "layers": list(placement.layers),
        "placeable": list(placement.placeable),
        "chosen_by": placement.chosen_by,
        "judgement": None if placement.judgement is None else _judgement(placement.judgement),
        "objective": plain_values(placement.objective),
        "percentile": plain_values(placement.percentile),
        "percentile_interval": plain_interval(placement.percentile_interval),
        "n_random": placement.n_random,
        "verdict": placement.verdict,
        "standing": standing_words(placement),
        "below_best_nats": plain_values(placement.below_best_nats),
        "below_best_interval": plain_interval(placement.below_best_interval),
        "kv_cache_share": plain_values(placement.kv_cache_share),
        "notes": list(placement.notes),
    }


def _judgement(judgement: Judgement) -> dict[str, Any]:
    return {**plain_fields(judgement), "objective": plain_values(judgement.objective)}


def _ratio(record: AdviceRecord) -> dict[str, Any]:
    ratio = record.ratio
    assert ratio is not None  # asked for where there is one
    return {**plain_fields(ratio), "judgements": [_judgement(one) for one in ratio.judgements]}


def write_advice_csv(record: AdviceRecord, path: str | Path) -> Path:
    """A table of placements and single layers, one row a number.

    Args:
        record: The advice.
        path: Where to write; folders above it are made, and a file there is replaced whole.

    Returns:
        The path written.

    Raises:
        UsageError: If `path` is a folder.
    """
    return write_whole(lambda: csv_text(CSV_COLUMNS, advice_rows(record)), path)


def advice_rows(record: AdviceRecord) -> Iterator[dict[str, Any]]:
    """Every number of the placements, of the curve over the number kept, and of single layers."""
    for n_kept, placement in sorted(record.placements.items()):
        head = {"part": "placement", "name": "advised", "n_kept": n_kept, "kept": _listed(placement.layers)}
        yield from _standing_rows(placement, head)
        if placement.judgement is not None:
            yield from _judged_rows(placement.judgement, head)
    for n_kept, named in sorted(record.baselines.items()):
        for name, baseline in in_order(named):
            for kept, objective, kl in zip(baseline.placements, baseline.objective, baseline.kl_nats, strict=True):
                head = {"part": "placement", "name": name, "n_kept": n_kept, "kept": _listed(kept)}
                yield number_row(head, "objective", float(objective), "nats")
                yield number_row(head, "kl_nats", float(kl), "nats") | {"rows": "text"}
    for judgement in () if record.ratio is None else record.ratio.judgements:
        head = {"part": "ratio", "name": "", "n_kept": len(judgement.kept), "kept": _listed(judgement.kept)}
        yield from _judged_rows(judgement, head)
    yield from _single_rows(record)


def _listed(layers: tuple[int, ...]) -> str:
    return " ".join(map(str, layers))


def _standing_rows(placement: Placement, head: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield number_row(head, "objective", placement.objective, "nats")
    yield number_row(head, "percentile", placement.percentile, "percent", placement.percentile_interval)
    yield number_row(head, "below_best_nats", placement.below_best_nats, "nats", placement.below_best_interval)
    yield number_row(head, "kv_cache_share", placement.kv_cache_share, "share")


def _judged_rows(judgement: Judgement, head: dict[str, Any]) -> Iterator[dict[str, Any]]:
    text = {**head, "rows": "text"}
    yield number_row(text, "kl_nats", judgement.kl_nats, "nats", judgement.kl_interval)
    yield number_row(text, "nll_change", judgement.nll_change, "nats", judgement.nll_interval)
    for task, found in sorted(judgement.accuracy.items()):
        of_task = {**head, "rows": task}
        yield number_row(of_task, "solved", found.share, "share", found.interval)
        yield number_row(of_task, "solved_full", found.full_share, "share")
        yield number_row(of_task, "kl_nats", found.kl_nats, "nats", found.kl_interval)


def _single_rows(record: AdviceRecord) -> Iterator[dict[str, Any]]:
    singles = record.singles
    measured = (
        ("removed_kl_nats", singles.removed_kl_nats, "nats"),
        ("restored_kl_nats", singles.restored_kl_nats, "nats"),
        ("removed_solved", singles.removed_accuracy, "share"),
        ("restored_solved", singles.restored_accuracy, "share"),
    )
    for quantity, by_kind, unit in measured:
        for kind in (kind for kind in kinds_of(record) if kind in by_kind):
            for layer, value in zip(singles.layers, by_kind[kind], strict=True):
                yield number_row({"part": "single", "layer": layer, "rows": kind}, quantity, float(value), unit)
    if singles.joint_js is not None:
        for layer, value in zip(singles.layers, singles.joint_js, strict=True):
            yield number_row({"part": "single", "layer": layer}, "joint_js", float(value), "ratio")
