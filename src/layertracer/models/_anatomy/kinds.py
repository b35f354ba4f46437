"""Kinds of a mixer and of an MLP: from the parameters they hold and from what they do.

Names of classes decide nothing. A configuration's own word on windows and blocks is used where they
are longer than the probe and cannot be measured, except for the families in `_UNUSED_WINDOWS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from layertracer.models._anatomy.attention_form import ObservedPart, is_chunked, is_latent, selects_positions
from layertracer.models._anatomy.mixer_and_mlp import REACH_ALL, Part
from layertracer.models._anatomy.wiring import PROBE_LENGTHS
from layertracer.models._calling.operators import operators_of, sizes_of

_UNUSED_WINDOWS: Mapping[str, str] = {
    "moshi": "keeps a sliding_window in its configuration and its attention, and applies none",
    "moshi_depth": "likewise, in its depth decoder",
}
"""Model types whose configured window is not to be believed, with the reason."""


def mixer_kind(parts: Sequence[tuple[Part, ObservedPart]], *, index: int, n_layers: int, config: Any) -> str:
    """The kind of a layer's mixer, "a+b" for two in parallel, "none" where nothing mixes positions."""
    kinds = list(
        dict.fromkeys(
            _one_mixer_kind(part, seen, index=index, n_layers=n_layers, config=config) for part, seen in parts
        )
    )
    # A short convolution beside another mixer belongs to that branch; alone it is the mixer.
    return "+".join([kind for kind in kinds if kind != "conv"] or kinds) or "none"


def mlp_kind(parts: Sequence[tuple[Part, ObservedPart]], *, adding: Collection[nn.Module] = ()) -> str:
    """The kind of a layer's MLP: "dense", "experts" or "none".

    Args:
        parts: Its parts.
        adding: Modules behind what it adds to the stream, for layers whose parts cannot be told apart.
    """
    if not parts:
        return ("experts" if any(map(_has_experts, adding)) else "dense") if adding else "none"
    return "experts" if any(_has_experts(part.module) or _routes(seen) for part, seen in parts) else "dense"


def _one_mixer_kind(part: Part, seen: ObservedPart, *, index: int, n_layers: int, config: Any) -> str:
    if not part.has_softmax:
        return _recurrent_kind(part.module)
    if is_latent(seen):
        return "latent_attention"
    if selects_positions(seen):
        return "sparse_attention"
    configured = _configured_span(part.module, index=index, n_layers=n_layers, config=config)
    if configured is not None:
        return configured
    if part.reach == REACH_ALL:
        return "attention"
    return "chunked_attention" if is_chunked(seen) else "sliding_attention"


def _recurrent_kind(module: nn.Module) -> str:
    """The kind of a mixer without a softmax, from the parameters that define its recurrence."""
    classic = next((part for part in module.modules() if isinstance(part, nn.RNNBase)), None)
    if classic is not None:
        return {"LSTM": "lstm", "GRU": "gru"}.get(classic.mode, "rnn")
    held = {name.rsplit(".", 1)[-1]: parameter for name, parameter in module.named_parameters()}
    if "A_log" in held:
        return _state_space_kind(held)
    if "time_decay" in held or "time_first" in held:
        return "rwkv"
    if any(name.startswith("recurrent_") for name in held):
        return "rg_lru"
    if any("igate" in name or "fgate" in name for name, _ in module.named_modules()):
        return "xlstm"
    if any("decay" in name or "slope" in name for name, _ in module.named_buffers()):
        return "lightning_attention"  # decays that are given, not learnt
    if any(isinstance(part, nn.Conv1d) for part in module.modules()) and not _has_decay(held):
        return "conv"
    return "linear_attention"


def _state_space_kind(held: Mapping[str, nn.Parameter]) -> str:
    """The kind of a recurrence with a learnt decay; only the Mambas have a skip D."""
    decay = held["A_log"]
    if "D" in held:
        # One decay per channel and state in the first Mamba, one per head in the second.
        return "mamba" if sum(size > 1 for size in decay.shape) > 1 else "mamba2"
    bias = held.get("dt_bias")
    # A decay of its own for every channel is what Kimi's delta rule adds to Gated DeltaNet's one per head.
    return "kimi_delta_attention" if bias is not None and bias.numel() > decay.numel() else "gated_deltanet"


def _has_decay(names: Iterable[str]) -> bool:
    return any("decay" in name or "dt_" in name for name in names)


def _configured_span(module: nn.Module, *, index: int, n_layers: int, config: Any) -> str | None:
    """The window or block that is configured, where it is too long to be measured; None elsewhere."""
    if getattr(config, "model_type", None) in _UNUSED_WINDOWS:
        return None
    block = getattr(config, "attention_chunk_size", None)
    if isinstance(block, int) and block >= PROBE_LENGTHS[1] and _is_of_type("chunk", index, n_layers, config):
        return "chunked_attention"
    window = _configured_window(module, index=index, n_layers=n_layers, config=config)
    return "sliding_attention" if window is not None and window >= PROBE_LENGTHS[1] else None


def _is_of_type(fragment: str, index: int, n_layers: int, config: Any) -> bool:
    """Whether the configuration's list of layer types says so of a layer."""
    kinds = getattr(config, "layer_types", None)
    return isinstance(kinds, list | tuple) and len(kinds) == n_layers and fragment in str(kinds[index])


def _configured_window(module: nn.Module, *, index: int, n_layers: int, config: Any) -> int | None:
    own = getattr(module, "sliding_window", None)
    if isinstance(own, int):
        return own
    window = getattr(config, "sliding_window", None)
    if not isinstance(window, int) or getattr(config, "use_sliding_window", True) is False:
        return None
    kinds = getattr(config, "layer_types", None)
    if isinstance(kinds, list | tuple) and len(kinds) == n_layers:
        return window if _is_of_type("sliding", index, n_layers, config) else None
    return window


def _routes(part: ObservedPart) -> bool:
    """Whether it picks among experts: by a top-k, or by an argmax of what was normed over them."""
    operators = operators_of(part.larger)
    return bool(sizes_of(operators, "topk")) or bool(sizes_of(operators, "argmax"))


def _has_experts(module: nn.Module) -> bool:
    """Whether weights come in parallel copies: a list of alike modules, or one tensor with an axis for them."""
    for part in module.modules():
        if isinstance(part, nn.ModuleList | nn.ModuleDict):
            classes = {type(child) for child in part.children() if any(True for _ in child.parameters())}
            if len(part) > 1 and len(classes) == 1:
                return True
        if not isinstance(part, nn.modules.conv._ConvNd):
            own = [parameter for _, parameter in part.named_parameters(recurse=False)]
            if any(parameter.ndim == 3 and parameter.shape[0] > 1 for parameter in own):
                return True
    return False
