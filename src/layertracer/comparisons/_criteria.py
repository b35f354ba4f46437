"""The onset criteria and the lenses through which task particles are looked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layertracer._errors import LayerTracerError
from layertracer.comparisons._settings import ComparisonSettings
from layertracer.measures import ONSET_NAMES, OnsetCriterion, TargetCurves, onset_from_dict, onset_from_name
from layertracer.runs import TraceRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One way to find a task particle: a criterion applied to what one lens reads."""

    lens: str
    name: str
    criterion: OnsetCriterion
    is_headline: bool


def lens_curves(record: TraceRecord) -> Mapping[str, TargetCurves]:
    """The target's curves through every lens that a run holds."""
    return {"logit": record.curves}


def list_readings(
    records: Sequence[TraceRecord], settings: ComparisonSettings
) -> tuple[tuple[Reading, ...], list[str]]:
    """Every lens that all runs hold with every criterion, that of the headline first; and warnings."""
    warnings: list[str] = []
    own: dict[str, OnsetCriterion] = {}
    for record in records:
        try:
            criterion = onset_from_dict(record.spec.onset)
        except LayerTracerError as error:
            warnings.append(f"A run used an onset criterion that is unknown here, which is left out: {error}")
            continue
        own.setdefault(name_criterion(criterion), criterion)
    wanted = {name_criterion(one): one for one in settings.onsets} if settings.onsets is not None else None
    if wanted is None:
        wanted = own | {name: onset_from_name(name) for name in ONSET_NAMES if name not in own}
    headline = next(iter(wanted))
    lenses = [lens for lens in lens_curves(records[0]) if all(lens in lens_curves(one) for one in records[1:])]
    readings = tuple(
        Reading(lens=lens, name=name, criterion=criterion, is_headline=name == headline)
        for lens in lenses
        for name, criterion in wanted.items()
    )
    return readings, warnings


def name_criterion(criterion: OnsetCriterion) -> str:
    """A criterion's name, with the parameters that are not at their defaults.

    Example:
        >>> name_criterion(onset_from_name("rise")), name_criterion(onset_from_name("rise", delta=0.03))
        ('rise', 'rise(delta=0.03)')
    """
    spec = criterion.to_dict()
    kind = str(spec.get("kind", type(criterion).__name__))
    usual = onset_from_name(kind).to_dict() if kind in ONSET_NAMES else {}
    changed = [f"{name}={value}" for name, value in spec.items() if name != "kind" and usual.get(name) != value]
    return f"{kind}({', '.join(changed)})" if changed else kind
