"""A comparison that can write its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layertracer._errors import UnknownNameError, UsageError
from layertracer.comparisons import ComparisonSettings, ModelComparison, compare_records
from layertracer.runs import HEADER_FILE, TraceRecord, read_run


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

        return write_comparison_report(self, path)


def compare(
    traces: Sequence[TraceRecord | str | Path],
    *,
    labels: Sequence[str] | None = None,
    settings: ComparisonSettings | None = None,
    **changes: Any,
) -> Comparison:
    """Compare models on one task: where it starts, where they break, and what that says of the two claims.

    The claims: task particles lie deep, whatever the size and the mixer; larger models are more robust. Needs no torch.

    Laws: a run compared with itself has differences of exactly 0; neither the order of the runs nor that of their
    prompts changes a number; equal seeds give equal numbers.

    Args:
        traces: Two or more, as `Trace`, or as paths of run folders (or of the `run.json` in them).
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
    if isinstance(traces, (str, Path)):
        raise UsageError(f"compare needs a list of runs, got the one path {str(traces)!r}. Give two runs or more.")
    known = [field.name for field in dataclasses.fields(ComparisonSettings)]
    for name in changes:
        if name not in known:
            raise UnknownNameError.among("setting of a comparison", name, known)
    chosen = dataclasses.replace(settings or ComparisonSettings(), **changes)
    folders = [None if isinstance(trace, TraceRecord) else _run_folder(trace) for trace in traces]
    records = [trace if isinstance(trace, TraceRecord) else read_run(_run_folder(trace)) for trace in traces]
    sources = [None if folder is None else folder.name for folder in folders]
    return Comparison.from_comparison(compare_records(records, labels=labels, sources=sources, settings=chosen))


def _run_folder(path: str | Path) -> Path:
    """The folder of a run, given by itself or by its `run.json`."""
    folder = Path(path).expanduser()
    return folder.parent if folder.name == HEADER_FILE else folder
