"""Shapes of a module's weights, told unread: quantised ones come in shapes and types of their own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN_TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def has_matrix(module: nn.Module, *, recurse: bool = True) -> bool:
    """Whether a module holds a weight matrix, as a parameter or, as some quantised formats do, packed in a buffer.

    Args:
        module: The module.
        recurse: Whether its parts count too.

    Example:
        >>> has_matrix(nn.Linear(2, 3)), has_matrix(nn.LayerNorm(3))
        (True, False)
    """
    parts = module.modules() if recurse else [module]
    return any(parameter.ndim >= 2 for parameter in module.parameters(recurse=recurse)) or any(
        tensor.ndim >= 2 and not tensor.is_floating_point() for part in parts for tensor in _packed(part)
    )


def is_quantised(module: nn.Module) -> bool:
    """Whether some weights of a module are packed or of a class of somebody's own.

    Example:
        >>> is_quantised(nn.Linear(2, 3))
        False
    """
    return any(True for part in module.modules() for _ in _packed(part)) or any(
        type(parameter) is not nn.Parameter for parameter in module.parameters()
    )


def count_parameters(module: nn.Module) -> int:
    """Number of parameters of a module; of a packed linear map, the number that it stands for.

    Example:
        >>> count_parameters(nn.Linear(2, 3))
        9
    """
    return sum(_count_own(part) for part in module.modules())


def named_weights(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter, and every buffer that checkpoints keep, by name; tied ones under each of their names.

    Example:
        >>> list(named_weights(nn.BatchNorm1d(3, affine=False)))
        ['running_mean', 'running_var', 'num_batches_tracked']
    """
    weights: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    for path, part in module.named_modules(remove_duplicate=False):
        # Buffers left out of checkpoints, such as rotary tables, may grow while a model runs. PyTorch keeps their
        # names in this attribute only.
        passing = part._non_persistent_buffers_set
        for name, buffer in part.named_buffers(recurse=False, remove_duplicate=False):
            if name not in passing:
                weights[f"{path}.{name}" if path else name] = buffer
    return weights


def _packed(module: nn.Module) -> Iterator[Tensor]:
    """A module's own tensors of whole numbers or 8-bit floating point, of those that belong to its weights."""
    own = chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))
    # Buffers that checkpoints leave out are masks and tables. PyTorch keeps their names in this attribute only.
    passing = module._non_persistent_buffers_set
    for name, tensor in own:
        if name not in passing and tensor.ndim >= 2 and tensor.dtype not in {*_PLAIN_TYPES, torch.bool}:
            yield tensor


def _count_own(module: nn.Module) -> int:
    own = dict(module.named_parameters(recurse=False))
    sizes: Any = (getattr(module, "in_features", None), getattr(module, "out_features", None))
    has_scales = any(name.startswith("weight_") for name in own)
    if all(isinstance(size, int) for size in sizes) and (has_scales or any(True for _ in _packed(module))):
        return int(sizes[0] * sizes[1]) + (own["bias"].numel() if "bias" in own else 0)
    return sum(parameter.numel() for parameter in own.values())
