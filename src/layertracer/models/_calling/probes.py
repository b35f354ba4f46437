"""Probes of a model: random tokens without a special meaning, for its encoder too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layertracer.models._calling.call import ModelCall
from layertracer.models._calling.hooks import CallRecord

_FEW_TOKENS = 8
_SOURCE_LENGTHS = {5: 7, 13: 11}
"""Tokens for the encoder of a probe, by its own length: unlike it, so that their axes cannot be taken for one another,
and odd, so that they cannot be taken for a batch."""


def plain_token_ids(module: nn.Module, n_tokens: int) -> Tensor:
    """Token ids below `n_tokens` without a special meaning in the model's configuration, as an image's place has."""
    configs = (text_config(module), getattr(module, "config", None))
    settings = [item for config in configs for item in getattr(config, "__dict__", {}).items()]
    named = (value for name, value in settings if name.endswith(("token_id", "token_index")))
    special = {token for value in named for token in (value if isinstance(value, list | tuple) else [value])}
    return torch.tensor([token for token in range(n_tokens) if token not in special] or [0])


def probe_ids(allowed: Tensor, *, batch: int, length: int, device: torch.device, seed: int = 0) -> Tensor:
    """Random ids [batch, length] among the `allowed` ones."""
    generator = torch.Generator().manual_seed(seed)
    return allowed[torch.randint(0, len(allowed), (batch, length), generator=generator)].to(device)


def safe_tokens(module: nn.Module) -> Tensor:
    """A few token ids that every embedding of a model knows; the size of its vocabulary need not be known."""
    tables = [part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding)]
    return plain_token_ids(module, min([_FEW_TOKENS, *(size for size in tables if size > 1)]))


def probe_source(call: ModelCall, *, batch: int, length: int, device: torch.device, seed: int = 0) -> ModelCall:
    """The call with something for its encoder to read beside a probe of that size; the same call without one."""
    if not call.has_encoder:
        return call
    n_tokens = _SOURCE_LENGTHS.get(length, length + 2)
    tokens = safe_tokens(call.module)
    return call.reading(probe_ids(tokens, batch=batch, length=n_tokens, device=device, seed=seed + 1))


def known_tokens(calls: Sequence[CallRecord], ids: Tensor) -> int | None:
    """Number of token ids that the embedding knows, from what was fed to it; None where no table was fed them."""
    sizes = [
        call.module.num_embeddings
        for call in calls
        if isinstance(call.module, nn.Embedding)
        for _, leaf in call.inputs.tensors()
        if leaf.shape == ids.shape and torch.equal(leaf, ids)
    ]
    return max(sizes, default=None)


def text_config(module: nn.Module) -> Any:
    """The configuration of the text model, inside a multimodal one's where there is one; None without any."""
    config = getattr(module, "config", None)
    return getattr(config, "text_config", None) or config
