"""Text that a model writes itself, where nobody gives any."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from layertracer._errors import NonFiniteError
from layertracer.models import (
    CachedCall,
    LayerCache,
    Network,
    UnusableCacheError,
    find_cached_call,
    find_logits,
    is_out_of_memory,
    without_gradients,
)
from layertracer.tracing._model import TracedModel

_TOLERANCE = 1e-2
_MOST_TOKENS = 4096
"""Tokens that are written side by side: what a cache of them takes stays small."""


@without_gradients()
def write_text(model: TracedModel, *, n_rows: int, n_tokens: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Rows that a model writes: tokens drawn from its own distribution, at temperature 1, one after the other.

    Each begins with the token that begins a text; where the model has none, with one drawn from its plain tokens. It
    goes on where the model would end.

    Laws: equal arguments give equal rows; no global seed is read or changed.

    Args:
        model: The model.
        n_rows: Number of rows.
        n_tokens: Tokens of each, the first among them.
        seed: Seed of the draws.

    Raises:
        NonFiniteError: If its logits are not finite.
    """
    network, generator = model.network, torch.Generator().manual_seed(seed)
    first = _first_tokens(network, n_rows, generator)
    cached = _find_cache(network, first)
    at_once = max(1, _MOST_TOKENS // n_tokens)
    parts = [_write(network, cached, part, n_tokens, generator) for part in first.split(at_once)]
    return tuple(tuple(row) for row in torch.cat(parts).tolist())


def _first_tokens(network: Network, n_rows: int, generator: torch.Generator) -> Tensor:
    """The token that each row begins with, [row, 1]."""
    begin = find_first_token(network)
    if begin is not None:
        return torch.full((n_rows, 1), begin)
    plain = network.anatomy.plain_tokens.cpu()
    return plain[torch.randint(len(plain), (n_rows, 1), generator=generator)]


def find_first_token(network: Network) -> int | None:
    """The token that begins a text, by the tokenizer or the configuration; None where neither names one."""
    places: tuple[Any, ...] = (network.tokenizer, getattr(network.module, "config", None))
    for name in ("bos_token_id", "eos_token_id"):
        for place in places:
            token = getattr(place, name, None)
            if isinstance(token, int) and 0 <= token < network.anatomy.n_input_tokens:
                return token
    return None


def _find_cache(network: Network, first: Tensor) -> CachedCall | None:
    """How the model goes on with its cache; None where it has none that gives what reading all again gives."""
    try:
        cached = find_cached_call(network.call, first[:1].to(network.device))
        probe = torch.cat((first[:1], first[:1], first[:1]), dim=1).to(network.device)
        _, cache = cached(probe[:, :1])
        _, cache = cached(probe[:, 1:2], cache)
        again, _ = cached(probe[:, 2:], cache)
        whole = find_logits(network.call(probe), probe)[:, -1:]
        return cached if torch.allclose(again.float(), whole.float(), rtol=_TOLERANCE, atol=_TOLERANCE) else None
    except UnusableCacheError:
        return None
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return None  # whatever a model's cache does: reading all again needs none


def _write(
    network: Network, cached: CachedCall | None, first: Tensor, n_tokens: int, generator: torch.Generator
) -> Tensor:
    """Rows of one batch, written to the end."""
    ids, cache = first, None
    while ids.shape[1] < n_tokens:
        logits, cache = _next_logits(network, cached, ids, cache)
        probs = logits.double().softmax(dim=-1).cpu()
        if not torch.isfinite(probs).all():
            raise NonFiniteError(
                f"{network.name!r} writes no text of its own: its logits behind {ids.shape[1]} tokens are not finite. "
                "Give a text, or see where they become so with layertracer inspect."
            )
        probs = probs[:, : network.anatomy.n_input_tokens]
        ids = torch.cat((ids, torch.multinomial(probs, 1, generator=generator)), dim=1)
    return ids


def _next_logits(
    network: Network, cached: CachedCall | None, ids: Tensor, cache: LayerCache | None
) -> tuple[Tensor, LayerCache | None]:
    """Logits behind some tokens, [row, d_vocab], and what has been read by now."""
    if cached is None:
        given = ids.to(network.device)
        return find_logits(network.call(given), given)[:, -1], None
    unread = ids if cache is None else ids[:, cache.n_tokens :]
    logits, cache = cached(unread.to(network.device), cache)
    return logits[:, -1], cache
