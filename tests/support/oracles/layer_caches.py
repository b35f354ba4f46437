"""What a layer remembers, read off transformers' own cache classes by hand, and masked one prompt and layer at a time.

Nothing here is learned from LayerTracer, except which entries a scheme masks where a test passes that on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache

from tests.support.oracles.plain_hooks import js_bits

Masked = Callable[[str, int, int], NDArray[np.bool_]]
"""Which entries are masked, [slot, entry], of the tensor at a path with that many slots of that many entries."""


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """One tensor of one layer's memory.

    Attributes:
        path: Its path in the cache.
        slots: A view of it for one prompt, [slot, …]; the positions are in order.
    """

    path: str
    slots: Tensor


class CountedCache(DynamicCache):
    """Transformers' own cache told how many tokens it has taken in, for stacks in which no layer's memory tells it."""

    n_tokens = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """That number."""
        del layer_idx
        return self.n_tokens

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """How many keys there would be, from the first on."""
        del layer_idx
        return self.n_tokens + query_length, 0


def everything(path: str, n_slots: int, size: int) -> NDArray[np.bool_]:
    """All entries are masked."""
    del path
    return np.ones((n_slots, size), dtype=bool)


def remembered(name: str, cache: Any, *, layer: int, mixer: str) -> list[Remembered]:
    """A layer's memory after a prefix of one prompt.

    Args:
        name: Keyword of the cache.
        cache: The cache object.
        layer: Index of the layer.
        mixer: Kind of its mixer.
    """
    if mixer == "rwkv":  # one tensor for all layers: token shifts of both parts, numerator, denominator, maximum
        return [Remembered(path=f"['state'][{part}]", slots=cache[part][0, :, layer][None]) for part in range(5)]
    if mixer == "xlstm":  # its memory, normaliser and maximum
        path = f"['{name}'].rnn_state[{layer}]"
        return [Remembered(path=f"{path}[{part}]", slots=cache.rnn_state[layer][part][0][None]) for part in range(3)]
    own, path = cache.layers[layer], f"['{name}'].layers[{layer}]"
    if "attention" in mixer:
        return [
            Remembered(path=f"{path}.{part}", slots=getattr(own, part)[0].transpose(0, 1))
            for part in ("keys", "values")
        ]
    return [
        Remembered(path=f"{path}.{part}[0]", slots=getattr(own, part)[0][0][None])
        for part in ("conv_states", "recurrent_states")
    ]


@torch.no_grad()
def plain_state_js(
    module: nn.Module,
    ids: Sequence[int],
    masked: Masked,
    *,
    layer: int,
    mixer: str,
    n_after: int = 1,
    is_counted: bool = False,
) -> float:
    """JS divergence in bits when one layer forgets some of a prefix, the mean over the tokens that come after it.

    Args:
        module: A transformers model.
        ids: One prompt.
        masked: What is forgotten.
        layer: Index of the layer.
        mixer: Kind of its mixer.
        n_after: How many tokens come after the prefix.
        is_counted: Whether the model needs a `CountedCache`.
    """
    tokens = torch.tensor([list(ids)])
    clean = _log_probs(module(input_ids=tokens, use_cache=False).logits[0, -n_after:])
    given = {"past_key_values": CountedCache(config=module.config)} if is_counted else {}
    output = module(input_ids=tokens[:, :-n_after], use_cache=True, **given)
    name = next(name for name in ("past_key_values", "cache_params", "state") if name in output)
    for one in remembered(name, output[name], layer=layer, mixer=mixer):
        shape = one.slots.shape
        forgotten = torch.from_numpy(masked(one.path, shape[0], one.slots[0].numel()))
        one.slots[forgotten.reshape(shape)] = 0
    cache, bits = output[name], []
    for position in range(tokens.shape[1] - n_after, tokens.shape[1]):
        token = tokens[:, position][:, None]
        if isinstance(cache, CountedCache):
            cache.n_tokens = position
        output = module(input_ids=token, use_cache=True, **{name: cache})
        cache = output[name]
        bits.append(js_bits(clean[len(bits)], _log_probs(output.logits[0, -1])))
    return float(np.mean(bits))


def _log_probs(logits: Tensor) -> NDArray[np.float64]:
    return torch.log_softmax(logits.double(), dim=-1).numpy()
