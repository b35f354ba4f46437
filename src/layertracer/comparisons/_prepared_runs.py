"""The runs of a comparison, made ready: checked, in order, named, and with everything that all parts need."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from layertracer._errors import UsageError
from layertracer.comparisons._checks import check_comparable
from layertracer.comparisons._criteria import Reading, list_readings
from layertracer.comparisons._identity import Identity, identify_models
from layertracer.comparisons._prompts import PromptKey, finite_rows, prompt_keys, put_in_order
from layertracer.comparisons._sample import SampleStore
from layertracer.comparisons._settings import ComparisonSettings
from layertracer.comparisons._sites import take_common
from layertracer.measures import relative_depth
from layertracer.runs import TraceRecord

_DEFAULT_GRID = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lineup:
    """The models of a comparison.

    Attributes:
        records: Their traces, prompts sorted by what they are.
        labels: Their names.
        families: Their families.
        keys: What identifies every prompt.
        identities: What tells different models apart.
        ranks: Place of every model in an order that does not depend on how they were given.
        readings: Criteria and lenses.
        grid: Relative depths of profiles.
        store: Resampled numbers.
        settings: How models are compared.
        warnings: What a reader must know.
    """

    records: tuple[TraceRecord, ...]
    labels: tuple[str, ...]
    families: tuple[str, ...]
    keys: tuple[tuple[PromptKey, ...], ...]
    identities: tuple[Identity, ...]
    ranks: tuple[int, ...]
    readings: tuple[Reading, ...]
    grid: Float[np.ndarray, " depth"]
    store: SampleStore
    settings: ComparisonSettings
    warnings: tuple[str, ...]

    @property
    def n_models(self) -> int:
        """Number of models."""
        return len(self.records)


def line_up(records: Sequence[TraceRecord], labels: tuple[str, ...], settings: ComparisonSettings) -> Lineup:
    """Check the runs and make them ready.

    Raises:
        UsageError: If they cannot be compared; the message says why.
    """
    taken, notes = take_common(records, labels, settings.site)
    warnings = notes + check_comparable(taken, labels, settings)
    chosen = []
    for record, label in zip(taken, labels, strict=True):
        usable, notes = _choose_prompts(record, label, settings)
        chosen.append(put_in_order(usable))
        warnings += notes
    readings, notes = list_readings(chosen, settings)
    return Lineup(
        records=tuple(chosen),
        labels=labels,
        families=_name_families(chosen, settings),
        keys=tuple(prompt_keys(record) for record in chosen),
        identities=identify_models(chosen),
        ranks=_rank(chosen),
        readings=readings,
        grid=_choose_grid(chosen, settings),
        store=SampleStore(chosen, settings),
        settings=settings,
        warnings=(*warnings, *notes),
    )


def _choose_prompts(record: TraceRecord, label: str, settings: ComparisonSettings) -> tuple[TraceRecord, list[str]]:
    """The prompts that count, and what is said of the others."""
    warnings = []
    rows = finite_rows(record)
    if not rows:
        raise UsageError(
            f"The run of {label} has no prompt whose numbers are all finite, so there is nothing to compare. Trace it "
            "again in float32."
        )
    if len(rows) < record.n_prompts:
        warnings.append(
            f"{label}: {record.n_prompts - len(rows)} of {record.n_prompts} prompts hold NaN and are left out."
        )
    usable = record.select(rows)
    if settings.prompts == "solved":
        usable = usable.solved_only()
        if usable.n_prompts == 0:
            raise UsageError(
                f"The run of {label} has no solved prompt, so nothing is left of it. Compare all prompts "
                "(prompts='all'; command line: without --solved), or leave it out."
            )
    if usable.n_prompts < settings.min_prompts:
        warnings.append(
            f"{label} has {usable.n_prompts} prompts, fewer than {settings.min_prompts}: its intervals say little, and "
            "it does not count in a verdict."
        )
    n_missing = len(usable.layers_without_site)
    if n_missing == usable.n_layers:
        warnings.append(f"{label} has the perturbed site in no layer: it has no JS divergence to compare.")
    elif n_missing:
        warnings.append(
            f"{label} lacks the perturbed site in {n_missing} of {usable.n_layers} layers: they are left out."
        )
    return usable, warnings


def _choose_grid(records: Sequence[TraceRecord], settings: ComparisonSettings) -> Float[np.ndarray, " depth"]:
    sizes = {record.n_layers for record in records}
    return relative_depth(settings.n_grid or (sizes.pop() if len(sizes) == 1 else _DEFAULT_GRID))


def _name_families(records: Sequence[TraceRecord], settings: ComparisonSettings) -> tuple[str, ...]:
    if settings.families == "one":
        return ("all models",) * len(records)
    if settings.families == "mixers":
        return tuple(_mixer_family(record) for record in records)
    if len(settings.families) != len(records):
        raise UsageError(
            f"families names {len(settings.families)} families ({', '.join(settings.families)}) for {len(records)} "
            "runs. Give one name for each run, in the same order."
        )
    return tuple(settings.families)


def _mixer_family(record: TraceRecord) -> str:
    kinds = sorted({layer.mixer for layer in record.model.layers})
    return " + ".join([kind for kind in kinds if kind != "none"] or kinds)


def _rank(records: Sequence[TraceRecord]) -> tuple[int, ...]:
    """Places by size, name and content."""

    def describe(record: TraceRecord) -> tuple[int, int, str, str, str]:
        model = record.model
        numbers = hashlib.sha256(record.js_bits.tobytes() + record.target_log_prob.tobytes()).hexdigest()
        return model.n_parameters, record.n_layers, model.name, model.fingerprint, numbers

    described = [describe(record) for record in records]
    order = sorted(range(len(records)), key=lambda model: described[model])
    ranks = [0] * len(records)
    for rank, model in enumerate(order):
        ranks[model] = rank
    return tuple(ranks)
