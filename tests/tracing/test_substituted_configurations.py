"""Windows inside the running model against the same windows in its own configuration, as Transformers loads it."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig

import layertracer as lt
from layertracer.tracing import JudgedRow, Substituter, make_substituter

from tests.support.models.registry import tiny_config
from tests.support.oracles.substituted import log_probs, said_between

SIZE = 6
N_LAYERS = 4
KEPT = ((), (0,), (1, 3), (0, 1, 2, 3))
# Families whose positions do not depend on the layer's type; some have no "sdpa", and some weigh sinks of their own.
FAMILIES = [("qwen2", "sdpa"), ("qwen3", "eager"), ("smollm3", "sdpa")]
SLOW = [
    *(
        (name, form)
        for name in ("dots1", "cohere_compass_text", "olmo3", "cwm", "ministral")
        for form in ("sdpa", "eager")
    ),
    *(
        (name, "eager")
        for name in ("qwen2", "smollm3", "gpt_oss", "gemma2", "vaultgemma", "granite_swa", "granitemoe_swa")
    ),
    *((name, "sdpa") for name in ("qwen3", "qwen2_moe")),
]


def configured(name: str, kept: tuple[int, ...], form: str) -> nn.Module:
    """A tiny model with full attention in some layers and windows in the others, as Transformers makes it."""
    config: PretrainedConfig = copy.deepcopy(tiny_config(name))
    config.max_position_embeddings = 512
    config.num_hidden_layers = N_LAYERS
    config.layer_types = ["full_attention" if layer in kept else "sliding_attention" for layer in range(N_LAYERS)]
    config.sliding_window = SIZE
    if hasattr(config, "use_sliding_window"):
        config.use_sliding_window = True
    module: nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation=form)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.3 * drawn if parameter.ndim > 1 else 1 + 0.2 * drawn)
    return module.eval()


@cache
def substituted(name: str, form: str) -> Substituter:
    """The model with full attention everywhere, and windows that can stand in it."""
    with torch.random.fork_rng(devices=[]):
        return make_substituter(lt.wrap_model(configured(name, tuple(range(N_LAYERS)), form)), lt.Window(SIZE))


def rows() -> list[JudgedRow]:
    """A row shorter than most windows are proved on, two of one length, and one of hundreds of tokens."""
    generator = torch.Generator().manual_seed(3)
    drawn = [torch.randint(3, 90, (length,), generator=generator).tolist() for length in (9, 31, 31, 160)]
    return [JudgedRow(ids=ids, read=range(len(ids))) for ids in drawn]  # type: ignore[arg-type]


def compare_with_configuration(name: str, form: str) -> None:
    """All placements in one call, against one model of Transformers for each."""
    substituter = substituted(name, form)
    assert substituter.placeable == tuple(range(N_LAYERS))
    assert substituter.method == "ladder"
    found = substituter.measure(rows(), KEPT)
    for number, kept in enumerate(KEPT):
        with torch.random.fork_rng(devices=[]):
            module = configured(name, kept, form)
        for row, own in zip(rows(), found, strict=True):
            full = log_probs(substituter.model.module, row.ids)
            said = said_between(full, log_probs(module, row.ids), row.ids)
            np.testing.assert_allclose(own.kl_nats[number], said.kl_nats, atol=1e-5)
            np.testing.assert_allclose(own.nll_nats[number], said.nll_nats, atol=2e-5)
            assert (own.top_ids[number] == said.top_ids).mean() > 0.99  # equal probabilities have no order


@pytest.mark.parametrize(("name", "form"), FAMILIES)
def test_a_placement_is_its_configuration(name: str, form: str) -> None:
    """What a placement says equals what plain Transformers says with those `layer_types` and that `sliding_window`."""
    compare_with_configuration(name, form)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), SLOW)
def test_a_placement_is_its_configuration_in_more_families(name: str, form: str) -> None:
    """The same in further families whose positions do not depend on the layer's type."""
    compare_with_configuration(name, form)
