"""Configuration to paste for a placement, only where what it configures is proved to be the placed model."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layertracer._errors import LayerTracerError
from layertracer._types import Substitute, Window
from layertracer.advice import FULL, SLIDING, flash_linear_attention, windows_by_type
from layertracer.hybrids._snippets.configured import configured, text_key
from layertracer.models import is_out_of_memory, without_gradients
from layertracer.tracing import JudgedRow, TracedModel, make_substituter

_LOG = logging.getLogger("layertracer")

_PROBE_WINDOW, _PROBE_TOKENS, _PROBE_ROWS, _WIDE = 5, 24, 2, 96
_LEAST_NATS = 1e-6
_TOLERANCE_NATS, _TOLERANCE_SHARE = 1e-5, {torch.float32: 1e-3, torch.float64: 1e-3}
_COARSE_NATS, _COARSE_SHARE = 1e-3, 0.2

_QUERY_BIASES = ("q_proj.bias", "qkv_proj.bias", "query_key_value.bias", "c_attn.bias", "query.bias")
"""How biases of query projections are called: not every configuration has a word for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """What is pasted into a configuration for a placement.

    Attributes:
        config: The settings; None where no configuration says the same.
        reason: Why there are none; "" where there are.
    """

    config: Mapping[str, Any] | None = None
    reason: str = ""


@without_gradients()
def config_snippet(
    model: TracedModel, substitute: Substitute, kept: Collection[int], placeable: Collection[int]
) -> Snippet:
    """Settings by which plain Transformers loads the placed model, proved on a probe.

    The family is not looked up in a list: the model is built anew with the settings and the weights that are loaded,
    and must diverge from the full model exactly as the placed one does. The proof has a window of five tokens and a
    probe of 24, whatever the window asked for: what is proved is which layers have a window, and that nothing else
    changes.

    Args:
        model: The model.
        substitute: What stands in the layers that are not kept.
        kept: The layers that are.
        placeable: The layers in which it can stand.
    """
    reason = _why_never(model, substitute)
    if reason:
        return Snippet(reason=reason)
    window = cast("Window", substitute)
    types = _types(model)
    reason = _why_not_one_size(model, types, kept=kept, size=window.size)
    if reason:
        return Snippet(reason=reason)
    try:
        reason = _why_not_proved(model, types, kept=kept, placeable=placeable)
    except Exception as error:  # noqa: BLE001 - whatever a family's own classes raise for settings that are not theirs
        if is_out_of_memory(error):
            reason = "There is no memory to prove that the configuration says the same."
        else:
            what = str(error) if isinstance(error, LayerTracerError) else f"{type(error).__name__}: {error}"
            reason = f"{_config_name(model)} does not take the settings ({' '.join(what.split())[:200]})."
        _LOG.debug("%s: no configuration for a placement", model.name, exc_info=True)
    if reason:
        return Snippet(reason=reason)
    return Snippet(config=_settings(model, types, kept=kept, placeable=placeable, size=window.size))


def snippets_for(
    model: TracedModel, substitute: Substitute, placements: Mapping[int, Collection[int]], placeable: Collection[int]
) -> tuple[dict[int, Mapping[str, Any] | None], str]:
    """Settings for several placements, by how many layers they keep, and why one has none; "" where all have some."""
    found = {n_kept: config_snippet(model, substitute, kept, placeable) for n_kept, kept in placements.items()}
    reasons = dict.fromkeys(one.reason for one in found.values() if one.reason)
    return {n_kept: one.config for n_kept, one in found.items()}, " ".join(reasons)


def linear_snippet(model: TracedModel, kept: Collection[int]) -> dict[str, Any] | None:
    """Settings of flash-linear-attention with attention in the layers kept; None where heads do not fit it."""
    config = _text_config(model) if hasattr(getattr(model.module, "config", None), "get_text_config") else None
    n_heads = getattr(config, "num_attention_heads", None)
    width, head = getattr(config, "hidden_size", None), getattr(config, "head_dim", None)
    # That library's attention has heads of width / heads dimensions: with others the parent's weights would not fit.
    if not isinstance(n_heads, int) or (isinstance(head, int) and isinstance(width, int) and head * n_heads != width):
        return None
    rope = getattr(config, "rope_parameters", None)
    theta = rope.get("rope_theta") if isinstance(rope, dict) else getattr(config, "rope_theta", None)
    return flash_linear_attention(
        kept,
        n_heads=n_heads,
        n_kv_heads=getattr(config, "num_key_value_heads", None) or n_heads,
        rope_theta=float(theta) if isinstance(theta, int | float) else None,
        qkv_bias=any(name.endswith(_QUERY_BIASES) for name, _ in model.module.named_parameters()),
    )


def _why_never(model: TracedModel, substitute: Substitute) -> str:
    """Why no configuration can say the same, whatever it takes; "" where one might."""
    if not isinstance(substitute, Window):
        return f"No configuration puts {substitute.describe()} in a mixer's place."
    if substitute.sinks:
        return "No configuration gives a window the first tokens of the text besides (sinks)."
    config = getattr(model.module, "config", None)
    if not hasattr(config, "get_text_config") or not hasattr(type(config), "from_dict"):
        return f"{type(model.module).__name__} has no configuration of Transformers."
    inner = _text_config(model)
    if not hasattr(inner, "layer_types") or not hasattr(inner, "sliding_window"):
        return f"{type(inner).__name__} has no layer_types and sliding_window: its family has no windows by layer."
    rope = getattr(inner, "rope_parameters", None)
    if isinstance(rope, Mapping) and {FULL, SLIDING} & set(rope):
        return f"{type(inner).__name__} gives position encodings by a layer's type: a window would come with others."
    return ""


def _settings(
    model: TracedModel, types: list[str], *, kept: Collection[int], placeable: Collection[int], size: int
) -> dict[str, Any]:
    """The settings, within the part of the configuration that they belong to."""
    settings = windows_by_type(types, kept=kept, placeable=placeable, size=size)
    if not hasattr(_text_config(model), "use_sliding_window"):
        del settings["use_sliding_window"]
    key = text_key(model.module.config)
    return settings if key is None else {key: settings}


def _why_not_one_size(model: TracedModel, types: list[str], *, kept: Collection[int], size: int) -> str:
    """Why layers that have windows already do not go with the size asked for; "" where they do."""
    has = [layer for layer, one in enumerate(types) if one == SLIDING]
    own = getattr(_text_config(model), "sliding_window", None)
    if not has or not isinstance(own, int):
        return ""
    if own != size and set(has) & set(kept):
        return (
            f"Layers that are kept have a window of {own} tokens already, the others would have one of {size}, and a "
            "configuration has one size for all."
        )
    if own < size:
        return f"Layers have a window of {own} tokens already, which a configuration would widen to {size}."
    return ""


def _why_not_proved(model: TracedModel, types: list[str], *, kept: Collection[int], placeable: Collection[int]) -> str:
    """Why the configured model is not the placed one, by what they give on a probe; "" where it is."""
    name, placed = _config_name(model), set(placeable) - set(kept)
    if not placed:
        return "All layers are kept: there is nothing to configure."

    def log_probs(kept: Collection[int], size: int) -> Tensor:
        settings = _settings(model, types, kept=kept, placeable=placeable, size=size)
        return _log_probs(configured(model.module, settings), ids)

    _, ids = model.network.probe(batch=_PROBE_ROWS, length=_PROBE_TOKENS)
    # Layers that have windows already are given the probe's, too.
    has = {layer for layer, one in enumerate(types) if one == SLIDING}
    own = getattr(_text_config(model), "sliding_window", None)
    size = min(_PROBE_WINDOW, own) if has and isinstance(own, int) else _PROBE_WINDOW
    full, narrow, wide = _log_probs(model.module, ids), log_probs(kept, size), log_probs(kept, _WIDE)
    without = log_probs(range(len(types)), _WIDE) if has else full
    if _kl(without, wide).max() > _allowed(model, np.zeros(1)).max():
        return (
            f"{name} changes more than the window with a layer's type, such as its position encodings: a window longer "
            "than the text gives another model already."
        )
    found, asked = _kl(full, narrow), _placed_kl(model, ids, placed | has, size=size)
    if found.max() < _LEAST_NATS <= asked.max():
        return f"{name} does not heed layer_types and sliding_window: the configured model is the full one."
    if asked.max() < _LEAST_NATS or (np.abs(found - asked) > _allowed(model, asked)).any():
        return f"{name} gives another model than the placed one: it means something else by a window."
    return ""


def _placed_kl(model: TracedModel, ids: Tensor, placed: Collection[int], *, size: int) -> NDArray[np.float64]:
    """KL(full ‖ placed), nats, [row, position], as placements are measured."""
    substituter = make_substituter(model, Window(size), audit=0.0)
    rows = [JudgedRow(ids=tuple(row), read=tuple(range(len(row)))) for row in ids.tolist()]
    kept = tuple(layer for layer in substituter.placeable if layer not in placed)
    return np.stack([one.kl_nats[0] for one in substituter.measure(rows, [kept])])


def _text_config(model: TracedModel) -> Any:
    return model.module.config.get_text_config()  # type: ignore[union-attr,operator]


def _types(model: TracedModel) -> list[str]:
    """The types that the layers have now."""
    return list(getattr(_text_config(model), "layer_types", None) or [FULL] * model.anatomy.n_layers)


def _config_name(model: TracedModel) -> str:
    return type(_text_config(model)).__name__


def _allowed(model: TracedModel, nats: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far two divergences may be apart by rounding."""
    share = _TOLERANCE_SHARE.get(model.dtype)
    if share is None:
        return np.asarray(_COARSE_NATS + _COARSE_SHARE * nats)
    return np.asarray(_TOLERANCE_NATS + share * nats)


def _log_probs(module: nn.Module, ids: Tensor) -> Tensor:
    """Log-probabilities of the next tokens, [row, position, d_vocab]."""
    logits: Tensor = module(input_ids=ids, use_cache=False).logits
    return logits.float().log_softmax(dim=-1).double()


def _kl(full: Tensor, other: Tensor) -> NDArray[np.float64]:
    """KL(full ‖ other), nats, [row, position]."""
    return np.asarray((full.exp() * (full - other)).sum(dim=-1).clamp(min=0).cpu().numpy())
