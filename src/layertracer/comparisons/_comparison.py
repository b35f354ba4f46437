"""Models compared, on the same prompts and at the same relative depth."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from layertracer._errors import UsageError
from layertracer.comparisons._cells import without_formula
from layertracer.comparisons._kinds import contrast_mixers
from layertracer.comparisons._labels import check_labels, make_labels
from layertracer.comparisons._models import summarize_model
from layertracer.comparisons._pairs import compare_pair
from layertracer.comparisons._prepared_runs import Lineup, line_up
from layertracer.comparisons._results import (
    MixerContrast,
    ModelSummary,
    PairDifference,
    ScalingTrend,
    Verdict,
    plain,
)
from layertracer.comparisons._scaling import find_trends
from layertracer.comparisons._settings import ComparisonSettings
from layertracer.comparisons._tidy_table import build_frame
from layertracer.comparisons._verdicts import judge_depth, judge_robustness
from layertracer.runs import TraceRecord, TraceSpec, write_file

if TYPE_CHECKING:
    import pandas as pd
else:  # under test, annotations are looked up when a function is called
    pd = Any


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ModelComparison:
    """Models compared.

    Attributes:
        spec: What all runs asked.
        settings: How they were compared.
        grid: Relative depths of all profiles, ascending, shape [depth].
        n_shared: Prompts that all runs have.
        models: Every model, in the order given.
        pairs: Every pair of models, second minus first.
        trends: Trends over the number of parameters.
        mixers: Kinds of mixers inside hybrids, at equal depth.
        verdicts: What the data say of each claim; headlines first within a claim.
        warnings: What a reader must know about the numbers.
    """

    spec: TraceSpec
    settings: ComparisonSettings
    grid: Float[np.ndarray, " depth"]
    n_shared: int
    models: tuple[ModelSummary, ...]
    pairs: tuple[PairDifference, ...]
    trends: tuple[ScalingTrend, ...]
    mixers: tuple[MixerContrast, ...]
    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        """The comparison in one line."""
        names = ", ".join(model.label for model in self.models)
        return f"<{type(self).__name__} of {names} on {self.spec.task.get('name', 'prompts')!r}>"

    def verdict(self, claim: str) -> Verdict:
        """The headline on a claim: "deep_particles" or "larger_is_more_robust".

        Raises:
            UsageError: If there is no such claim.
        """
        for one in self.verdicts:
            if one.claim == claim and one.is_headline:
                return one
        known = ", ".join(dict.fromkeys(one.claim for one in self.verdicts))
        raise UsageError(f"There is no claim {claim!r}. Known claims: {known}.")

    def pair(self, first: str, second: str) -> PairDifference:
        """The comparison of two models by their labels, in the order in which the runs were given.

        Raises:
            UsageError: If there is no such pair.
        """
        for one in self.pairs:
            if (one.first, one.second) == (first, second):
                return one
        known = ", ".join(f"({one.first!r}, {one.second!r})" for one in self.pairs)
        raise UsageError(f"There is no pair ({first!r}, {second!r}). Known pairs: {known}.")

    def to_frame(self) -> pd.DataFrame:
        """All numbers in one tidy table, one row a number.

        Returns:
            Columns `part` ("model", "profile", "difference", "difference_profile", "trend", "mixer", "headline",
            "verdict"), `model`, `other` (a difference is `model` minus `other`), `quantity`, `lens`, `criterion`,
            `depth` (of a profile), `value`, `low`, `high`, `level` (of the interval), `unit`, `p_value`, `n_prompts`,
            `n_models`, `method` ("paired", "unpaired", an outcome, …), `note`.
        """
        return build_frame(
            models=self.models,
            pairs=self.pairs,
            trends=self.trends,
            mixers=self.mixers,
            verdicts=self.verdicts,
            level=self.settings.level,
        )

    def to_csv(self, path: str | Path) -> Path:
        """Write that table as CSV.

        A text that a spreadsheet would run as a formula (one that begins with =, +, -, @, a tab or a carriage return,
        and is no number) gets an apostrophe in front.

        Raises:
            UsageError: If `path` is a folder.
        """
        target = Path(path)
        if target.is_dir():
            raise UsageError(f"Cannot write the table to {str(target)!r}: it is a folder. Give a file name.")
        frame = self.to_frame()
        texts = [name for name in frame.columns if frame[name].dtype.kind not in "biuf"]
        safe = frame.assign(**{name: frame[name].map(without_formula) for name in texts})
        write_file(target, safe.to_csv(index=False).encode("utf-8"))
        return target

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values: arrays are lists, and what is missing is None."""
        onsets = self.settings.onsets
        return {
            "question": {
                "task": plain(self.spec.task),
                "perturbation": plain(self.spec.perturbation),
                "target": self.spec.target,
                "target_tokens": self.spec.target_tokens,
            },
            "settings": plain(_settings_values(self.settings))
            | {"onsets": None if onsets is None else [plain(one.to_dict()) for one in onsets]},
            "grid": plain(self.grid),
            "n_shared": self.n_shared,
            "models": plain(self.models),
            "pairs": plain(self.pairs),
            "trends": plain(self.trends),
            "mixers": plain(self.mixers),
            "verdicts": plain(self.verdicts),
            "warnings": list(self.warnings),
        }


def _settings_values(settings: ComparisonSettings) -> Mapping[str, Any]:
    return {
        field.name: getattr(settings, field.name) for field in dataclasses.fields(settings) if field.name != "onsets"
    }


def compare_records(
    records: Sequence[TraceRecord],
    *,
    labels: Sequence[str] | None = None,
    sources: Sequence[str | None] | None = None,
    settings: ComparisonSettings | None = None,
) -> ModelComparison:
    """Compare traces of several models on one task.

    Laws: a run compared with itself has differences of exactly 0; turning a pair around turns its differences around;
    neither the order of the runs nor that of the prompts changes a number; equal seeds give equal numbers.

    Args:
        records: Two traces or more.
        labels: Names of the models; None to make them from the models' names.
        sources: Names of the folders that the runs come from, to tell models of one name apart.
        settings: How to compare.

    Raises:
        UsageError: If there are fewer than two runs, one cannot be used, or they ask different questions; the message
            says what differs.
    """
    chosen = settings or ComparisonSettings()
    named = (
        make_labels([record.model.name for record in records], sources or [None] * len(records))
        if labels is None
        else check_labels(labels, len(records))
    )
    return _compare(line_up(records, named, chosen))


def _compare(lineup: Lineup) -> ModelComparison:
    settings, spec = lineup.settings, lineup.records[0].spec
    everyone = range(lineup.n_models)
    models = tuple(summarize_model(lineup, model) for model in everyone)
    trends = find_trends(lineup)
    verdicts = (
        *judge_depth(models, settings, follows_answer=spec.target == "answer"),
        *judge_robustness(models, trends, settings),
    )
    return ModelComparison(
        spec=spec,
        settings=settings,
        grid=lineup.grid,
        n_shared=len(set(lineup.keys[0]).intersection(*lineup.keys[1:])),
        models=models,
        pairs=tuple(compare_pair(lineup, i, j) for i, j in itertools.combinations(everyone, 2)),
        trends=trends,
        mixers=contrast_mixers([lineup.store.draw(model) for model in everyone], lineup.labels, settings),
        verdicts=tuple(sorted(verdicts, key=lambda one: (one.claim, not one.is_headline))),
        warnings=lineup.warnings + _warn_unpaired(lineup),
    )


def _warn_unpaired(lineup: Lineup) -> tuple[str, ...]:
    """Which comparisons are not over the same prompts."""
    min_shared = lineup.settings.min_shared
    counts = [
        (lineup.labels[i], lineup.labels[j], len(set(lineup.keys[i]) & set(lineup.keys[j])))
        for i, j in itertools.combinations(range(lineup.n_models), 2)
    ]
    few = [(first, second, n) for first, second, n in counts if n < min_shared]
    n_all = len(set(lineup.keys[0]).intersection(*lineup.keys[1:]))
    if not few:
        return (_unpaired_trends(n_all),) if n_all < min_shared else ()
    first, second, n = few[0]
    which = f"{first} and {second} share {n} prompts" + (f", and {len(few) - 1} more pairs few" if few[1:] else "")
    text = (
        f"{which}, fewer than {min_shared}: their differences are unpaired, each model over its own "
        "prompts, and are also differences of prompts."
    )
    return (text, _unpaired_trends(n_all))


def _unpaired_trends(n_shared: int) -> str:
    return f"All runs together share {n_shared} prompts: for trends each model is resampled over its own prompts."
