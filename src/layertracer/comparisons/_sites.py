"""Which perturbation of runs that have several is compared: the first one of the first run that all of them have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from layertracer._errors import UsageError
from layertracer.runs import EffectRecord, TraceRecord

FREE_PARTS = frozenset({"draws", "seed", "shape", "sha256"})
"""Parts of a perturbation that may differ: they change how exactly the same quantity is measured."""


def take_common(
    records: Sequence[TraceRecord], labels: Sequence[str], site: str | None
) -> tuple[list[TraceRecord], list[str]]:
    """The runs by one perturbation that all of them have, and what is said of their others.

    Where there is none, each is taken by its first one: what differs is said by who checks them.

    Args:
        records: The runs.
        labels: Their names.
        site: The site at which they are compared; None for any.

    Raises:
        UsageError: If a run has no perturbation at the site.
    """
    offers = [_offered(record, label, site) for record, label in zip(records, labels, strict=True)]
    found = [_alike(one, offers) for one in (offers[0] if offers else ())]
    common = next((one for one in found if one is not None), None)
    chosen = common or [offered[0] for offered in offers]
    taken = [_by(record, effect) for record, effect in zip(records, chosen, strict=True)]
    if common is None or all(len(record.effects) == 1 for record in records):
        return taken, []
    others = {
        label: [key for key in record.effects if key != effect.key]
        for record, label, effect in zip(records, labels, chosen, strict=True)
    }
    left = "; ".join(f"{', '.join(keys)} of {label}" for label, keys in others.items() if keys)
    why = "which was asked for" if site is not None else "the first perturbation of the first run that all have"
    return taken, [f"The runs are compared at {chosen[0].key}, {why}. Not compared: {left}."]


def _offered(record: TraceRecord, label: str, site: str | None) -> list[EffectRecord]:
    offered = [one for one in record.effects.values() if site in (None, one.site)]
    if not offered:
        raise UsageError(
            f"The run of {label} has no perturbation at the site {site!r}, only at {', '.join(record.effects)}. Give a "
            "site that all runs have (site=, command line: --site), or leave it out."
        )
    return offered


def _alike(one: EffectRecord, offers: Sequence[Sequence[EffectRecord]]) -> list[EffectRecord] | None:
    """The effect in each run that asks what one does, with its draws where it is there; None where a run has none."""
    found = []
    for offered in offers:
        same = [other for other in offered if _question(other) == _question(one)]
        if not same:
            return None
        found.append(min(same, key=lambda other: dict(other.perturbation) != dict(one.perturbation)))
    return found


def _question(effect: EffectRecord) -> dict[str, Any]:
    return {name: value for name, value in effect.perturbation.items() if name not in FREE_PARTS}


def _by(record: TraceRecord, effect: EffectRecord) -> TraceRecord:
    """The run as if this perturbation alone had been asked for; itself where it is its first one."""
    if effect.key == next(iter(record.effects)):
        return record
    spec = dataclasses.replace(record.spec, perturbation=effect.perturbation, further_perturbations=())
    return dataclasses.replace(
        record,
        spec=spec,
        js_bits=effect.js_bits,
        dominant_dimension=effect.dominant_dimension,
        dominant_ratio=effect.dominant_ratio,
        dominant_hit=effect.dominant_hit,
        effects={effect.key: effect},
    )
