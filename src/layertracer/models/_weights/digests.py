"""SHA-256 of the values of tensors: what tells weights apart, in a model, in a file and on any device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

_CHUNK_BYTES = 64 * 2**20
"""What is copied at a time of a tensor that does not lie in main memory as one piece."""


def digest_values(tensor: Tensor) -> str | None:
    """SHA-256 over a tensor's bytes in the order of its indices, as hexadecimal digits.

    Laws: equal bits give equal digests on every device and in every memory layout; one other bit gives another one (two
    contents of one digest are not known to exist). Tensors that are made of tensors, as quantised ones are, are taken
    part by part, with names, shapes and types.

    Args:
        tensor: Of any type and shape; name, shape and type do not enter.

    Returns:
        None where the values cannot be read: on the meta device, in a memory that is gone, of a class that shows none.
    """
    digest = hashlib.sha256()
    try:
        for piece in _pieces(tensor.detach()):
            digest.update(piece)
    # Tensors of somebody's own class and devices that failed raise whatever they like; a record must not be lost to it.
    except Exception:  # noqa: BLE001
        return None
    return digest.hexdigest()


def digest_all(tensors: Mapping[str, Tensor]) -> dict[str, str | None]:
    """`digest_values` of several tensors by name, those that are one object once, on as many threads as PyTorch has."""
    distinct = list({id(tensor): tensor for tensor in tensors.values()}.values())
    n_threads = min(torch.get_num_threads(), len(distinct))
    if n_threads > 1:  # hashing runs beside Python
        with ThreadPoolExecutor(n_threads) as pool:
            digests = list(pool.map(digest_values, distinct))
    else:
        digests = [digest_values(tensor) for tensor in distinct]
    found = {id(tensor): digest for tensor, digest in zip(distinct, digests, strict=True)}
    return {name: found[id(tensor)] for name, tensor in tensors.items()}


def _pieces(tensor: Tensor) -> Iterator[bytes | memoryview]:
    if hasattr(tensor, "__tensor_flatten__"):
        yield from _pieces_of_parts(tensor)
        return
    if type(tensor) not in {Tensor, nn.Parameter}:
        tensor = tensor.as_subclass(Tensor)
    if tensor.is_meta:
        raise ValueError("a tensor on the meta device has no values")
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor.resolve_conj().resolve_neg()
    if tensor.numel() == 0:
        return
    if tensor.is_contiguous() and tensor.device.type == "cpu":
        yield _bytes_of(tensor)
        return
    rows = tensor.reshape(1) if tensor.ndim == 0 else tensor
    n_rows = max(1, _CHUNK_BYTES * rows.shape[0] // (rows.numel() * rows.element_size()))
    for chunk in rows.split(n_rows):
        yield _bytes_of(chunk.contiguous().cpu())


def _pieces_of_parts(tensor: Any) -> Iterator[bytes | memoryview]:
    names, _ = tensor.__tensor_flatten__()
    for name in sorted(names):
        part = getattr(tensor, name)
        yield f"{name!r}\t{tuple(part.shape)}\t{part.dtype}\n".encode()
        yield from _pieces(part.detach())


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor in main memory, not copied."""
    numbers: Any = tensor.reshape(-1).view(torch.uint8).numpy()  # a buffer, which NumPy's types do not say
    return memoryview(numbers)
