"""Settings of a configuration that name what this machine may not have: types of numbers, code for attention."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import torch

from layertracer._errors import ModelLoadError, printable_name

_TYPE_NAMES = ("dtype", "torch_dtype")
_PACKAGES = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
"""The package that each implementation of attention is in."""


def refuse_unknown_types(settings: Mapping[str, Any], label: str) -> None:
    """Refuse a configuration whose weights shall have a type that does not exist.

    Raises:
        ModelLoadError: With the type.
    """
    inner = settings.get("text_config")
    for part in (settings, *([inner] if isinstance(inner, Mapping) else [])):
        for name in _TYPE_NAMES:
            value = part.get(name)
            if isinstance(value, str) and value != "auto" and not _is_type(value):
                raise ModelLoadError(
                    f"{label}: its config.json asks for {name} = {printable_name(value, at_most=60)!r}, which is no "
                    "type of weights. Expected one such as 'float32' or 'bfloat16'. Correct that setting."
                )


def use_attention_at_hand(config: Any) -> tuple[str, ...]:
    """A note where a configuration asks for attention out of a package that is not installed, which is then not used.

    Every implementation computes the same, up to rounding; transformers chooses one that is there.
    """
    wanted = getattr(config, "_attn_implementation", None)
    package = _PACKAGES.get(wanted) if isinstance(wanted, str) else None
    if package is None or importlib.util.find_spec(package) is not None:
        return ()
    config._attn_implementation = None
    note = (
        f"Its config.json asks for attention by {wanted}, and the package {package} is not installed: attention is "
        "computed by PyTorch."
    )
    return (note,)


def _is_type(name: str) -> bool:
    return isinstance(getattr(torch, name.removeprefix("torch."), None), torch.dtype)
