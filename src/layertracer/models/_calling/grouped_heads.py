"""Attention whose query heads share key heads, without a copy of the keys for each query head."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SWITCH = "TRANSFORMERS_SDPA_FORCE_GQA"


@contextmanager
def grouped_heads(device: torch.device) -> Iterator[None]:
    """Let Transformers leave the grouping of heads to PyTorch's attention on a CPU, where a mask is given too.

    Otherwise it copies each key and value once for every query head of its group, in every layer whose
    attention has a mask: more memory traffic than the attention itself. PyTorch's CPU kernel groups heads with
    and without a mask; what it computes is the same up to rounding. GPU kernels do not, and are left alone.

    Transformers asks the environment at every call. Versions that do not ask are as fast as before.

    Args:
        device: Where the model's attention runs.
    """
    if device.type != "cpu" or _SWITCH in os.environ:
        yield
        return
    os.environ[_SWITCH] = "1"
    try:
        yield
    finally:
        os.environ.pop(_SWITCH, None)
