"""Prompts of causal tracing as token ids, and what is asked of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from layertracer._errors import PromptTooLongError, UsageError
from layertracer._types import checked_whole, shown
from layertracer._types.given import Ids, checked_ids, checked_number
from layertracer.models import Network
from layertracer.tracing._batching.memory_budget import parse_memory
from layertracer.tracing._planning.audit_cells import check_share

PATCHED_SITES = ("block_output", "mixer_output", "mlp_output")
"""Sites whose values can be put from one run into another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalPrompt:
    """A prompt, what is corrupted in it, and the tokens whose probability is followed.

    Attributes:
        index: The sample's number: what its noise is drawn by, and how it is named.
        ids: Token ids of the clean prompt, everything that is read before the followed token.
        corrupted_ids: Those of the corrupted prompt, as many; None where it is corrupted by noise.
        span: First and end of the positions that are corrupted, [first, end).
        answers: Tokens any of which is right: the answer's probability is their sum.
        contrast_answers: Likewise of the contrast answer; empty where there is none.

    Raises:
        UsageError: If it is no such prompt.
    """

    index: int
    ids: Ids
    corrupted_ids: Ids | None = None
    span: tuple[int, int]
    answers: Ids
    contrast_answers: Ids = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        object.__setattr__(self, "index", checked_whole("index", self.index, hint="Give the sample's number."))
        if self.index < 0:
            raise UsageError(f"index must be 0 or more, got {self.index}. Give the sample's number.")
        for name in ("ids", "answers", "contrast_answers"):
            object.__setattr__(self, name, checked_ids(name, getattr(self, name)))
        if self.corrupted_ids is not None:
            object.__setattr__(self, "corrupted_ids", checked_ids("corrupted_ids", self.corrupted_ids))
        if not self.ids or not self.answers:
            raise UsageError(
                f"Prompt {self.index} has {len(self.ids)} tokens and {len(self.answers)} answers. Give one of each at "
                "least."
            )
        self._check_span()

    def _check_span(self) -> None:
        given: Any = self.span
        if not isinstance(given, Sequence) or len(given) != 2:
            raise UsageError(f"span of prompt {self.index} must be (first, end), got {shown(given)}.")
        hint = "Give the positions that are corrupted, counted from the left, the end not included."
        first, end = (checked_whole("Each of span", one, hint=hint) for one in given)
        object.__setattr__(self, "span", (first, end))
        if not 0 <= first < end <= len(self.ids):
            raise UsageError(
                f"span of prompt {self.index} is {(first, end)}, which is no part of its {len(self.ids)} tokens. {hint}"
            )
        if self.corrupted_ids is None:
            return
        if len(self.corrupted_ids) != len(self.ids):
            raise UsageError(
                f"Prompt {self.index} has {len(self.ids)} tokens and its corrupted one {len(self.corrupted_ids)}: "
                "positions would not stand for one another. Give prompts of one length."
            )
        if self.corrupted_ids[:first] != self.ids[:first]:
            raise UsageError(
                f"Prompt {self.index} and its corrupted one differ before position {first}, where their span begins. "
                f"{hint}"
            )

    @property
    def first(self) -> int:
        """The first position that is corrupted."""
        return self.span[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalOptions:
    """How prompts are corrupted and what is put where.

    Attributes:
        corrupt: "noise" on the embeddings of each prompt's span, or "swap": its `corrupted_ids` are run.
        direction: "denoise": clean values into the corrupted run; "noise": corrupted values into the clean run.
        site: Where inside the layer: "block_output", "mixer_output" or "mlp_output".
        window: How many layers are patched together: w of them are i − ⌊w/2⌋ … i + ⌈w/2⌉ − 1, clipped.
        draws: Draws of noise; of a swap there is one.
        noise_scale: Standard deviation of the noise, in that of the embeddings of all spans.
        seed: Seed of the noise, and of what the audit draws.
        audit: Share of the arithmetic that is measured again, the plain way.
        memory: What a pass may take, e.g. "8GiB"; None for most of what is free.
        cells: "all": every layer that has the site, at every position from the first corrupted one on.

    Raises:
        UsageError: If one of them is nothing that can be done.
    """

    corrupt: Literal["noise", "swap"] = "noise"
    direction: Literal["denoise", "noise"] = "denoise"
    site: str = "block_output"
    window: int = 1
    draws: int = 10
    noise_scale: float = 3.0
    seed: int = 0
    audit: float = 0.1
    memory: str | int | None = None
    cells: Literal["all"] = "all"

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        choices = {
            "corrupt": ("noise", "swap"),
            "direction": ("denoise", "noise"),
            "site": PATCHED_SITES,
            "cells": ("all",),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, got {shown(getattr(self, name))}.")
        for name, least in (("window", 1), ("draws", 1), ("seed", 0)):
            number = checked_whole(name, getattr(self, name))
            if number < least:
                raise UsageError(f"{name} must be {least} or more, got {number}.")
            object.__setattr__(self, name, number)
        object.__setattr__(self, "audit", check_share(self.audit))
        scale = checked_number("noise_scale", self.noise_scale, hint="3 is usual.")
        if not math.isfinite(scale) or scale <= 0:
            raise UsageError(f"noise_scale must be a positive number, got {shown(self.noise_scale)}. 3 is usual.")
        object.__setattr__(self, "noise_scale", scale)
        if self.memory is not None:
            parse_memory(self.memory)

    @property
    def n_draws(self) -> int:
        """Corrupted runs of each prompt."""
        return self.draws if self.corrupt == "noise" else 1


def check_prompts(prompts: Sequence[CausalPrompt], options: CausalOptions, network: Network) -> None:
    """Refuse prompts that cannot be run.

    Raises:
        UsageError: If there is none, one is no prompt, two have one index, a swap lacks its corrupted prompt, or a
            token is unknown to the model.
        PromptTooLongError: If one is longer than the model's context.
    """
    if not prompts:
        raise UsageError("There is no prompt to trace. Give at least one CausalPrompt.")
    seen: set[int] = set()
    for prompt in prompts:
        if not isinstance(prompt, CausalPrompt):
            raise UsageError(f"Prompts must be CausalPrompt, got {shown(prompt)}.")
        if prompt.index in seen:
            raise UsageError(
                f"Two prompts have the index {prompt.index}: their noise would be the same, and so would their names. "
                "Number them apart."
            )
        seen.add(prompt.index)
        if options.corrupt == "swap" and prompt.corrupted_ids is None:
            raise UsageError(f"Prompt {prompt.index} has no corrupted_ids to be swapped for. Give them, or use noise.")
        _check_tokens(prompt, network)


def _check_tokens(prompt: CausalPrompt, network: Network) -> None:
    longest = network.max_length
    if longest is not None and len(prompt.ids) > longest:
        raise PromptTooLongError(
            f"Prompt {prompt.index} has {len(prompt.ids)} tokens, and the context of {network.name!r} takes {longest}. "
            "Cut it."
        )
    read, said = network.anatomy.n_input_tokens, network.anatomy.d_vocab
    for tokens, n_known in (
        ((*prompt.ids, *(prompt.corrupted_ids or ())), read),
        ((*prompt.answers, *prompt.contrast_answers), said),
    ):
        unknown = [token for token in tokens if not 0 <= token < n_known]
        if unknown:
            raise UsageError(
                f"Prompt {prompt.index} has token id {unknown[0]}, but {network.name!r} knows ids from 0 to "
                f"{n_known - 1}. Use the model's own tokenizer."
            )
