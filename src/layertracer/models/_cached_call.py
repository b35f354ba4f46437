"""A model run in two goes, with its own cache between them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from layertracer._errors import SiteError
from layertracer.models._call import ModelCall, find_logits
from layertracer.models._object_graph import find_tensors

Memory = dict[str, Any]
"""What a model remembers of the tokens that it has read: its cache objects, by the keyword that takes each back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedCall:
    """The way to run a model that keeps what it has read.

    Attributes:
        call: The model, told to use its cache.
        names: Keywords under which it returns its cache objects and takes them back.
    """

    call: ModelCall
    names: tuple[str, ...]

    def __call__(self, ids: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """Feed more tokens.

        Args:
            ids: Token ids [row, position].
            memory: What was read before; the model changes it in place. None for nothing.

        Returns:
            Logits [row, position, d_vocab], and what has been read by now.
        """
        call = replace(self.call, options={**self.call.options, **(memory or {})})
        output = call(ids)
        kept = _named(output)
        return find_logits(output, ids), {name: kept[name] for name in self.names}


def find_cached_call(call: ModelCall, ids: Tensor, *, model: str) -> CachedCall:
    """How a model hands out its cache and takes it back, from what it returns with a cache and not without.

    Args:
        call: The model.
        ids: Token ids [row, position] of a probe.
        model: Its name, for messages.

    Raises:
        SiteError: If it returns no cache that it would take back.
    """
    if "use_cache" not in call.options:
        raise _refusal(model, "its forward takes no use_cache")
    cached = replace(call, options={**call.options, "use_cache": True})
    without = {name for name, value in _named(call(ids)).items() if value is not None}
    output = _named(cached(ids))
    gained = [name for name, value in output.items() if name not in without and find_tensors(value)]
    takes = inspect.signature(call.module.forward).parameters
    names = tuple(name for name in gained if name in takes)
    if not names:
        found = f"it returns {', '.join(gained)}, which it does not take back" if gained else "it returns none"
        raise _refusal(model, f"{found} when told to use its cache")
    return CachedCall(call=cached, names=names)


def _named(output: Any) -> Mapping[str, Any]:
    if isinstance(output, Mapping):
        return output
    return getattr(output, "__dict__", {})


def _refusal(model: str, reason: str) -> SiteError:
    return SiteError(
        f"The site 'state' needs a model that keeps what it has read in a cache and takes it back; {model!r} does not: "
        f"{reason}. Use site='block_output'."
    )
