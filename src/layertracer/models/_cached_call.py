"""A model run in two goes, with its own cache between them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from layertracer.models._call import ModelCall, find_logits
from layertracer.models._object_graph import find_tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
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
        takes_positions: Whether it can be told which positions the tokens have.
        keeps_few_logits: Whether it can be told to compute logits at the last position alone.
    """

    call: ModelCall
    names: tuple[str, ...]
    takes_positions: bool
    keeps_few_logits: bool

    def __call__(
        self, ids: Tensor, memory: Memory | None = None, *, with_positions: bool = False
    ) -> tuple[Tensor, Memory]:
        """Feed more tokens.

        Args:
            ids: Token ids [row, position].
            memory: What was read before; the model changes it in place. None for nothing.
            with_positions: Whether the model is told which positions the tokens have; most find that out themselves.

        Returns:
            Logits [row, position, d_vocab], and what has been read by now.
        """
        output, after = self._run(ids, memory, with_positions=with_positions)
        return find_logits(output, ids), after

    def remember(self, ids: Tensor, memory: Memory | None = None, *, with_positions: bool = False) -> Memory:
        """Feed more tokens, for what is remembered of them alone; see `__call__`."""
        few = {_FEW_LOGITS: 1} if self.keeps_few_logits else {}
        return self._run(ids, memory, with_positions=with_positions, **few)[1]

    def _run(self, ids: Tensor, memory: Memory | None, *, with_positions: bool, **options: Any) -> tuple[Any, Memory]:
        n_before, n_after = (0 if memory is None else memory.n_tokens), ids.shape[1]
        options |= {**self.call.options, **({} if memory is None else memory.caches)}
        if with_positions:
            options["position_ids"] = torch.arange(n_before, n_before + n_after, device=ids.device).expand(len(ids), -1)
        output = replace(self.call, options=options)(ids)
        kept = _named(output)
        return output, Memory(caches={name: kept[name] for name in self.names}, n_tokens=n_before + n_after)


_FEW_LOGITS = "logits_to_keep"


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
    output = _named(cached(ids))
    gained = [name for name, value in output.items() if name not in without and find_tensors(value)]
    takes = inspect.signature(call.module.forward).parameters
    names = tuple(name for name in gained if name in takes)
    if not names:
        found = f"it returns {', '.join(gained)}, which it does not take back" if gained else "it returns none"
        raise UnusableCacheError(f"{found} when told to use its cache")
    return CachedCall(
        call=cached, names=names, takes_positions="position_ids" in takes, keeps_few_logits=_FEW_LOGITS in takes
    )


def _named(output: Any) -> Mapping[str, Any]:
    if isinstance(output, Mapping):
        return output
    return getattr(output, "__dict__", {})
