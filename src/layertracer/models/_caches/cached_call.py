"""KV cache in use: a model run in two goes, with its own cache between them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from layertracer._errors import printable_cause
from layertracer.models._calling.call import ModelCall, find_logits
from layertracer.models._calling.object_graph import find_tensors
from layertracer.models._calling.out_of_memory import is_out_of_memory
from layertracer.models._calling.wrappers import forward_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCache:
    """What a model remembers of the tokens that it has read.

    Attributes:
        caches: Its cache objects, by the keyword that takes each back.
        n_tokens: How many tokens it has read.
    """

    caches: dict[str, Any]
    n_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedCall:
    """The way to run a model that keeps what it has read.

    Attributes:
        call: The model, told to use its cache.
        names: Keywords under which it returns its cache objects and takes them back.
        takes_positions: Whether it can be told which positions the tokens have, and is not told anyway.
        keeps_few_logits: Whether it can be told to compute logits at the last position alone.
        counts: Whether tokens are counted for it: positions and a mask stand in for what its cache cannot tell.
    """

    call: ModelCall
    names: tuple[str, ...]
    takes_positions: bool
    keeps_few_logits: bool
    counts: bool = False

    def __call__(
        self, ids: Tensor, cache: LayerCache | None = None, *, with_positions: bool = False
    ) -> tuple[Tensor, LayerCache]:
        """Feed more tokens.

        Args:
            ids: Token ids [row, position].
            cache: What was read before; the model changes it in place. None for nothing.
            with_positions: Whether the model is told which positions the tokens have; most find that out themselves.

        Returns:
            Logits [row, position, d_vocab], and what has been read by now.
        """
        output, after = self._run(ids, cache, with_positions=with_positions)
        return find_logits(output, ids), after

    def remember(
        self, ids: Tensor, cache: LayerCache | None = None, *, with_positions: bool = False, few_logits: bool = False
    ) -> LayerCache:
        """Feed more tokens, for what is remembered of them alone; see `__call__`.

        Args:
            ids: Token ids [row, position].
            cache: What was read before.
            with_positions: Whether the model is told which positions the tokens have.
            few_logits: Whether it may compute logits at the last position alone, where it can.
        """
        few = {_FEW_LOGITS: 1} if few_logits and self.keeps_few_logits else {}
        return self._run(ids, cache, with_positions=with_positions, **few)[1]

    def _run(
        self, ids: Tensor, cache: LayerCache | None, *, with_positions: bool, **options: Any
    ) -> tuple[Any, LayerCache]:
        n_before, n_after = (0 if cache is None else cache.n_tokens), ids.shape[1]
        options |= {**self.call.options, **({} if cache is None else cache.caches)}
        if with_positions:
            options[_POSITIONS] = _positions(ids, n_before)
        if self.counts:
            options |= _counted(ids, n_before)
        output = replace(self.call, options=options)(ids)
        kept = _named(output)
        return output, LayerCache(caches={name: kept[name] for name in self.names}, n_tokens=n_before + n_after)


_FEW_LOGITS, _POSITIONS, _MASK = "logits_to_keep", "position_ids", "attention_mask"


def _positions(ids: Tensor, n_before: int) -> Tensor:
    return torch.arange(n_before, n_before + ids.shape[1], device=ids.device).expand(len(ids), -1)


def _counted(ids: Tensor, n_before: int) -> dict[str, Tensor]:
    """What a model is given that would otherwise ask its cache for a length.

    Transformers' models do so to make positions and masks, also where no layer attends and the cache cannot tell. A
    mask that is ready is not made. This one lets nothing through, so that no layer can read it unnoticed: it would say
    something else than without a cache.
    """
    closed = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=ids.device)
    return {_POSITIONS: _positions(ids, n_before), _MASK: closed}


class UnusableCacheError(Exception):
    """A model has no cache that can be understood; the message says why, as the end of a sentence."""


def find_cached_call(call: ModelCall, ids: Tensor) -> CachedCall:
    """How a model hands out its cache and takes it back, from what it returns with a cache and not without.

    Args:
        call: The model.
        ids: Token ids [row, position] of a probe.

    Raises:
        UnusableCacheError: If it returns no cache that it would take back.
    """
    if "use_cache" not in call.options:
        raise UnusableCacheError("its forward takes no use_cache")
    cached = replace(call, options={**call.options, "use_cache": True})
    without = {name for name, value in _named(call(ids)).items() if value is not None}
    output, counts = _first_output(cached, ids)
    gained = [name for name, value in output.items() if name not in without and find_tensors(value)]
    takes = _parameters(call)
    names = tuple(name for name in gained if name in takes)
    if not names:
        found = f"it returns {', '.join(gained)}, which it does not take back" if gained else "it returns none"
        raise UnusableCacheError(f"{found} when told to use its cache")
    return CachedCall(
        call=cached,
        names=names,
        takes_positions=_POSITIONS in takes and not counts,
        keeps_few_logits=_FEW_LOGITS in takes,
        counts=counts,
    )


def _first_output(cached: ModelCall, ids: Tensor) -> tuple[Mapping[str, Any], bool]:
    """What a model returns with a cache, by name, and whether tokens had to be counted for it.

    Raises:
        Whatever the model raises, where counting for it does not help.
    """
    try:
        return _named(cached(ids)), False
    except Exception as error:
        if is_out_of_memory(error) or not {_POSITIONS, _MASK} <= set(_parameters(cached)):
            raise
        complaint = error
    try:
        return _named(replace(cached, options={**cached.options, **_counted(ids, 0)})(ids)), True
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise complaint from printable_cause(error)


def _parameters(call: ModelCall) -> Mapping[str, inspect.Parameter]:
    return forward_parameters(call.module)


def _named(output: Any) -> Mapping[str, Any]:
    if isinstance(output, Mapping):
        return output
    return getattr(output, "__dict__", {})
