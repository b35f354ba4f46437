"""A comparison that can write its report."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from layertracer._errors import UnknownNameError, UsageError
from layertracer.api._taken import refused, run_folder, take_path
from layertracer.comparisons import ComparisonSettings, ModelComparison, compare_records
from layertracer.runs import TraceRecord, read_run

if TYPE_CHECKING:
    RunLike: TypeAlias = TraceRecord | str | Path
    RunsLike: TypeAlias = Iterable[RunLike] | Mapping[str, RunLike] | RunLike
else:  # under test, annotations are looked up when a function is called: what is none of these has an error of ours
    RunLike = RunsLike = Any


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Comparison(ModelComparison):
    """Models compared, on the same prompts and at the same relative depth.

    See `ModelComparison` for what it holds. In short: `models` (each on relative depth, with intervals), `pairs`
    (differences, paired over shared prompts), `trends` (over the number of parameters), `mixers` (kinds inside
    hybrids), `verdicts` on the two claims, `warnings`.
    """

    @classmethod
    def from_comparison(cls, comparison: ModelComparison) -> Comparison:
        """The same comparison, with `report`."""
        names = [field.name for field in dataclasses.fields(ModelComparison)]
        return cls(**{name: getattr(comparison, name) for name in names})

    def report(self, path: str | Path) -> Path:
        """Write the report: one HTML file that needs nothing else.

        Args:
            path: The file to write; one that is there is replaced.

        Returns:
            The file.

        Raises:
            UsageError: If `path` is a folder.
        """
        from layertracer.reports import write_comparison_report

        return write_comparison_report(self, take_path("path", path))


def compare(
    traces: RunsLike,
    *more: RunLike,
    labels: Sequence[str] | None = None,
    settings: ComparisonSettings | None = None,
    **changes: Any,
) -> Comparison:
    """Compare models on one task: where it starts, where they break, and what that says of the two claims.

    The claims: task particles lie deep, whatever the size and the mixer; larger models are more robust. Needs no torch.

    Runs of several perturbations are compared by the first one of the first run that all of them have, or at `site=`; a
    warning says which.

    Laws: a run compared with itself has differences of exactly 0; neither the order of the runs (but for that choice)
    nor that of their prompts changes a number; equal seeds give equal numbers.

    Args:
        traces: Two or more, as `Trace`, or as paths of run folders (or of the `run.json` in them). A dictionary holds
            them by the names of their models.
        *more: Further ones: `compare(one, other)` is `compare([one, other])`.
        labels: Names of the models, in the same order; None to make them from the models' names.
        settings: How to compare.
        **changes: Single settings by name, e.g. `deep_depth=0.6`, `families="one"`, `prompts="solved"`; see
            `ComparisonSettings`.

    Raises:
        UsageError: If there are fewer than two runs, one cannot be used, they ask different questions, or a setting is
            out of range; the message says what differs.
        UnknownNameError: If there is no such setting.
        RunError: If there is no run at a path, or it cannot be read.

    Example:
        >>> import layertracer as lt
        >>> comparison = lt.compare(["runs/small", "runs/large"])  # doctest: +SKIP
        >>> comparison.pairs[0].differences[0].value  # doctest: +SKIP
    """
    runs, names = _take_runs(traces, more)
    if settings is not None and not isinstance(settings, ComparisonSettings):
        raise refused("settings", settings, "Give ComparisonSettings(…), or single settings by their names.")
    known = [field.name for field in dataclasses.fields(ComparisonSettings)]
    for name in changes:
        if name not in known:
            raise UnknownNameError.among("setting of a comparison", name, known)
    chosen = dataclasses.replace(settings or ComparisonSettings(), **changes)
    folders = [None if isinstance(run, TraceRecord) else run_folder(run) for run in runs]
    records = [run if isinstance(run, TraceRecord) else read_run(run_folder(run)) for run in runs]
    sources = [None if folder is None else folder.name for folder in folders]
    labels = names if labels is None else _take_labels(labels)
    return Comparison.from_comparison(compare_records(records, labels=labels, sources=sources, settings=chosen))


def _take_labels(given: object) -> list[str]:
    """Names of models.

    Raises:
        UsageError: If they are no list of names.
    """
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        labels = list(given)
        if all(isinstance(label, str) for label in labels):
            return labels
    raise refused("labels", given, "Give a list of names, one for each run in order.")


def _take_runs(given: object, more: Sequence[object]) -> tuple[list[Any], list[str] | None]:
    """The runs, and the names of their models where they are given by them.

    Raises:
        UsageError: If there is one alone, or something is no run.
    """
    if isinstance(given, Mapping) and not more:
        runs, names = list(given.values()), [str(name) for name in given]
    elif isinstance(given, TraceRecord | str | os.PathLike) or more:
        runs, names = [given, *more], None
    elif isinstance(given, Iterable):
        runs, names = list(given), None
    else:
        raise refused("traces", given, "Give a list of runs: traces, or the folders of stored ones.")
    if len(runs) == 1 and not isinstance(given, Mapping | list | tuple):
        what = f"the one trace {runs[0]!r}" if isinstance(runs[0], TraceRecord) else f"the one path {str(runs[0])!r}"
        raise UsageError(f"compare needs a list of runs, got {what}. Give two runs or more.")
    for number, run in enumerate(runs):
        if not isinstance(run, TraceRecord | str | os.PathLike):
            raise refused(f"traces[{number}]", run, "Give a trace, or the folder of a stored one.")
    return runs, names
