"""KV-cache bytes of placements, and how many layers may be kept within a budget of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from layertracer._errors import ModelError, UsageError
from layertracer._types.substitutes import Substitute
from layertracer.models import StateMap, UnusableCacheError
from layertracer.tracing import TracedModel

_OWN_REACH = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
"""What says how far layers of these kinds reach by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSizes:
    """What one text takes in a model's cache, layer by layer, as its own cache was seen to grow.

    Attributes:
        per_token: Bytes a token, by layer: keys and values.
        fixed: Bytes however long the text: recurrent and convolution states.
        longest: Tokens that a layer keeps at most, by layer, where it has a window or chunks of its own.
    """

    per_token: Mapping[int, int]
    fixed: Mapping[int, int]
    longest: Mapping[int, int] = field(default_factory=dict)

    def kept_tokens(self, layer: int, context: int) -> int:
        """Tokens that a layer keeps of a text."""
        return min(context, self.longest.get(layer, context))

    def full_bytes(self, context: int) -> int:
        """The whole model's cache of a text of that many tokens."""
        return sum(
            per_token * self.kept_tokens(layer, context) + self.fixed[layer]
            for layer, per_token in self.per_token.items()
        )

    def placed_bytes(
        self, kept: Collection[int], *, placeable: Collection[int], substitute: Substitute, context: int
    ) -> int:
        """The cache of the model with substitutes: a window keeps what it sees, other substitutes nothing."""
        gone = set(placeable) - set(kept)
        seen = min(context, substitute.n_seen)

        def taken(layer: int, per_token: int) -> int:
            n_tokens = self.kept_tokens(layer, context)
            n_tokens = min(n_tokens, seen) if layer in gone else n_tokens
            return per_token * n_tokens + (0 if layer in gone and not seen else self.fixed[layer])

        return sum(taken(layer, per_token) for layer, per_token in self.per_token.items())


def measure_cache(model: TracedModel) -> CacheSizes:
    """The sizes of a model's cache, found by running it.

    Raises:
        ModelError: If it returns no cache, or one that is not understood.
    """
    try:
        state = StateMap(model.network)
    except UnusableCacheError as error:
        raise ModelError(
            f"What the cache of {model.name!r} takes is not known: {error}. A budget needs a model that returns the "
            "cache it reads; say how many layers are kept instead, e.g. keep=(4, 8)."
        ) from error
    layers = range(model.anatomy.n_layers)
    fixed = {layer: state.layer_bytes(layer, 0) for layer in layers}
    per_token = {layer: state.layer_bytes(layer, 1) - fixed[layer] for layer in layers}
    if not any(per_token.values()):
        raise ModelError(
            f"The cache of {model.name!r} does not grow with the text: a budget says nothing of how many layers may be "
            "kept. Say how many, e.g. keep=(4, 8)."
        )
    return CacheSizes(per_token=per_token, fixed=fixed, longest=_find_longest(model))


def _find_longest(model: TracedModel) -> dict[int, int]:
    """Tokens that layers with a window or chunks of their own keep: all of these but the present one.

    Raises:
        ModelError: If a layer has one, and neither it nor the configuration says how long it is.
    """
    config: Any = getattr(model.module, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = {}
    for layer in model.anatomy.layers:
        name = _OWN_REACH.get(layer.mixer)
        if name is None:
            continue
        own = [getattr(part, name, None) for part in layer.module.modules()]
        size = next((one for one in (*own, getattr(config, name, None)) if isinstance(one, int)), None)
        if size is None:
            raise ModelError(
                f"What layer {layer.index} of {model.name!r} keeps in its cache is not known: it has a window of its "
                f"own ({layer.mixer}), and nothing says how long. Say how many layers are kept, e.g. keep=(4, 8)."
            )
        found[layer.index] = size - 1
    return found


def layers_within(
    sizes: CacheSizes, n_bytes: int, *, placeable: tuple[int, ...], substitute: Substitute, context: int
) -> int:
    """The largest number of layers that may be kept, whichever they are.

    Raises:
        UsageError: If not even none may be, or all may, so that there is nothing to choose.
    """
    by_size = sorted(placeable, key=lambda layer: (-sizes.per_token[layer] * sizes.kept_tokens(layer, context), layer))

    def taken(size: int) -> int:
        return sizes.placed_bytes(by_size[:size], placeable=placeable, substitute=substitute, context=context)

    within = [size for size in range(len(placeable) + 1) if taken(size) <= n_bytes]
    if not within:
        raise UsageError(
            f"A budget of {n_bytes:,} bytes is too small at a context of {context:,} tokens: with no layer kept, "
            f"{substitute.describe()} in all {len(placeable)} takes {taken(0):,} bytes. Give that at least, a shorter "
            "context, or a smaller window."
        )
    if within[-1] == len(placeable):
        raise UsageError(
            f"A budget of {n_bytes:,} bytes holds the whole model's cache at a context of {context:,} tokens "
            f"({sizes.full_bytes(context):,} bytes): all layers may be kept, and there is nothing to choose. Give a "
            "smaller budget, or a longer context."
        )
    return within[-1]
