"""What an effect or a lens must know of its trace to give an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from layertracer._errors import UsageError
from layertracer._types import Draws, count_sure_draws, name_draws


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordContext:
    """What of a trace stands beside each of its effects and lenses.

    Attributes:
        onset: `to_dict()` of the onset criterion.
        seed: Seed of the bootstrap.
        units: Unit of every prompt, as `Sampling` takes them.
        clean_log_prob: Log-probability of the target in the clean output, nats, [prompt]; NaN for prompts with several
            answers, any of which counts there, while one is followed in perturbed rows.
        own: The arrays of the trace itself that its first effect shares, by name: they tell whether that was changed
            since.
        by_prompt: Whether every prompt has draws of its own, which no other one shares.
    """

    onset: Mapping[str, Any]
    seed: int
    units: tuple[int, ...] | None
    clean_log_prob: NDArray[np.float64]
    own: Mapping[str, NDArray[Any]]
    by_prompt: bool = False


class SampledDraws(TypedDict):
    """What `Sampling` says of draws."""

    draws: Draws
    sure_draws: int


def sampled_draws(perturbation: Mapping[str, Any], *, by_prompt: bool) -> SampledDraws:
    """How the draws of a perturbation came about; those that are a prompt's own are taken anew with the prompt.

    Args:
        perturbation: `to_dict()` of the perturbation.
        by_prompt: Whether every prompt has draws of its own.
    """
    if by_prompt:
        return {"draws": "given", "sure_draws": 1}
    return {"draws": name_draws(perturbation), "sure_draws": count_sure_draws(perturbation)}


def require_context(context: RecordContext | None, what: str) -> RecordContext:
    """The context of an effect or a lens.

    Raises:
        UsageError: If it stands in no trace.
    """
    if context is None:
        raise UsageError(
            f"{what} follows from a trace, and this belongs to none. Take it from trace.effects or trace.lenses."
        )
    return context


def require_rows(context: RecordContext, what: str) -> None:
    """Refuse an answer where no prompt was finished.

    Raises:
        UsageError: If there is no prompt.
    """
    if not context.clean_log_prob.size:
        raise UsageError(f"There is no {what}: no prompt was finished. Check n_prompts first, or run the trace again.")
