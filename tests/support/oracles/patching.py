"""Causal tracing the slow and obvious way: one hooked forward for each cell, arithmetic in float64.

Nothing here imports LayerTracer. Noise is drawn as the documentation of `CausalPrompt` says: standard normal numbers of
NumPy's default generator, seeded by seed, prompt, draw and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.support.oracles.plain_hooks import Branches, branch_modules, editing, plain_log_probs

Numbers = NDArray[np.float64]
Values = dict[tuple[int, int], Tensor]
"""By layer and module of its branch, what it made of one prompt, [1, position, width]."""


@dataclass(frozen=True, kw_only=True)
class PlainPatching:
    """A model whose values are copied and replaced by hooks.

    Attributes:
        module: Token ids in, logits out.
        layers: Its layers, in order.
        embedding: What turns ids into embeddings.
        branches: Where the branches of a layer are.
        site: "block_output", "mixer_output" or "mlp_output".
        window: How many layers are patched together.
    """

    module: nn.Module
    layers: Sequence[nn.Module]
    embedding: nn.Module
    branches: Branches = field(default_factory=dict)
    site: str = "block_output"
    window: int = 1

    def log_prob(self, ids: Sequence[int], answers: Sequence[int], *, noise: Numbers | None = None) -> float:
        """Log Σ p of some tokens."""
        with self._noisy(noise):
            log_probs = plain_log_probs(self.module, ids)
        return float(np.log(np.exp(log_probs[sorted(set(answers))]).sum()))

    def copy(self, ids: Sequence[int], *, noise: Numbers | None = None) -> Values:
        """What stands at the site in every layer."""
        values: Values = {}

        def copying(key: tuple[int, int]) -> Callable[[object, Tensor], Tensor]:
            def copy(_: object, output: Tensor) -> Tensor:
                values[key] = output.detach().clone()
                return output

            return copy

        with self._hooked({key: copying(key) for key in self._targets()}), self._noisy(noise):
            plain_log_probs(self.module, ids)
        return values

    def cell(
        self,
        ids: Sequence[int],
        answers: Sequence[int],
        donor: Values,
        *,
        layer: int,
        position: int,
        noise: Numbers | None = None,
    ) -> float:
        """Log Σ p of some tokens with a window of layers patched at one position; NaN in a layer without the site."""
        if not any(index == layer for index, _ in self._targets()):
            return float("nan")
        first = layer - self.window // 2

        def putting(key: tuple[int, int]) -> Callable[[object, Tensor], Tensor]:
            def put(_: object, output: Tensor) -> Tensor:
                changed = output.clone()
                changed[:, position] = donor[key][:, position]
                return changed

            return put

        keys = [key for key in self._targets() if first <= key[0] < first + self.window]
        with self._hooked({key: putting(key) for key in keys}):
            return self.log_prob(ids, answers, noise=noise)

    def _targets(self) -> dict[tuple[int, int], nn.Module]:
        branch = None if self.site == "block_output" else self.branches[self.site]
        assert branch is not None or self.site == "block_output"
        return {
            (index, which): module
            for index, layer in enumerate(self.layers)
            for which, module in enumerate(branch_modules(layer, branch))
        }

    @contextmanager
    def _hooked(self, edits: dict[tuple[int, int], Callable[[object, Tensor], Tensor]]) -> Iterator[None]:
        targets = self._targets()
        with ExitStack() as stack:
            for key, edit in edits.items():
                stack.enter_context(editing(targets[key], edit))
            yield

    @contextmanager
    def _noisy(self, noise: Numbers | None) -> Iterator[None]:
        if noise is None:
            yield
            return
        added = torch.from_numpy(noise.astype(np.float32))

        def add(_: object, __: object, output: Tensor) -> Tensor:
            return output + added.to(output.dtype)

        handle = self.embedding.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()


def draw_noise(
    std: float, *, seed: int, index: int, draw: int, span: tuple[int, int], length: int, width: int
) -> Numbers:
    """A prompt's noise, zero outside of its span, [1, position, width]."""
    noise = np.zeros((1, length, width))
    drawn = np.random.default_rng([seed, index, draw, 7]).standard_normal((span[1] - span[0], width))
    noise[0, span[0] : span[1]] = std * drawn
    return noise


def spread_of(embedding: nn.Module, spans: Sequence[Sequence[int]]) -> float:
    """Standard deviation of all entries of the embeddings of some tokens."""
    with torch.no_grad():
        rows = [embedding(torch.tensor([list(span)])).double().flatten() for span in spans]
    return float(torch.cat(rows).std())
