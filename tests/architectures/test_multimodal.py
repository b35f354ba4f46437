"""Checkpoints that also read images, traced on text: they give what their text model alone gives."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import layertracer as lt

from tests.support.models import registry

PROMPTS = ((7, 23, 91, 4, 66, 38, 52, 17, 80), (12, 45, 3, 99, 31), (90, 33, 15, 62, 48, 5, 71, 29, 94))

# The model with its vision part, its configuration class, and the text family whose tiny configuration it takes.
WRAPPERS: dict[str, tuple[str, str, str]] = {
    "qwen3_5": ("Qwen3_5ForConditionalGeneration", "Qwen3_5Config", "qwen3_5_text"),
    "gemma3": ("Gemma3ForConditionalGeneration", "Gemma3Config", "gemma3_text"),
    "gemma4": ("Gemma4ForConditionalGeneration", "Gemma4Config", "gemma4_text"),
    "llama4": ("Llama4ForConditionalGeneration", "Llama4Config", "llama4_text"),
}
VISION: dict[str, dict[str, Any]] = {
    "qwen3_5": {"depth": 2, "hidden_size": 32, "num_heads": 4, "intermediate_size": 48, "out_hidden_size": 32},
    "gemma3": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
    "gemma4": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
    "llama4": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
}


def _with_vision(name: str) -> tuple[nn.Module, nn.Module]:
    """A model that also reads images, and a text model with the same weights."""
    model_class, config_class, family = WRAPPERS[name]
    text = registry.build(family)
    if name == "gemma3":
        text.config.final_logit_softcapping = None  # the text model has a softcap, the one with vision ignores it
    # The text model is causal: its `model` becomes the wrapper's language model, its head the wrapper's.
    config = getattr(transformers, config_class)(
        text_config=copy.deepcopy(text.config).to_dict(), vision_config=VISION[name], image_token_id=2
    )
    with torch.random.fork_rng(devices=[]):
        wrapper = getattr(transformers, model_class)(config).float().eval()
    if hasattr(wrapper, "lm_head"):
        wrapper.model.language_model.load_state_dict(text.model.state_dict())
        wrapper.lm_head.load_state_dict(text.lm_head.state_dict())
    else:
        wrapper.language_model.load_state_dict(text.state_dict())
    return wrapper, text


@pytest.mark.parametrize("name", WRAPPERS)
def test_model_with_vision_gives_what_its_text_model_gives(name: str) -> None:
    """The layers are those of the language model, and readouts and JS are those of the text model alone."""
    wrapper, text = _with_vision(name)
    samples = [lt.Sample(prompt_ids=ids, answer_id=42) for ids in PROMPTS]
    models = [lt.wrap_model(module) for module in (wrapper, text)]
    anatomies = [model.anatomy for model in models]
    assert [model.self_check.method for model in models] == ["ladder", "ladder"]
    assert all("language_model" in layer.path and "vision" not in layer.path for layer in anatomies[0].layers)
    assert [(layer.mixer, layer.mlp) for layer in anatomies[0].layers] == [
        (layer.mixer, layer.mlp) for layer in anatomies[1].layers
    ]
    traces = [lt.trace(model, samples, perturbation=lt.Mask(draws=2, fraction=0.5)) for model in models]
    np.testing.assert_allclose(traces[0].js_bits, traces[1].js_bits, atol=1e-6)
    readouts = [lt.read_layers(model, samples).log_probs for model in models]
    np.testing.assert_allclose(*readouts, atol=1e-5)
