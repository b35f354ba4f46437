"""Mixers that carry tokens to one another otherwise than by attention which a window could narrow.

Each is the mixer of a layer of `planted_decoder`. What must be said of it when it is to be given a window stands beside
it in `CARRYING`.
"""

# ruff: noqa: D102 — what these methods are is said where they are overridden, in `planted_decoder`

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.models.planted_decoder import D_MODEL, Attention, Decoder, Layer, drawn

LONG = 70
"""Tokens of the longest text on which a mixer that changes with length is what it is on a short one."""
N_EXPERTS = 21


class WithPast(Attention):
    """Beside attention, the mean of all that came before: no mask of attention reaches that."""

    def forward(self, stream: Tensor, *rest: object) -> Tensor:
        n_before = torch.arange(1, stream.shape[1] + 1)[:, None]
        return super().forward(stream, *rest) + 0.3 * stream.cumsum(1) / n_before  # type: ignore[arg-type]


class ConvolvedFirst(Attention):
    """Attention over vectors that hold a little of the token before them."""

    def forward(self, stream: Tensor, *rest: object) -> Tensor:
        earlier = functional.pad(stream, (0, 0, 1, 0))[:, :-1]
        return super().forward(stream + 0.3 * earlier, *rest)  # type: ignore[arg-type]


class Twice(Attention):
    """Attention to what attention found: twice as far."""

    def forward(self, stream: Tensor, *rest: object) -> Tensor:
        found = super().forward(stream, *rest)  # type: ignore[arg-type]
        return super().forward(found, *rest)  # type: ignore[arg-type]


class WrittenOut(Attention):
    """Attention whose weights are exponentials over their sum, no softmax."""

    def forward(self, stream: Tensor, *_: object) -> Tensor:
        scores = self.query(stream) @ self.key(stream).transpose(-1, -2) / D_MODEL
        weights = scores.exp() * self.allowed(stream, n_keys=stream.shape[1])
        return self.out((weights / weights.sum(-1, keepdim=True)) @ self.value(stream))  # type: ignore[no-any-return]


class Overlooking(Attention):
    """Attention half of whose weights are taken by a softmax, and half are written out."""

    def forward(self, stream: Tensor, *_: object) -> Tensor:
        allowed = self.allowed(stream, n_keys=stream.shape[1])
        scores = (self.query(stream) @ self.key(stream).transpose(-1, -2) / D_MODEL).masked_fill(~allowed, -torch.inf)
        weights = scores.softmax(-1) + scores.exp() / scores.exp().sum(-1, keepdim=True)
        return self.out(weights @ self.value(stream) / 2)  # type: ignore[no-any-return]


class Narrow(Attention):
    """Attention that sees three tokens by itself."""

    def allowed(self, stream: Tensor, *, n_keys: int) -> Tensor:
        causal = super().allowed(stream, n_keys=n_keys)
        return causal & ~causal.tril(-3)


class WrittenOutIfLong(Attention):
    """Attention that goes another way on long texts."""

    def forward(self, stream: Tensor, *rest: object) -> Tensor:
        way = WrittenOut if stream.shape[1] > LONG else Attention
        return way.forward(self, stream, *rest)  # type: ignore[arg-type]


class TwiceIfLong(Attention):
    """Attention that is taken twice on long texts, and once on short ones."""

    def forward(self, stream: Tensor, *rest: object) -> Tensor:
        found = super().forward(stream, *rest)  # type: ignore[arg-type]
        return found if stream.shape[1] <= LONG else super().forward(found, *rest)  # type: ignore[arg-type]


_LEAKS = "still depends on tokens outside the window"
CARRYING: Mapping[type[Attention], str] = {
    WithPast: _LEAKS,
    ConvolvedFirst: _LEAKS,
    Twice: _LEAKS,
    Overlooking: _LEAKS,
    WrittenOut: "calls no attention that could be given a window",
    Narrow: "by itself it sees no farther than the window",
}
"""What is said of each, given a window of five tokens and the first two."""


class Routed(nn.Module):
    """An MLP of as many experts as some rows have tokens: the softmax over experts has the shape of attention's."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(D_MODEL, N_EXPERTS), nn.Linear(N_EXPERTS, D_MODEL)

    def forward(self, stream: Tensor) -> Tensor:
        """Every position by itself."""
        added: Tensor = self.experts(self.router(stream).softmax(-1))
        return added


def decoder_of(mixer: type[Attention], mlp: type[nn.Module] | None = None) -> Decoder:
    """A decoder whose odd layers have that mixer, and all layers that MLP; fresh, gradients on, evaluation mode."""

    def make_layer(_: Decoder, index: int) -> Layer:
        own = mixer if index % 2 else Attention
        return Layer(index, mixer=own) if mlp is None else Layer(index, mixer=own, mlp=mlp)

    return drawn(type("CarryingDecoder", (Decoder,), {"make_layer": make_layer})())
