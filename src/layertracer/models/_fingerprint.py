"""A short name for a network's weights: equal for equal weights, whatever they were loaded from or onto."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layertracer.models._offload import read_weight

_SAMPLED_BYTES = 16 * 2**20
"""How much of a large output embedding is hashed; a checksum covers the rest."""

_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over the weights' names, shapes and types and over the output embedding's values.

    Laws: equal weights give equal fingerprints, on every device; another shape, name or type, or another value in the
    output embedding, gives another fingerprint.

    A large output embedding enters by evenly spaced rows and by a checksum over all of its bits. An offloaded
    one is fetched for that. Packed (quantised) weights, and such as nothing loads, enter by name, shape and type only.

    Args:
        module: Any network. Its output embedding is what `get_output_embeddings` gives, else the last weight matrix.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> fingerprint(nn.Linear(2, 3)) == fingerprint(nn.Linear(2, 4))
        False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(_persistent_tensors(module), key=lambda pair: pair[0]):
        digest.update(f"{name}\t{tuple(tensor.shape)}\t{tensor.dtype}\n".encode())
    head = _output_embedding(module)
    head = None if head is None else read_weight(module, head)
    if head is not None and _is_readable(head):
        _add_values(digest, head.detach())
    return digest.hexdigest()


def _persistent_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter, and every buffer that belongs to the weights; tied ones under each of their names."""
    yield from module.named_parameters(remove_duplicate=False)
    for path, part in module.named_modules(remove_duplicate=False):
        # Buffers left out of checkpoints, such as rotary tables, may grow while a model runs. PyTorch keeps their
        # names in this attribute only.
        passing = part._non_persistent_buffers_set
        for name, buffer in part.named_buffers(recurse=False, remove_duplicate=False):
            if name not in passing:
                yield f"{path}.{name}" if path else name, buffer


def _output_embedding(module: nn.Module) -> Tensor | None:
    getter: Any = getattr(module, "get_output_embeddings", None)
    if callable(getter):
        try:
            weight = getattr(getter(), "weight", None)
        except (NotImplementedError, AttributeError):
            weight = None
        if isinstance(weight, Tensor):
            return weight
    matrices = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    return matrices[-1] if matrices else None


def _is_readable(weight: Tensor) -> bool:
    """Whether these are plain numbers in memory: not offloaded, packed or of a class of somebody's own."""
    is_plain = type(weight) in {Tensor, nn.Parameter}
    return is_plain and weight.layout == torch.strided and not weight.is_meta and weight.is_floating_point()


def _add_values(digest: hashlib._Hash, weight: Tensor) -> None:
    if weight.numel() == 0:
        return
    rows = weight.reshape(weight.shape[0], -1)
    n_rows_at_once = max(1, _SAMPLED_BYTES // (rows.shape[1] * rows.element_size()))
    step = -(-rows.shape[0] // n_rows_at_once)
    sampled = rows[::step].contiguous().cpu()
    digest.update(sampled.view(torch.uint8).numpy().tobytes())
    if step > 1:
        # Whole numbers add up to the same in any order, so on any device; floating-point numbers do not.
        kind = _WHOLE_NUMBERS[rows.element_size()]
        digest.update(
            str(sum(_checksum(chunk.contiguous().view(kind)) for chunk in rows.split(n_rows_at_once))).encode()
        )


def _checksum(numbers: Tensor) -> int:
    if numbers.device.type == "cpu":
        return int(numbers.numpy().sum(dtype=np.int64))  # many times as fast as PyTorch, which widens all of them first
    return int(numbers.sum(dtype=torch.int64))
