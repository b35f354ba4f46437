"""A model of another configuration, with the weights of one that is loaded."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]  # it has no stubs
from torch import Tensor, nn

_KEPT_SETTINGS = ("_attn_implementation", "_experts_implementation")


def text_key(config: Any) -> str | None:
    """The name under which a configuration holds that of its language model; None where it is one itself."""
    inner = config.get_text_config()
    if inner is config:
        return None
    return next((name for name, value in vars(config).items() if value is inner), None)


def configured(module: nn.Module, settings: Mapping[str, Any]) -> nn.Module:
    """The model that Transformers would load if `settings` stood in the configuration's file, with the same weights.

    Weights are shared, not copied; buffers are made anew, as the configuration says.

    Args:
        module: A model of Transformers.
        settings: What is pasted into its configuration.

    Raises:
        Whatever the model's own classes raise for such settings.
    """
    written = _merged(module.config.to_dict(), settings)  # type: ignore[operator,union-attr]
    config = type(module.config).from_dict(copy.deepcopy(written))  # type: ignore[union-attr]
    for name in _KEPT_SETTINGS:
        if getattr(module.config, name, None) is not None:
            with contextlib.suppress(AttributeError):
                setattr(config, name, getattr(module.config, name))
    with (
        warnings.catch_warnings(),
        torch.random.fork_rng(devices=[]),  # nothing is drawn for weights without memory; that stays so
        init_empty_weights(include_buffers=False),
    ):
        warnings.simplefilter("ignore")
        made = type(module)(config)
    made.load_state_dict(module.state_dict(), strict=True, assign=True)
    made.tie_weights()  # type: ignore[operator]  # as models of Transformers have it
    _move_buffers(made, module)
    return made.eval()


def _merged(written: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings pasted into a configuration, those of a part of it into that part."""
    merged = dict(written)
    for name, value in settings.items():
        inner = merged.get(name)
        merged[name] = _merged(inner, value) if isinstance(value, Mapping) and isinstance(inner, dict) else value
    return merged


def _move_buffers(made: nn.Module, like: nn.Module) -> None:
    """Put buffers where the model is, in the types that those of the same names have there."""
    first: Tensor | None = next(like.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    own = dict(like.named_buffers())
    for path, buffer in list(made.named_buffers()):
        parent, _, name = path.rpartition(".")
        kept = buffer.to(device) if path not in own else buffer.to(own[path])
        made.get_submodule(parent)._buffers[name] = kept
