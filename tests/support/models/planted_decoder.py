"""A small language model out of plain PyTorch in which `planted_faults` plants what a short probe cannot see.

As it stands it is sound. Its layers are `layers`, in order; a layer takes the stream first and returns it alone.
`CachingDecoder` takes its cache back under the names that Transformers uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

D_VOCAB, D_MODEL, N_LAYERS, N_HEADS = 97, 24, 4, 3
D_HEAD = D_MODEL // N_HEADS
LAYERS = "layers"
"""Path of the container of decoder layers."""
PAD = 0
"""Id of the padding token, which no probe is made of: the model's configuration names it."""
SPREAD = 2.6
"""Standard deviation of logits."""


class KeysAndValues:
    """What has been read so far: keys and values [row, head, position, d_head] of every layer."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    @property
    def n_tokens(self) -> int:
        """How many tokens that is."""
        return self.keys[0].shape[2] if self.keys else 0

    def extended(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, with those of the latest tokens."""
        if layer == len(self.keys):
            self.keys.append(keys)
            self.values.append(values)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], keys], dim=2)
            self.values[layer] = torch.cat([self.values[layer], values], dim=2)
        return self.keys[layer], self.values[layer]


class Attention(nn.Module):
    """Causal attention with rotary positions; what it adds to the stream."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index
        self.query, self.key, self.value, self.out = (nn.Linear(D_MODEL, D_MODEL) for _ in range(4))

    def forward(self, stream: Tensor, angles: Tensor, cache: KeysAndValues | None = None) -> Tensor:
        """The sum of what the heads found."""
        queries, keys, values = (_split(part(stream)) for part in (self.query, self.key, self.value))
        queries, keys = rotated(queries, angles), rotated(keys, angles)
        if cache is not None:
            keys, values = cache.extended(self.index, keys, values)
        keys, values = self.remembered(keys), self.remembered(values)
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(D_HEAD)
        allowed = self.allowed(stream, n_keys=keys.shape[2])
        found = scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ values
        mixed: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return mixed

    def remembered(self, entries: Tensor) -> Tensor:
        """Keys or values as they are used."""
        return entries

    def allowed(self, stream: Tensor, *, n_keys: int) -> Tensor:
        """Which keys each query sees, [..., query, key]: those up to its own position."""
        last = torch.arange(n_keys - stream.shape[1], n_keys, device=stream.device)
        return torch.arange(n_keys, device=stream.device) <= last[:, None]


class FeedForward(nn.Module):
    """Two matrices with a GELU between them; what it adds to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(D_MODEL, 2 * D_MODEL), nn.Linear(2 * D_MODEL, D_MODEL)

    def forward(self, stream: Tensor) -> Tensor:
        """Every position by itself."""
        added: Tensor = self.down(nn.functional.gelu(self.up(stream)))
        return added


class Layer(nn.Module):
    """A pre-norm layer.

    Args:
        index: Its place in the stack.
        mixer: What makes its mixer.
        mlp: What makes its MLP.
    """

    def __init__(
        self,
        index: int,
        *,
        mixer: Callable[[int], nn.Module] = Attention,
        mlp: Callable[[], nn.Module] = FeedForward,
    ) -> None:
        super().__init__()
        self.index = index
        self.norm_1, self.norm_2 = nn.LayerNorm(D_MODEL), nn.LayerNorm(D_MODEL)
        self.mixer, self.mlp = mixer(index), mlp()

    def forward(self, stream: Tensor, angles: Tensor, cache: KeysAndValues | None = None) -> Tensor:
        """The stream after the layer."""
        stream = stream + self.mixer(self.norm_1(stream), angles, cache)
        added: Tensor = stream + self.mlp(self.norm_2(stream))
        return added


class Decoder(nn.Module):
    """Token ids [row, position] in, logits [row, position, D_VOCAB] out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(D_VOCAB, D_MODEL)
        self.layers = nn.ModuleList([self.make_layer(index) for index in range(N_LAYERS)])
        self.norm = nn.LayerNorm(D_MODEL)
        self.head = nn.Linear(D_MODEL, D_VOCAB)
        self.config = SimpleNamespace(pad_token_id=PAD)

    def make_layer(self, index: int) -> nn.Module:
        """One layer."""
        return Layer(index)

    def forward(self, input_ids: Tensor) -> Any:
        """Logits of every position."""
        stream = self.embed(input_ids)
        angles = self.angles(torch.arange(input_ids.shape[1], device=input_ids.device))
        return self.tail(self.through_layers(stream, angles))

    def through_layers(self, stream: Tensor, angles: Tensor) -> Tensor:
        """The stream after the last layer."""
        for layer in self.layers:
            stream = layer(stream, angles)
        return stream

    def tail(self, stream: Tensor) -> Tensor:
        """Logits of a stream."""
        logits: Tensor = self.head(self.norm(stream))
        return logits

    def angles(self, positions: Tensor) -> Tensor:
        """Angles of rotary positions, [..., position, D_HEAD / 2]."""
        rates = 30.0 ** -(torch.arange(D_HEAD // 2, device=positions.device) / (D_HEAD // 2))
        return positions[..., None] * rates


class CachingDecoder(Decoder):
    """The same, which goes on from a cache."""

    def forward(
        self, input_ids: Tensor, past_key_values: KeysAndValues | None = None, use_cache: bool = False
    ) -> dict[str, Any]:
        """Logits of the latest tokens, and what has been read by now."""
        cache = (past_key_values or KeysAndValues()) if use_cache else None
        n_before = 0 if cache is None else cache.n_tokens
        stream, angles = self.embed(input_ids), self.angles(self.positions(input_ids, n_before))
        for layer in self.layers:
            stream = layer(stream, angles, cache)
        found = {"logits": self.tail(stream)}
        return found if cache is None else found | {"past_key_values": cache}

    def positions(self, input_ids: Tensor, n_before: int) -> Tensor:
        """Position of every token: how many stand before it."""
        return torch.arange(n_before, n_before + input_ids.shape[1], device=input_ids.device)


def _split(entries: Tensor) -> Tensor:
    """Entries [row, position, d_model] by head: [row, head, position, d_head]."""
    return entries.unflatten(-1, (N_HEADS, D_HEAD)).transpose(1, 2)


def rotated(entries: Tensor, angles: Tensor) -> Tensor:
    """Entries turned by the angles of their positions."""
    angles = angles if angles.ndim == 2 else angles[:, None]
    one, other = entries.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([one * cos - other * sin, one * sin + other * cos], dim=-1)


@torch.no_grad()
def drawn(module: Decoder, *, seed: int = 0) -> Decoder:
    """The module in evaluation mode with no parameter at its default, all of them requiring gradients, logits spread.

    Args:
        module: What a constructor left.
        seed: Seed of all parameters.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = {id(part.weight) for part in module.modules() if isinstance(part, nn.LayerNorm)}
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        gain = 1.4 / math.sqrt(parameter.shape[-1]) if parameter.ndim > 1 else 0.25
        parameter.copy_((id(parameter) in norms) + gain * noise)
    module.embed.weight.mul_(0.8 * math.sqrt(D_MODEL) / 1.4)
    for index in range(N_LAYERS):
        for part in ("query", "key"):
            getattr(module.layers[index].mixer, part).weight.mul_(1.6)  # attention that prefers some tokens
    module.head.weight.mul_(SPREAD / 1.5)
    return module.eval()
