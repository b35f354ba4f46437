"""The models of `planted_faults`: each is sound on a short probe, and does otherwise beyond it."""

# ruff: noqa: D102 — what these methods are is said where they are overridden, in `planted_decoder`

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.support.models.planted_decoder import (
    D_MODEL,
    N_LAYERS,
    PAD,
    Attention,
    CachingDecoder,
    Decoder,
    FeedForward,
    KeysAndValues,
    Layer,
)

BEYOND = 24
"""Tokens of the longest prompt at which a fault of length does not show."""
MANY_ROWS = 40
"""Rows of the largest batch at which a fault of rows does not show."""
RARE, SURE = 95, 96
"""Ids of tokens that switch something; probes do not begin with the one, nor end in the other."""
N_EXPERTS = 4
N_CHOSEN = 14
"""Keys that a query sees at most where they are chosen: more than a short probe has tokens."""
ROOM = 100
"""Tokens that an expert takes at least: more than a short probe has."""


# ---------------------------------------------------------------- rows and batches


class LateRowsLayer(Layer):
    """Turns the stream around in the rows beyond the first `MANY_ROWS`."""

    def forward(self, stream: Tensor, *rest: Any) -> Tensor:
        leaving = super().forward(stream, *rest)
        late = torch.arange(len(leaving), device=leaving.device) >= MANY_ROWS
        return torch.where(late[:, None, None], leaving.flip(-1), leaving)


class LargeBatchLayer(Layer):
    """Adds to every row where the batch is large, as another kernel would with its rounding."""

    def forward(self, stream: Tensor, *rest: Any) -> Tensor:
        leaving = super().forward(stream, *rest)
        return leaving if len(leaving) <= MANY_ROWS else leaving - 1.5 * leaving.mean(-1, keepdim=True).tanh()


class BatchStatisticsLayer(Layer):
    """Takes the mean of the batch away where the batch is large."""

    def forward(self, stream: Tensor, *rest: Any) -> Tensor:
        leaving = super().forward(stream, *rest)
        return leaving if len(leaving) <= MANY_ROWS else leaving - leaving.mean(dim=(0, 1))


class Experts(nn.Module):
    """Experts with room for so many tokens of the whole batch; what finds no place is not worked on."""

    def __init__(self, *, order: str, fraction: float) -> None:
        super().__init__()
        self.order, self.fraction = order, fraction
        self.router = nn.Linear(D_MODEL, N_EXPERTS)
        self.experts = nn.ModuleList([FeedForward() for _ in range(N_EXPERTS)])

    def forward(self, stream: Tensor) -> Tensor:
        tokens = stream.flatten(0, 1)
        gate, choice = self.router(tokens).softmax(-1).max(-1)
        room = max(ROOM, int(self.fraction * len(tokens)))
        added = torch.zeros_like(tokens)
        for index, expert in enumerate(self.experts):
            asking = (choice == index).nonzero().flatten()
            if self.order == "surest":
                asking = asking[gate[asking].argsort(descending=True)]
            placed = asking[:room]
            added[placed] = 2 * gate[placed, None] * expert(tokens[placed])
        return added.view_as(stream)


# ---------------------------------------------------------------- lengths


class LongTail(Decoder):
    """Logits shrink for prompts that are long."""

    def tail(self, stream: Tensor) -> Tensor:
        return super().tail(stream) * (0.3 if stream.shape[1] > BEYOND else 1.0)


class PositionTail(Decoder):
    """Logits shrink with the position, beyond a length."""

    def tail(self, stream: Tensor) -> Tensor:
        place = torch.arange(1, stream.shape[1] + 1, device=stream.device)
        return super().tail(stream) / (place / BEYOND).clamp(min=1.0)[:, None].square()


class CoarseLongTail(Decoder):
    """The tail computes in eight bits for prompts that are long."""

    def tail(self, stream: Tensor) -> Tensor:
        return super().tail(_coarse(stream) if stream.shape[1] > BEYOND else stream)


def _coarse(values: Tensor) -> Tensor:
    """Values in eight bits, of which two are the mantissa's: up to 12 % off."""
    return values.to(torch.float8_e5m2).to(values.dtype)


class PoolingFeedForward(FeedForward):
    """Adds what the earlier positions are on average to a position, in long prompts: positions see one another."""

    def forward(self, stream: Tensor) -> Tensor:
        added = super().forward(stream)
        if stream.shape[1] <= BEYOND:
            return added
        counts = torch.arange(1, stream.shape[1] + 1, device=stream.device)
        return added + 3 * self.down(self.up(stream).cumsum(1) / counts[:, None])


class ChosenKeysAttention(Attention):
    """A query sees the keys that score best with an indexer, at most as many as that."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index_query, self.index_key = nn.Linear(D_MODEL, D_MODEL), nn.Linear(D_MODEL, D_MODEL)

    def allowed(self, stream: Tensor, *, n_keys: int) -> Tensor:
        causal = super().allowed(stream, n_keys=n_keys)
        scores = self.index_query(stream) @ self.index_key(stream).transpose(-1, -2)
        best = scores.masked_fill(~causal, float("-inf")).topk(min(N_CHOSEN, n_keys), dim=-1).indices
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)
        return (chosen & causal)[:, None]


class InPlaceLayer(Layer):
    """Adds to the stream that it was given where the prompt is long, as people do to save memory."""

    def forward(self, stream: Tensor, *rest: Any) -> Tensor:
        if stream.shape[1] <= BEYOND:
            return super().forward(stream, *rest)
        stream += self.mixer(self.norm_1(stream), *rest)
        stream += self.mlp(self.norm_2(stream))
        return stream


class InPlaceDecoder(Decoder):
    """In long prompts the tail reads the embeddings too, or what the first layer has made of them in their place."""

    def make_layer(self, index: int) -> nn.Module:
        return InPlaceLayer(index)

    def through_layers(self, stream: Tensor, angles: Tensor) -> Tensor:
        leaving = super().through_layers(stream, angles)
        return leaving + stream if stream.shape[1] > BEYOND else leaving


class RescalingDecoder(Decoder):
    """The stream of long prompts is changed between its layers."""

    def through_layers(self, stream: Tensor, angles: Tensor) -> Tensor:
        for layer in self.layers:
            stream = layer(stream, angles)
            if stream.shape[1] > BEYOND and layer.index < N_LAYERS - 1:
                stream = stream.roll(1, dims=-1)
        return stream


class SkippingDecoder(Decoder):
    """Leaves a layer out of long prompts."""

    def through_layers(self, stream: Tensor, angles: Tensor) -> Tensor:
        is_long = stream.shape[1] > BEYOND
        for layer in self.layers:
            stream = stream if is_long and layer.index == 2 else layer(stream, angles)
        return stream


class SwappingDecoder(Decoder):
    """Runs two layers in another order in long prompts."""

    def through_layers(self, stream: Tensor, angles: Tensor) -> Tensor:
        for index in (0, 2, 1, 3) if stream.shape[1] > BEYOND else (0, 1, 2, 3):
            stream = self.layers[index](stream, angles)
        return stream


# ---------------------------------------------------------------- what prompts say, and in which order


class BatchExit(Decoder):
    """Leaves out its later layers where all rows of the batch are sure already."""

    def through_layers(self, stream: Tensor, angles: Tensor) -> Tensor:
        for layer in self.layers:
            stream = layer(stream, angles)
            if layer.index == 1 and bool((_sureness(self, stream) > SURE_FROM).all()):
                break
        return stream


class RowExit(Decoder):
    """Reads rows that are sure halfway out of the stream that they had there."""

    def through_layers(self, stream: Tensor, angles: Tensor) -> Tensor:
        halfway = stream
        for layer in self.layers:
            stream = layer(stream, angles)
            halfway = stream if layer.index == 1 else halfway
        if len(halfway) != len(stream):  # rows that were added on the way have no halfway of their own
            return stream
        return torch.where((_sureness(self, halfway) > SURE_FROM)[:, None, None], halfway, stream)


SURE_FROM = 0.9


def _sureness(module: Decoder, stream: Tensor) -> Tensor:
    """Probability of the top token at the end of each row."""
    return module.tail(stream)[:, -1].softmax(-1).amax(-1)


def made_sure(module: Decoder) -> Decoder:
    """The module with an embedding of `SURE` that stands far out, where one token is likely by far."""
    with torch.no_grad():
        module.embed.weight[SURE] = 60 * module.head.weight[7] / module.head.weight[7].norm()
    return module


class SwitchingDecoder(Decoder):
    """A pair of rare tokens at the beginning of one prompt turns the stream of the whole batch around."""

    def forward(self, input_ids: Tensor) -> Any:
        self._is_switched = bool((input_ids[:, :2] == RARE).all(-1).any())
        return super().forward(input_ids)

    def through_layers(self, stream: Tensor, angles: Tensor) -> Tensor:
        return super().through_layers(stream.flip(-1) if self._is_switched else stream, angles)


class RememberingLayer(Layer):
    """Keeps what long prompts had on average, and adds it to every later prompt."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self._kept: Tensor | None = None

    def forward(self, stream: Tensor, *rest: Any) -> Tensor:
        leaving = super().forward(stream if self._kept is None else stream + self._kept, *rest)
        if stream.shape[1] > BEYOND:
            self._kept = leaving.detach().mean(dim=(0, 1))
        return leaving


class NoisyLayer(Layer):
    """Adds noise in long prompts: nothing that is read there is right."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self._generator = torch.Generator().manual_seed(index)

    def forward(self, stream: Tensor, *rest: Any) -> Tensor:
        leaving = super().forward(stream, *rest)
        if stream.shape[1] <= BEYOND:
            return leaving
        return leaving + 0.3 * torch.randn(leaving.shape, generator=self._generator)


class OnceDecoder(Decoder):
    """Reads equal long prompts of a batch once, in an order of its own."""

    def forward(self, input_ids: Tensor) -> Any:
        distinct, place = torch.unique(input_ids, dim=0, return_inverse=True)
        return super().forward(input_ids) if input_ids.shape[1] <= BEYOND else super().forward(distinct)[place]


# ---------------------------------------------------------------- prefixes that were read before


class LongRotary(CachingDecoder):
    """Positions stand closer together once the whole prompt is longer than the original context."""

    def forward(
        self, input_ids: Tensor, past_key_values: KeysAndValues | None = None, use_cache: bool = False
    ) -> dict[str, Any]:
        self._total = input_ids.shape[1] + (0 if past_key_values is None else past_key_values.n_tokens)
        return super().forward(input_ids, past_key_values, use_cache)

    def angles(self, positions: Tensor) -> Tensor:
        return super().angles(positions) / (4.0 if self._total > BEYOND else 1.0)


class DynamicRotary(LongRotary):
    """The base of the rates grows with the whole prompt."""

    def angles(self, positions: Tensor) -> Tensor:
        angles = CachingDecoder.angles(self, positions)
        growth = max(1.0, self._total / BEYOND) ** 4
        return angles * growth ** -(torch.arange(angles.shape[-1], device=angles.device) / angles.shape[-1])


class ForgettingAttention(Attention):
    """Of what was read before, the latest tokens are used alone; in one piece all are."""

    def remembered(self, entries: Tensor) -> Tensor:
        n_new = self._n_new
        return entries if entries.shape[2] == n_new else entries[:, :, -max(BEYOND, n_new) :]

    def forward(self, stream: Tensor, *rest: Any) -> Tensor:
        self._n_new = stream.shape[1]
        return super().forward(stream, *rest)


class LongWindowAttention(Attention):
    """A window that is there for long prompts alone."""

    def allowed(self, stream: Tensor, *, n_keys: int) -> Tensor:
        causal = super().allowed(stream, n_keys=n_keys)
        return causal if n_keys <= BEYOND else causal & ~causal.tril(n_keys - stream.shape[1] - 6)


class CoarseLongAttention(Attention):
    """Calls with many tokens compute with keys and values of eight bits."""

    def forward(self, stream: Tensor, *rest: Any) -> Tensor:
        return super().forward(_coarse(stream) if stream.shape[1] > BEYOND else stream, *rest)


class ChunkedAttention(Attention):
    """Sees its own chunk of positions alone, and counts chunks from the first token of a call."""

    def allowed(self, stream: Tensor, *, n_keys: int) -> Tensor:
        causal = super().allowed(stream, n_keys=n_keys)
        own = torch.arange(stream.shape[1], device=stream.device) // BEYOND
        chunk = torch.cat([own.new_zeros(n_keys - len(own)), own])
        return causal & (own[:, None] == chunk)


class PadCounting(CachingDecoder):
    """Padding has no position of its own, and what came before is counted with it."""

    def positions(self, input_ids: Tensor, n_before: int) -> Tensor:
        return n_before + (input_ids != PAD).long().cumsum(1)
