"""What one placement costs: what `evaluate_placement` gives back."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from layertracer._types import Interval
from layertracer._types.substitutes import Substitute
from layertracer.advice._records import Accuracy, Judgement

_WIDTH = 80


class TaskAccuracy(float):
    """Share of a task's prompts that the placed model solves, in [0, 1], with what belongs to it.

    Args:
        accuracy: The share with its interval, and the full model's.
        change: The share less the full model's on the same prompts.
        change_interval: Its interval, prompts being paired.
    """

    def __new__(cls, accuracy: Accuracy, change: float, change_interval: Interval) -> TaskAccuracy:
        """The share as a number."""
        made = super().__new__(cls, accuracy.share)
        made._accuracy, made._change, made._change_interval = accuracy, change, change_interval
        return made

    _accuracy: Accuracy
    _change: float
    _change_interval: Interval

    @property
    def share(self) -> float:
        """The share itself."""
        return self._accuracy.share

    @property
    def interval(self) -> Interval:
        """Its interval."""
        return self._accuracy.interval

    @property
    def full_share(self) -> float:
        """The full model's share on the same prompts."""
        return self._accuracy.full_share

    @property
    def n_prompts(self) -> int:
        """How many prompts."""
        return self._accuracy.n_prompts

    @property
    def kl_nats(self) -> float:
        """KL(full ‖ placed) at the answers' positions."""
        return self._accuracy.kl_nats

    @property
    def kl_interval(self) -> Interval | None:
        """Its interval, over prompts; None where there is one prompt alone."""
        return self._accuracy.kl_interval

    @property
    def change(self) -> float:
        """The share less the full model's."""
        return self._change

    @property
    def change_interval(self) -> Interval:
        """Its interval, prompts being paired."""
        return self._change_interval


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PlacementEvaluation:
    """What a placement costs on some rows.

    Attributes:
        model: Name of the model.
        n_layers: Its layers.
        substitute: What stands in the layers that are not kept.
        placeable: Layers whose mixers it could stand for.
        judgement: What it costs.
        accuracy: By task, the share solved, a number with `interval`, `full_share`, `n_prompts`, `kl_nats`, `change`
            (against the full model) and `change_interval`.
        audit_cells: How many cells, each a row under the placement, were measured again the plain way.
        audit_worst_nats: The largest difference that this found; NaN where none was.
        notes: What must be said: where text is from, what was left out.
    """

    model: str
    n_layers: int
    substitute: Substitute
    placeable: tuple[int, ...]
    judgement: Judgement
    accuracy: Mapping[str, TaskAccuracy]
    audit_cells: int
    audit_worst_nats: float
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[int, ...]:
        """Layers that keep their mixer, ascending."""
        return self.judgement.kept

    @property
    def kl_nats(self) -> float:
        """KL(full ‖ placed) of the text, mean over rows and over the positions of each; NaN without text."""
        return self.judgement.kl_nats

    @property
    def kl_interval(self) -> Interval | None:
        """Its interval, rows taken anew; None where there is one row alone, or none."""
        return self.judgement.kl_interval

    @property
    def nll_change(self) -> float:
        """Change of the text's own negative log-likelihood, in nats a token; NaN without text."""
        return self.judgement.nll_change

    @property
    def nll_interval(self) -> Interval | None:
        """Its interval, rows taken anew."""
        return self.judgement.nll_interval

    def __repr__(self) -> str:
        """The answer in lines of at most 80 characters."""
        return "\n".join(
            line for paragraph in self._said() for line in textwrap.wrap(paragraph, _WIDTH, subsequent_indent="  ")
        )

    def _said(self) -> list[str]:
        """What it costs, one paragraph each."""
        kept = ", ".join(map(str, self.kept)) or "none"
        n_placed, own = len(self.placeable) - len(self.kept), self.judgement
        what = f"{self.model}, {self.substitute.describe()} in {n_placed} of {self.n_layers} layers"
        said = [f"{what}; {len(self.kept)} of {len(self.placeable)} keep their mixer: {kept}"]
        if not math.isnan(own.kl_nats):
            rows = "1 row" if own.n_rows == 1 else f"{own.n_rows} rows"
            said.append(f"KL(full ‖ placed): {own.kl_nats:.4f} nats{_between(own.kl_interval)}")
            said.append(f"change of loss: {own.nll_change:+.4f} nats a token{_between(own.nll_interval)}")
            said.append(f"on {rows} of text, {own.n_positions} positions")
        for name, accuracy in self.accuracy.items():
            said.append(
                f"{name}: {accuracy.share:.0%} of {accuracy.n_prompts} prompts solved{_percent(accuracy.interval)}, "
                f"{accuracy.full_share:.0%} by the full model, KL {accuracy.kl_nats:.4f} nats at the answer"
            )
        return [*said, *self.notes]


def _between(interval: Interval | None) -> str:
    """An interval in words."""
    return "" if interval is None else f" ({interval.low:.4f} to {interval.high:.4f}, {interval.level:.0%})"


def _percent(interval: Interval) -> str:
    return f" ({interval.low:.0%} to {interval.high:.0%})"
