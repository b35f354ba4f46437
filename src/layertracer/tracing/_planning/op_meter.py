"""What running a model's own code takes: live bytes, arithmetic, traffic and operators, counted as it runs.

Every operator passes through the meter. The storage of what it returns is live from then on until
nothing refers to it any more, so that the largest sum ever live is what an allocator must hold. What
an operator takes for itself and gives back before it returns is not seen; it is small, but for logits.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass(frozen=True, slots=True)
class Reading:
    """What a meter shows.

    Attributes:
        live: Bytes that are live, of those that were allocated under the meter.
        peak: The most that were ever live since the peak was last let down.
        flops: Floating-point operations of products of matrices, convolutions and attention.
        traffic: Bytes read and written by all other operators.
        n_operators: Operators that computed something.
    """

    live: int
    peak: int
    flops: int
    traffic: int
    n_operators: int


class Meter(TorchDispatchMode):
    """Counts while it is on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self._known: dict[int, int] = {}
        self._live = self._peak = self._flops = self._traffic = self._n_operators = 0

    def reading(self) -> Reading:
        """What was counted so far."""
        return Reading(self._live, self._peak, self._flops, self._traffic, self._n_operators)

    def let_down(self) -> None:
        """Look for a peak anew, from what is live now."""
        self._peak = self._live

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count it; one that is made of others is taken apart first."""
        kwargs = kwargs or {}
        count = _FORMULAS.get(func._overloadpacket) if hasattr(func, "_overloadpacket") else None
        if count is None and hasattr(func, "decompose"):
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for tensor in given:
            self._take_in(tensor, n_bytes=0)  # what is seen first as an argument was there before
        result = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        is_new = [self._take_in(tensor) for tensor in made]
        if any(is_new) or func._schema.is_mutable:
            self._n_operators += 1
            if count is not None:
                self._flops += int(count(*args, **kwargs, out_val=result))
            elif func._overloadpacket in _LOOK_UPS:
                self._traffic += 2 * sum(tensor.nbytes for tensor in made)
            else:
                self._traffic += sum(tensor.nbytes for tensor in (*given, *made))
        return result

    def _take_in(self, tensor: Tensor, *, n_bytes: int | None = None) -> bool:
        """Note a tensor's storage until it is released; whether it is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return False
        size = storage.nbytes() if n_bytes is None else n_bytes
        self._known[key] = size
        self._live += size
        self._peak = max(self._peak, self._live)
        weakref.finalize(storage, self._release, key).atexit = False
        return True

    def _release(self, key: int) -> None:
        self._live -= self._known.pop(key)


def _attention_flops(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Two products of matrices for every head and pair of positions."""
    *batch, n_queries, width = query.shape
    n_pairs = n_queries * key.shape[-2]
    return 2 * n_pairs * (width + value.shape[-1]) * int(torch.Size(batch).numel())


_LOOK_UPS = frozenset(
    {torch.ops.aten.embedding, torch.ops.aten.index, torch.ops.aten.index_select, torch.ops.aten.gather}
)
"""Operators that read no more of a table than they return."""
_FORMULAS: dict[Any, Callable[..., int]] = {
    # Not among those that PyTorch knows a formula for.
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    **flop_registry,
}
