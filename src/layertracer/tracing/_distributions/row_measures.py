"""What is measured of a perturbed row: numbers of its next-token distribution beside the clean one's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layertracer._types.measures import KNOWN_ROWS, MeasureInfo
from layertracer._types.registries import Registrations
from layertracer.tracing._distributions.log_softmax import LOWEST_LOG_PROB
from layertracer.tracing._failures import telling_whose
from layertracer.tracing._measure_names import register_measure


class FollowedRows(NamedTuple):
    """The tokens that are followed in some rows.

    Attributes:
        targets: One for each row, [*row].
        others: Further ones, each as good, [*row, other]; −1 where there is none; None without any.
    """

    targets: Tensor
    others: Tensor | None = None

    @property
    def tokens(self) -> Int[Tensor, "*row token"]:
        """All of them; −1 where there is none."""
        one = self.targets[..., None]
        return one if self.others is None else torch.cat([one, self.others], dim=-1)

    def flattened(self) -> FollowedRows:
        """Those of rows [prompt, read] as those of rows [prompt × read]."""
        return FollowedRows(self.targets.flatten(), None if self.others is None else self.others.flatten(0, -2))


@dataclass(frozen=True, slots=True, kw_only=True)
class PerturbedRows:
    """Some perturbed rows, as distributions.

    Attributes:
        log_probs: Log-probabilities in float32, nats, [*row, d_vocab]; where `logits` is not None, those far below
            −45 are raised to about that.
        log_clean: Those of the clean rows, which may be one for several perturbed ones.
        tokens: Tokens that are followed, [*row, token]; −1 where there is none.
        logits: What `log_probs` were made of; None where they are exact.
    """

    log_probs: Tensor
    log_clean: Tensor
    tokens: Tensor
    logits: Tensor | None = None

    def target_log_probs(self) -> Float[Tensor, "*row token"]:
        """Log-probabilities of the tokens that are followed, −∞ where there is none; exact however low."""
        tokens = self.tokens.clamp(min=0).expand(*self.log_probs.shape[:-1], -1)
        found = self.log_probs.gather(-1, tokens)
        if self.logits is not None:
            found = _unfloored(found, self.logits, tokens)
        return found.masked_fill(self.tokens < 0, -torch.inf)


def _unfloored(found: Tensor, logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities of tokens without what the floor has added to them.

    On a CPU it costs less to see first whether it has added anything; elsewhere that would wait for the device.
    """
    if found.device.type == "cpu" and not bool((found <= LOWEST_LOG_PROB).any()):
        return found
    below_top = logits.gather(-1, tokens).float() - logits.amax(dim=-1, keepdim=True).float()
    return found + (below_top - LOWEST_LOG_PROB).clamp(max=0)


@runtime_checkable
class RowMeasure(Protocol):
    """A number of a perturbed row."""

    @property
    def info(self) -> MeasureInfo:
        """What it is called, its unit, and what it means."""

    @property
    def over_positions(self) -> Literal["mean", "sum"]:
        """How the numbers of several positions that are read become that of a prompt."""

    def __call__(self, rows: PerturbedRows) -> Float[Tensor, "*row"]:
        """The number of every row, in float32; nothing that it is given may be written over."""


ROW_MEASURES: dict[str, RowMeasure] = {}
"""What is measured of every perturbed row, by name: "js_bits" and what else is registered."""


def register_row_measure(measure: RowMeasure) -> Registrations:
    """Have a number measured of every perturbed row of every trace from now on, until that is undone.

    Raises:
        UsageError: If its name stands for something else in every trace, or another measure has it.
    """
    is_known = KNOWN_ROWS.get(measure.info.name) == measure.info
    return register_measure("row measure", ROW_MEASURES, measure.info, measure, is_known=is_known)


def measured(name: str, rows: PerturbedRows) -> Float[Tensor, "*row"]:
    """One row measure of some rows.

    Raises:
        UsageError: If it is a user's own and raises something.
    """
    measure = ROW_MEASURES[name]
    with telling_whose(f"The row measure {name!r}", "on perturbed rows", code=measure):
        return measure(rows)


def measure_distributions(
    log_probs: Float[Tensor, "*prompt read d_vocab"],
    log_clean: Float[Tensor, "*#prompt read d_vocab"],
    followed: FollowedRows,
) -> dict[str, Float[Tensor, "*prompt"]]:
    """All row measures of perturbed distributions that are there whole, by name."""
    rows = PerturbedRows(log_probs=log_probs, log_clean=log_clean, tokens=followed.tokens)
    return over_positions({name: measured(name, rows) for name in ROW_MEASURES})


def over_positions(values: Mapping[str, Float[Tensor, "*row read"]]) -> dict[str, Float[Tensor, "*row"]]:
    """Numbers of rows as numbers of prompts, by the measures' names."""
    return {
        name: rows.mean(dim=-1) if ROW_MEASURES[name].over_positions == "mean" else rows.sum(dim=-1)
        for name, rows in values.items()
    }
