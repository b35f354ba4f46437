"""Design advice that can save itself, write its report, and give what is pasted into a configuration."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layertracer._errors import SiteError, UsageError
from layertracer.advice import AdviceRecord, read_advice, same_advice, save_advice
from layertracer.api._taken import take_choice, take_path


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Advice(AdviceRecord):
    """Which layers of a model should keep their mixers, at what cost, and how sure that is.

    See `AdviceRecord` for everything in it. In short: `singles` (single layers, both directions), `placements` by the
    number of layers kept (`.layers`, `.kl_nats`, `.accuracy`, `.percentile`, `.verdict`), `baselines` by that number
    and by name, `published`, `ratio`, `divisions`, `gates`, `evaluations`.
    """

    @classmethod
    def from_record(cls, record: AdviceRecord) -> Advice:
        """The same advice, with `save`, `report` and `config_snippet`."""
        return cls(**{field.name: getattr(record, field.name) for field in dataclasses.fields(AdviceRecord)})

    def config_snippet(self, n_kept: int, *, library: str = "transformers") -> dict[str, Any] | None:
        """What is pasted into a configuration to place the substitutes.

        Args:
            n_kept: How many layers are kept.
            library: "transformers" for windows in the model as it is; "flash-linear-attention" for the hybrid that is
                to be trained, with attention in the layers kept and that library's mixers elsewhere.

        Returns:
            The settings; None where no configuration says the same: `snippet_reason` says why.

        Raises:
            UsageError: If nothing was advised for that number.
        """
        if n_kept not in self.placements:
            raise UsageError(
                f"Nothing was advised for {n_kept} layers kept, but for {', '.join(map(str, self.placements))}. Ask "
                f"for it: keep=({n_kept},)."
            )
        if take_choice("library", library, ("transformers", "flash-linear-attention")) != "transformers":
            linear = self.placements[n_kept].linear_config
            if linear is None:
                raise SiteError(
                    "There is nothing to paste: the model's configuration does not say how many heads it has, or they "
                    "are not of width / heads dimensions, as that library's are."
                )
            return dict(linear)
        snippet = self.snippets.get(n_kept)
        return None if snippet is None else dict(snippet)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Save the advice as a folder, whole or not at all.

        Args:
            path: The folder to make.
            overwrite: Whether advice that lies there is replaced.

        Returns:
            The folder.

        Raises:
            RunError: If something lies at `path` that may not be replaced, or the disk refuses.
        """
        return save_advice(self, take_path("path", path), overwrite=overwrite)

    def report(self, path: str | Path) -> Path:
        """Write the report: one HTML file that needs nothing else.

        Args:
            path: The file to write; one that is there is replaced.

        Returns:
            The file.

        Raises:
            UsageError: If `path` is a folder, or no path.
        """
        from layertracer.reports import write_advice_report

        return write_advice_report(self, take_path("path", path))

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same advice: arrays element by element, NaN equal to NaN."""
        return same_advice(self, other) if isinstance(other, AdviceRecord) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # what is equal by its arrays has no hash

    def __repr__(self) -> str:
        """The answer in lines."""
        lines = [f"Advice for {self.model['name']}, {self.substitute.describe()} in the layers not kept:"]
        for n_kept, placement in self.placements.items():
            layers = ", ".join(map(str, placement.layers))
            cost = f"objective {placement.objective:.3g} nats"
            standing = (
                ""
                if placement.percentile is None
                else f", percentile {placement.percentile:.3g} of {placement.n_random} others: {placement.verdict}"
            )
            lines.append(f"  keep {n_kept}: layers {layers} ({cost}{standing})")
        return "\n".join(lines)


def load_advice(path: str | Path) -> Advice:
    """Design advice out of a folder; needs no torch.

    Args:
        path: The folder, or the file `advice.json` in it.

    Raises:
        RunError: If there is none at `path`.
        DamagedRunError: If a file is missing, cut short or altered, or holds what cannot be; the message names it.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    return Advice.from_record(read_advice(take_path("path", path)))
