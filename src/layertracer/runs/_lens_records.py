"""What a lens other than the logit lens reads after each layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float

from layertracer._errors import UsageError
from layertracer._types import MOST_MEANING, TaskParticle, checked_name, is_line, read_only, shown
from layertracer.measures import Sampling, TargetCurves, find_task_particle, onset_from_dict
from layertracer.runs._context import RecordContext, require_context, require_rows

LENS_AXES: Mapping[str, tuple[type[np.generic], tuple[str, ...]]] = MappingProxyType(
    {
        "target_log_prob": (np.float32, ("prompt", "layer")),
        "embedding_log_prob": (np.float32, ("prompt",)),
        "target_rank": (np.int32, ("prompt", "layer")),
        "entropy_bits": (np.float32, ("prompt", "layer")),
        "top_ids": (np.int32, ("prompt", "layer", "k")),
        "top_prob": (np.float32, ("prompt", "layer", "k")),
    }
)
"""Type and axes of what every lens reads; the logit lens's stand on the record itself."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LensRecord:
    """What a lens reads after each layer.

    Attributes:
        name: "linear", "tuned", …
        meaning: What it does, in one sentence.
        target_log_prob: Log-probability of the target after each layer, nats, float32 [prompt, layer].
        embedding_log_prob: The same read from the embeddings, float32 [prompt].
        target_rank: Rank of the target after each layer, 1 = top, int32 [prompt, layer].
        entropy_bits: Entropy of the distribution after each layer, bits, float32 [prompt, layer].
        top_ids: The tokens most probable after each layer, best first, int32 [prompt, layer, k].
        top_prob: Their probabilities, float32 [prompt, layer, k].
        details: Where the lens came from, what it was fitted on, its fingerprint; JSON values.
        context: What it must know of its trace; None outside of one.

    Raises:
        UsageError: If the name is no identifier, the meaning no line, or an array has other axes.
    """

    name: str
    meaning: str
    target_log_prob: np.ndarray
    embedding_log_prob: np.ndarray
    target_rank: np.ndarray
    entropy_bits: np.ndarray
    top_ids: np.ndarray
    top_prob: np.ndarray
    details: Mapping[str, Any] = field(default_factory=dict)
    context: RecordContext | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Copy and freeze the arrays, and refuse those that do not fit together."""
        checked_name("lens", self.name)
        if not is_line(self.meaning, MOST_MEANING):
            raise UsageError(
                f"The meaning of the lens {self.name!r} must be one line of 1 to {MOST_MEANING} printable characters, "
                f"got {shown(self.meaning)}. Say in one sentence what it does to a residual stream before it is read."
            )
        sizes: dict[str, int] = {}
        for name, (dtype, axes) in LENS_AXES.items():
            array = read_only(getattr(self, name), dtype)
            object.__setattr__(self, name, array)
            expected = [sizes.get(axis, axis) for axis in axes]
            if array.ndim != len(axes) or any(
                size != sizes.setdefault(axis, size) for axis, size in zip(axes, array.shape, strict=True)
            ):
                raise UsageError(
                    f"{name} of the lens {self.name!r} has shape {list(array.shape)}, and needs {expected} "
                    f"([{', '.join(axes)}])."
                )

    @property
    def target_prob(self) -> Float[np.ndarray, "prompt layer"]:
        """Probability of the target after each layer, in [0, 1]."""
        return np.asarray(np.exp(self.target_log_prob))

    @property
    def embedding_prob(self) -> Float[np.ndarray, " prompt"]:
        """Probability of the target read from the embeddings, in [0, 1]."""
        return np.asarray(np.exp(self.embedding_log_prob))

    @cached_property
    def curves(self) -> TargetCurves:
        """The target's curves, as the onset criteria take them."""
        return TargetCurves(
            log_prob=self.target_log_prob,
            embedding_log_prob=self.embedding_log_prob,
            top1_share=(self.target_rank == 1).astype(np.float32),
        )

    @cached_property
    def task_particle(self) -> TaskParticle:
        """Where the target's probability first rises through this lens, by the trace's criterion and seed.

        Raises:
            UsageError: If no prompt was finished, or the lens belongs to no trace.
        """
        context = require_context(self.context, "The task particle")
        require_rows(context, "task particle")
        criterion = onset_from_dict(context.onset)
        return find_task_particle(self.curves, criterion, seed=context.seed, sampling=Sampling(units=context.units))

    def select(self, rows: np.ndarray) -> LensRecord:
        """What it reads for some prompts only; it belongs to no trace."""
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in LENS_AXES}, context=None)
