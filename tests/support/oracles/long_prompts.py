"""What a family must give on long prompts, by plain hooks, in float32 and, where that is asked, in float64.

Nothing here imports LayerTracer.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tests.support.oracles.by_family import PlainModel, Reading
from tests.support.oracles.plain_hooks import Masks, Numbers


class LongOracle:
    """A model run by plain hooks on some prompts, one at a time; what was asked once is kept.

    Args:
        plain: The model.
        readings: The prompts.
        keep: What is not masked, [layer, draw, width].
        subset: Prompts that the slower questions are asked about.
    """

    def __init__(self, plain: PlainModel, readings: Sequence[Reading], keep: Masks, subset: Sequence[int]) -> None:
        self.plain, self.readings, self.keep, self.subset = plain, readings, keep, tuple(subset)

    @cached_property
    def precise(self) -> LongOracle:
        """The same in float64: where a choice between two values is a matter of rounding, it may turn out otherwise."""
        plain = copy.copy(self.plain)
        plain.module = copy.deepcopy(self.plain.module).double()
        plain.layers = [plain.module.get_submodule(path) for path in plain.paths]
        return LongOracle(plain, self.readings, self.keep, self.subset)

    @cached_property
    def log_probs(self) -> Numbers:
        """Of the next token, [prompt, d_vocab]."""
        return np.stack([self.plain.log_probs(reading) for reading in self.readings])

    @cached_property
    def js_bits(self) -> Numbers:
        """Where one layer's output is masked, [prompt, draw, layer]."""
        return np.stack([self.plain.js_bits(reading, self.keep) for reading in self.readings])

    @cached_property
    def readouts(self) -> Numbers:
        """Of the subset after every layer, [prompt, layer, d_vocab]."""
        return np.stack([self.plain.readouts(reading)[1:] for reading in self._chosen])

    @cached_property
    def last_position(self) -> Numbers:
        """Of the subset where the last position of a layer's output is masked, [prompt, draw, layer]."""
        return np.stack([self.plain.js_bits(reading, self.keep, last_only=True) for reading in self._chosen])

    @cached_property
    def mean_fill(self) -> Numbers:
        """Of the subset where what is masked becomes its mean over all prompts and positions, [prompt, draw, layer]."""
        return np.stack([self.plain.js_bits(reading, self.keep, fills=self._means) for reading in self._chosen])

    def branch(self, branch: str, missing: Sequence[bool]) -> Numbers:
        """Of the subset where what a branch adds is masked, [prompt, draw, layer]; NaN in layers without it."""
        bits = np.stack([self.plain.branch_js_bits(reading, self.keep, branch) for reading in self._chosen])
        bits[..., list(missing)] = np.nan
        return bits

    @cached_property
    def is_row_of_tokens(self) -> bool:
        """Whether the stream holds one entry for a token and nothing else."""
        return all(stream is not None for seen in self._streams for stream in seen)

    @property
    def _chosen(self) -> list[Reading]:
        return [self.readings[index] for index in self.subset]

    @cached_property
    def _streams(self) -> list[list[Tensor | None]]:
        """What leaves each layer, of every prompt, [position, width]."""
        found = []
        for reading in self.readings:
            length = len(reading.traced)
            found.append([_positions_first(leaving, length) for leaving in self.plain.leaving(reading)])
        return found

    @cached_property
    def _means(self) -> list[Tensor]:
        by_layer = zip(*self._streams, strict=True)
        return [torch.cat([stream for stream in own if stream is not None]).double().mean(0) for own in by_layer]


def _positions_first(stream: Tensor, length: int) -> Tensor | None:
    """A stream [row, position, width] or [position, row, width] of one row as [position, width]; None for any other."""
    axes = [axis for axis, size in enumerate(stream.shape[:-1]) if size == length]
    return stream.movedim(axes[0], 0)[:, 0] if stream.ndim == 3 and len(axes) == 1 else None
