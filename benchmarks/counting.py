"""Arithmetic, counted while it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def _attention_flop(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Products of fused attention, from the shapes [batch, head, position, width]: scores, then weighted values."""
    batch, n_heads, n_queries, width = query
    return 2 * batch * n_heads * n_queries * key[-2] * (width + value[-1])


# PyTorch counts the fused attention of CUDA and, of a CPU's, only the one that is written out. As there, a causal
# kernel counts like one that looks everywhere.
_OF_CPUS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop}


def count_gflop(run: Callable[[], object]) -> float:
    """Arithmetic of all matrix products in `run`, in 10⁹ operations; a product and its addition are two."""
    with FlopCounterMode(display=False, custom_mapping=_OF_CPUS) as counter:
        run()
    return int(counter.get_total_flops()) / 1e9


@dataclass(slots=True)
class Passages:
    """How much has gone through some modules.

    Attributes:
        n_row_tokens: Tokens, over all rows, calls and modules.
    """

    n_row_tokens: int = 0


@contextmanager
def counting_row_tokens(products: Sequence[nn.Linear]) -> Iterator[Passages]:
    """Count the vectors that enter some matrix products, one product from each layer."""
    passages = Passages()

    def add(module: nn.Linear, inputs: tuple[torch.Tensor, ...]) -> None:
        passages.n_row_tokens += inputs[0].numel() // module.in_features

    handles = [product.register_forward_pre_hook(add) for product in products]
    try:
        yield passages
    finally:
        for handle in handles:
            handle.remove()
