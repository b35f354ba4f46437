"""Wrappers of training and torch.compile: the model taken out of them, and run as it is written."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from layertracer._errors import AnatomyError

_COMPILED = "_orig_mod"  # under this name torch.compile keeps the module that it compiles
_SHARDED = "_fsdp_wrapped_module"


def unwrap(module: nn.Module) -> nn.Module:
    """The model itself, out of what computes the same with it: torch.compile, data parallelism, averaged weights.

    Their own `forward` would hide how the model is called, and run several copies of it, or a compiled one that hooks
    do not reach.

    Raises:
        AnatomyError: If its weights are sharded in one flat tensor, so that its layers have none of their own.

    Example:
        >>> inner = nn.Linear(2, 3)
        >>> unwrap(nn.DataParallel(inner)) is inner
        True
    """
    while True:
        if isinstance(module, DataParallel | DistributedDataParallel | AveragedModel):
            module = module.module
        elif _COMPILED in module._modules:
            module = module.get_submodule(_COMPILED)
        elif any(_SHARDED in part._modules for part in module.modules()):
            raise AnatomyError(
                f"{type(module).__name__} is sharded by FullyShardedDataParallel: between its calls the layers hold no "
                "weights of their own, and LayerTracer calls them one by one. Gather the weights "
                "(FullyShardedDataParallel.summon_full_params, or save a full state dict), and wrap the plain model."
            )
        else:
            return module


def forward_parameters(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    """What a module's `forward` can be told by name; where an adapter of peft hands all of it on, what its model can.

    A prompt that was learnt puts tokens of its own in front, and an activated adapter (aLoRA) looks for some among the
    token ids: neither can go on from a cache as its model can.
    """
    configs = getattr(module, "peft_config", None)
    base: Any = getattr(module, "get_base_model", None)
    hands_on = isinstance(configs, Mapping) and not any(map(_reads_the_prompt, configs.values()))
    inner = base() if hands_on and callable(base) else module
    return inspect.signature(inner.forward).parameters


def _reads_the_prompt(config: Any) -> bool:
    return bool(getattr(config, "is_prompt_learning", False) or getattr(config, "alora_invocation_tokens", None))


def is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile was applied to the module or to any part of it, in place or around it."""
    return any(part._compiled_call_impl is not None or _COMPILED in part._modules for part in module.modules())


@contextmanager
def eagerly(wanted: bool) -> Iterator[None]:
    """Compiled code runs as it is written within, where that is wanted.

    A compiled part is compiled together with the hooks that it had at the time. Hooks that come and go would compile
    it anew each time, or be passed over.
    """
    if not wanted:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
