"""The kind of a mixer and of an MLP: from the parameters they hold and from what they do.

Names of classes decide nothing. A configuration's own word on windows is used where a window is
longer than the probe and cannot be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from layertracer.models._roles import REACH_ALL, Part
from layertracer.models._wiring import PROBE_LENGTHS


def mixer_kind(parts: Sequence[Part], *, index: int, n_layers: int, config: Any) -> str:
    """The kind of a layer's mixer, "a+b" for two in parallel, "none" where nothing mixes positions."""
    kinds = [
        _one_mixer_kind(part, index=index, n_layers=n_layers, config=config) for part in parts if part.role == "mixer"
    ]
    return "+".join(dict.fromkeys(kinds)) or "none"


def mlp_kind(parts: Sequence[Part]) -> str:
    """The kind of a layer's MLP: "dense", "experts" or "none"."""
    modules = [part.module for part in parts if part.role == "mlp"]
    if not modules:
        return "none"
    return "experts" if any(_has_experts(module) for module in modules) else "dense"


def _one_mixer_kind(part: Part, *, index: int, n_layers: int, config: Any) -> str:
    if part.has_softmax:
        return "sliding_attention" if _has_window(part, index=index, n_layers=n_layers, config=config) else "attention"
    return _recurrent_kind(part.module)


def _recurrent_kind(module: nn.Module) -> str:
    """The kind of a mixer without a softmax, from the parameters that define its recurrence."""
    axes = {name.rsplit(".", 1)[-1]: parameter.ndim for name, parameter in module.named_parameters()}
    if "A_log" in axes:
        if axes["A_log"] == 2:
            return "mamba"  # one decay per channel and state
        return "mamba2" if "D" in axes else "gated_deltanet"  # one per head; only Mamba2 has a skip D
    if "time_decay" in axes or "time_first" in axes:
        return "rwkv"
    if any(name.startswith("recurrent_") for name in axes):
        return "rg_lru"
    if any("igate" in name or "fgate" in name for name, _ in module.named_modules()):
        return "xlstm"
    if any(isinstance(part, nn.Conv1d) for part in module.modules()) and not _has_decay(axes):
        return "conv"
    return "linear_attention"


def _has_decay(axes: dict[str, int]) -> bool:
    return any("decay" in name or "dt_" in name for name in axes)


def _has_window(part: Part, *, index: int, n_layers: int, config: Any) -> bool:
    """Whether attention sees a window only: measured where the window is short, else as configured."""
    window = _configured_window(part.module, index=index, n_layers=n_layers, config=config)
    if window is None or window < PROBE_LENGTHS[1]:
        return part.reach < REACH_ALL
    return True


def _configured_window(module: nn.Module, *, index: int, n_layers: int, config: Any) -> int | None:
    own = getattr(module, "sliding_window", None)
    if isinstance(own, int):
        return own
    window = getattr(config, "sliding_window", None)
    if not isinstance(window, int) or getattr(config, "use_sliding_window", True) is False:
        return None
    kinds = getattr(config, "layer_types", None)
    if isinstance(kinds, list | tuple) and len(kinds) == n_layers:
        return window if "sliding" in str(kinds[index]) else None
    return window


def _has_experts(module: nn.Module) -> bool:
    """Whether weights come in parallel copies: a list of alike modules, or one tensor with an axis for them."""
    for part in module.modules():
        if isinstance(part, nn.ModuleList):
            classes = {type(child) for child in part if any(True for _ in child.parameters())}
            if len(part) > 1 and len(classes) == 1:
                return True
        if not isinstance(part, nn.modules.conv._ConvNd):
            own = [parameter for _, parameter in part.named_parameters(recurse=False)]
            if any(parameter.ndim == 3 and parameter.shape[0] > 1 for parameter in own):
                return True
    return False
