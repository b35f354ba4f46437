"""Windows the plain way: the miniature's own attention, called by Transformers with another mask."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def windowing(module: Any, kept: Collection[int], window: int) -> Iterator[None]:
    """In layers that are not kept, attention sees the last `window` tokens."""

    def narrow(attention: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        del attention
        distance = torch.arange(kwargs["hidden_states"].shape[1])
        distance = distance[:, None] - distance[None, :]
        is_seen = (distance >= 0) & (distance < window)
        mask = torch.zeros(is_seen.shape).masked_fill(~is_seen, -torch.inf)[None, None]
        return args, kwargs | {"attention_mask": mask}

    handles = [
        layer.self_attn.register_forward_pre_hook(narrow, with_kwargs=True)
        for index, layer in enumerate(module.model.layers)
        if index not in kept
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def divergences(module: Any, ids: Tensor, kept: Collection[int], window: int) -> Tensor:
    """KL(full ‖ windowed) by row and position, in nats."""
    full = module(input_ids=ids, use_cache=False).logits.log_softmax(-1)
    with windowing(module, kept, window):
        placed = module(input_ids=ids, use_cache=False).logits.log_softmax(-1)
    return torch.nn.functional.kl_div(placed, full, log_target=True, reduction="none").sum(-1)
