"""Evidence that can save itself, write its report, and give its agreement as a data frame."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layertracer.api._taken import take_choice, take_path
from layertracer.evidence import Agreement, EvidenceRecord, read_evidence, same_evidence, save_evidence

if TYPE_CHECKING:
    import pandas as pd

_VALUES = ("value", "low", "high", "p", "p_holm", "n_units")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evidence(EvidenceRecord):
    """Whether a task particle and a vulnerable layer are real, question by question.

    See `EvidenceRecord` for everything in it. In short: `verdicts` (each question with its answer), `particles` (by
    lens and criterion), `effects` (JS by site), `importance`, `causal`, `agreements`, `controls`, `doses`, `variance`,
    `prompts_needed`, `lenses`, `probes`.
    """

    @classmethod
    def from_record(cls, record: EvidenceRecord) -> Evidence:
        """The same evidence, with `save`, `report` and `to_pandas`."""
        return cls(**{field.name: getattr(record, field.name) for field in dataclasses.fields(EvidenceRecord)})

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Save the evidence as a folder, whole or not at all.

        Args:
            path: The folder to make.
            overwrite: Whether evidence that lies there is replaced.

        Returns:
            The folder.

        Raises:
            RunError: If something lies at `path` that may not be replaced, or the disk refuses.
        """
        return save_evidence(self, take_path("path", path), overwrite=overwrite)

    def report(self, path: str | Path) -> Path:
        """Write the report: one HTML file that needs nothing else.

        Args:
            path: The file to write; one that is there is replaced.

        Returns:
            The file.

        Raises:
            UsageError: If `path` is a folder, or no path.
        """
        from layertracer.reports import write_evidence_report

        return write_evidence_report(self, take_path("path", path))

    def to_pandas(self, value: str = "value") -> pd.DataFrame:
        """The matrix of agreement: what was compared down (by family and method), with what across.

        Args:
            value: "value" for the correlation, "low" or "high" for its interval's ends, "p", "p_holm" (after Holm's
                correction), or "n_units".

        Returns:
            A data frame; NaN where two were not compared, or nothing is defined.

        Raises:
            UnknownNameError: If there is no such value.
        """
        import pandas as pd

        asked = take_choice("value", value, _VALUES)
        index = sorted({(one.family, one.method, one.one) for one in self.agreements})
        columns = list(dict.fromkeys(one.other for one in self.agreements))
        levels = [[row[level] for row in index] for level in range(3)]
        rows = pd.MultiIndex.from_arrays(levels, names=["family", "method", "one"])
        cells = np.full((len(index), len(columns)), np.nan)
        for one in self.agreements:
            cells[index.index((one.family, one.method, one.one)), columns.index(one.other)] = _cell(one, asked)
        return pd.DataFrame(cells, index=rows, columns=pd.Index(columns, name="other", dtype="str"))

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same evidence: arrays element by element, NaN equal to NaN."""
        return same_evidence(self, other) if isinstance(other, EvidenceRecord) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # what is equal by its arrays has no hash

    def __repr__(self) -> str:
        """The answers in lines."""
        quick = ", the short form" if self.quick else ""
        lines = [f"Evidence on {self.model['name']}, {self.n_prompts} prompts of {self._task}{quick}:"]
        lines += [f"  {one.answer}: {one.asked} {one.sentence}" for one in self.verdicts]
        return "\n".join(lines)

    @property
    def _task(self) -> str:
        return str(self.task.get("name", "a task"))


def _cell(agreement: Agreement, value: str) -> float:
    if value in ("low", "high"):
        found: Any = None if agreement.interval is None else getattr(agreement.interval, value)
    else:
        found = getattr(agreement, value)
    return float("nan") if found is None else float(found)


def load_evidence(path: str | Path) -> Evidence:
    """Evidence out of a folder; needs no torch.

    Args:
        path: The folder, or the file `evidence.json` in it.

    Raises:
        RunError: If there is none at `path`.
        DamagedRunError: If a file is missing, cut short or altered, or holds what cannot be; the message names it.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    return Evidence.from_record(read_evidence(take_path("path", path)))
