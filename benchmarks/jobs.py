"""The jobs: which prompts, on which model, how often, by whom.

Every job is the same task at another size: one random mask for each layer on its output, a fifth of the dimensions set
to zero, and the Jensen-Shannon divergence at the last position from the clean run, for every prompt and layer. Tokens
are random; arithmetic does not depend on them.

This module is read in every contender's environment, so it needs NumPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Group = Literal["size", "layers", "prompts"]
"""What a job is part of: the sizes on the real model, or a growth with layers or with prompts."""

MASKED_SHARE = 0.2
EVERYBODY = ("plain_hooks", "nnsight", "nnsight_per_layer", "nnterp", "transformer_lens", "layertracer")
# nnterp is a naming scheme over nnsight, and where a batch is large nnsight takes one layer a trace anyway: beside the
# two smallest jobs, these variants would add minutes and no knowledge.
WITHOUT_VARIANTS = ("plain_hooks", "nnsight", "transformer_lens", "layertracer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job.

    Attributes:
        name: What it is called on the command line and in the results.
        title: What it is, in words.
        model: Name of a model of `benchmarks.models`.
        n_prompts: Number of prompts.
        n_shared: Tokens that all prompts begin with.
        n_own: Tokens of each prompt's own.
        rounds: Rounds in which every contender takes its turn.
        pair_rounds: Further rounds with LayerTracer and the fastest of the others only.
        contenders: Who takes part.
        group: What it is part of.
    """

    name: str
    title: str
    model: str
    n_prompts: int
    n_shared: int
    n_own: int
    rounds: int
    pair_rounds: int = 0
    contenders: tuple[str, ...] = EVERYBODY
    group: Group = "size"

    @property
    def n_tokens(self) -> int:
        """Length of each prompt."""
        return self.n_shared + self.n_own


def token_ids(job: Job, *, d_vocab: int) -> NDArray[np.int64]:
    """The prompts of a job, [prompt, token]."""
    generator = np.random.default_rng([0, job.n_prompts, job.n_shared, job.n_own])
    shared = generator.integers(3, d_vocab, size=(1, job.n_shared))  # the first ids are special in many vocabularies
    own = generator.integers(3, d_vocab, size=(job.n_prompts, job.n_own))
    return np.concatenate([np.repeat(shared, job.n_prompts, axis=0), own], axis=1)


def keep_masks(*, n_layers: int, width: int) -> NDArray[np.bool_]:
    """One mask for each layer, [layer, width]: False where a dimension is set to zero."""
    generator = np.random.default_rng(1)
    keep = np.ones((n_layers, width), dtype=bool)
    for layer in keep:
        layer[generator.permutation(width)[: round(MASKED_SHARE * width)]] = False
    return keep


def _growth_with_layers(n_layers: int, *, rounds: int) -> Job:
    return Job(
        name=f"layers-{n_layers}",
        title=f"{n_layers} layers of width 128, 8 prompts of 24 tokens",
        model=f"tiny-{n_layers}",
        n_prompts=8,
        n_shared=0,
        n_own=24,
        rounds=rounds,
        contenders=WITHOUT_VARIANTS,
        group="layers",
    )


def _growth_with_prompts(n_prompts: int, *, rounds: int) -> Job:
    return Job(
        name=f"prompts-{n_prompts}",
        title=f"12 layers of width 256, {n_prompts} prompts of 22 shared and 4 own tokens",
        model="small-12",
        n_prompts=n_prompts,
        n_shared=22,
        n_own=4,
        rounds=rounds,
        contenders=WITHOUT_VARIANTS,
        group="prompts",
    )


def _size(name: str, n_prompts: int, n_shared: int, n_own: int, *, rounds: int, pair_rounds: int = 0) -> Job:
    plural = "prompt" if n_prompts == 1 else "prompts"
    tokens = f"{n_shared} shared and {n_own} own tokens" if n_shared else f"{n_own} tokens"
    is_smallest = n_shared == 0 and n_own < 100
    return Job(
        name=name,
        title=f"SmolLM2-135M, {n_prompts} {plural} of {tokens}",
        model="smollm2",
        n_prompts=n_prompts,
        n_shared=n_shared,
        n_own=n_own,
        rounds=rounds,
        pair_rounds=pair_rounds,
        contenders=EVERYBODY if is_smallest else WITHOUT_VARIANTS,
    )


# The peers need minutes for each of the larger jobs, hence few rounds there: all of it takes an hour.
FULL = (
    _size("one-prompt", 1, 0, 16, rounds=5),
    _size("eight-prompts", 8, 0, 22, rounds=3),
    _size("few-shot-5", 64, 22, 4, rounds=1, pair_rounds=2),
    _size("few-shot-10", 64, 44, 4, rounds=1, pair_rounds=1),
    _size("long", 4, 0, 512, rounds=1),
    *(_growth_with_layers(n_layers, rounds=3) for n_layers in (8, 16, 32, 64)),
    *(_growth_with_prompts(n_prompts, rounds=3) for n_prompts in (4, 16, 64)),
    _growth_with_prompts(256, rounds=1),
)

QUICK = (
    _size("one-prompt", 1, 0, 16, rounds=2),
    _size("eight-prompts", 4, 0, 22, rounds=1),
    _size("few-shot-5", 16, 22, 4, rounds=1),
    _size("few-shot-10", 8, 44, 4, rounds=1),
    _size("long", 1, 0, 128, rounds=1),
    *(_growth_with_layers(n_layers, rounds=3) for n_layers in (8, 16)),
    *(_growth_with_prompts(n_prompts, rounds=3) for n_prompts in (4, 16)),
)
