"""Configurations to paste: plain Transformers loads the placed model with them, or there is none, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import layertracer as lt
from layertracer.hybrids import config_snippet, linear_snippet, snippets_for

from tests.support.tiny import fresh, tiny

ROOT = Path(__file__).parents[2]
SIZE = 6


def without_windows(name: str) -> nn.Module:
    """A tiny model, all of whose layers see everything."""
    module = fresh(name)
    settings = module.config.to_dict() | {"layer_types": ["full_attention"] * module.config.num_hidden_layers}
    made = type(module)(type(module.config)(**settings)).eval()
    made.load_state_dict(module.state_dict())
    return made


def pasted(module: nn.Module, folder: Path, settings: Mapping[str, Any]) -> nn.Module:
    """What plain Transformers loads from a copy of the checkpoint, with the settings pasted into config.json."""
    module.save_pretrained(folder)  # type: ignore[operator]
    path = folder / "config.json"
    written = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(written | settings), "utf-8")
    loaded: nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return loaded


def divergence(full: nn.Module, placed: nn.Module, ids: torch.Tensor, size: int) -> float:
    """Mean KL(full ‖ placed) at positions from the window's size on, in float64."""
    with torch.no_grad():
        logs = [one(input_ids=ids, use_cache=False).logits.double().log_softmax(-1) for one in (full, placed)]
    return float((logs[0].exp() * (logs[0] - logs[1])).sum(-1)[:, size:].mean())


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "smollm3"])
def test_plain_transformers_load_the_placed_model(name: str, tmp_path: Path) -> None:
    """With the snippet in its config.json a checkpoint diverges from the original as evaluate_placement says."""
    module = without_windows(name)
    model = lt.wrap_model(module)
    layers = tuple(range(model.anatomy.n_layers))
    snippet = config_snippet(model, lt.Window(SIZE), layers[1::2], layers)
    assert snippet.reason == ""
    assert snippet.config is not None
    assert snippet.config["layer_types"] == ["full_attention" if layer % 2 else "sliding_attention" for layer in layers]
    assert (snippet.config["sliding_window"], snippet.config["use_sliding_window"]) == (SIZE, True)
    ids = torch.randint(1, 60, (3, 20), generator=torch.Generator().manual_seed(1))
    expected = divergence(module, pasted(module, tmp_path, snippet.config), ids, SIZE)
    found = lt.evaluate_placement(model, ids, kept=layers[1::2], substitute=lt.Window(SIZE))
    assert found.kl_nats == pytest.approx(expected, abs=1e-5)
    assert expected > 1e-4


def test_a_trained_miniature_is_loaded_placed(tmp_path: Path) -> None:
    """The trained miniature with windows of its own, with the snippet, is the placed one."""
    model = lt.load_model(str(ROOT / "miniatures" / "sliding"))
    config = model.module.config
    placeable = tuple(range(8))
    kept = tuple(layer for layer in placeable if config.layer_types[layer] == "full_attention")[:1]
    snippet = config_snippet(model, lt.Window(SIZE), kept, placeable)
    assert snippet.config is not None
    ids = torch.randint(2, 1800, (3, 40), generator=torch.Generator().manual_seed(1))
    expected = divergence(model.module, pasted(model.module, tmp_path, snippet.config), ids, SIZE)
    found = lt.evaluate_placement(model, ids, kept=kept, substitute=lt.Window(SIZE))
    assert found.kl_nats == pytest.approx(expected, abs=1e-5)
    assert expected > 1e-2


@pytest.mark.parametrize(
    ("name", "substitute", "reason"),
    [
        (
            "qwen3",
            lt.Window(4, sinks=2),
            r"No configuration gives a window the first tokens of the text besides \(sinks",
        ),
        ("qwen3", lt.NoMixer(), r"No configuration puts no mixer in a mixer's place"),
        ("llama", lt.Window(4), r"LlamaConfig has no layer_types and sliding_window"),
        ("gemma3_text", lt.Window(4), r"Gemma3TextConfig gives position encodings by a layer's type"),
        ("olmo3", lt.Window(4), r"Olmo3Config gives position encodings by a layer's type"),
        ("cohere2", lt.Window(4), r"Cohere2Config changes more than the window with a layer's type"),
        ("exaone4", lt.Window(4), r"Exaone4Config changes more than the window with a layer's type"),
        ("planted", lt.Window(4), r"PlantedModel has no configuration of Transformers"),
    ],
)
def test_where_there_is_none_the_reason_is_said(name: str, substitute: Any, reason: str) -> None:
    """Sinks, no window, families without windows by layer, positions by a layer's type: no snippet, and why."""
    model = tiny(name)
    types = getattr(getattr(model.module, "config", None), "layer_types", None)
    layers = range(model.anatomy.n_layers)
    placeable = [layer for layer in layers if types is None or types[layer] == "full_attention"]
    snippet = config_snippet(model, substitute, placeable[1:], placeable)
    assert snippet.config is None
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(snippet.reason)


def test_a_hybrid_of_flash_linear_attention_keeps_the_heads() -> None:
    """Settings for flash-linear-attention name the layers kept, and the heads and positions of the model."""
    config = tiny("llama").module.config
    found = linear_snippet(tiny("llama"), (3, 1))
    assert found is not None
    assert found["attn"] == {
        "layers": [1, 3],
        "num_heads": config.num_attention_heads,
        "num_kv_heads": config.num_key_value_heads,
        "qkv_bias": config.attention_bias,
        "window_size": None,
        "rope_theta": config.rope_parameters["rope_theta"],
    }
    biased = linear_snippet(tiny("qwen2"), (0,))
    assert biased is not None
    assert biased["attn"]["qkv_bias"] is True
    assert linear_snippet(tiny("planted"), (0,)) is None
    # Its heads are of another size than width / heads: the weights would not fit.
    assert linear_snippet(tiny("qwen3"), (0,)) is None


def test_several_placements_say_each_reason_once() -> None:
    """Placements of several sizes have their settings each; a reason that all share stands once."""
    found, reason = snippets_for(tiny("qwen3"), lt.Window(4), {1: (0,), 2: (0, 3)}, range(5))
    assert reason == ""
    assert found[2] is not None
    assert [layer for layer, one in enumerate(found[2]["layer_types"]) if one == "full_attention"] == [0, 3]
    none, reason = snippets_for(tiny("qwen3"), lt.NoMixer(), {1: (0,), 2: (0, 3)}, range(5))
    assert none == {1: None, 2: None}
    assert reason.count("No configuration") == 1
