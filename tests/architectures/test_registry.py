"""Every family of the registry is built as it promises: no default left, logits spread, same seed same model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.models.long_settings import ORIGINAL_CONTEXT, REACH
from tests.support.models.registry import (
    CAUSAL,
    ENCODER_DECODER,
    NOT_CAUSAL,
    UNBUILDABLE,
    build,
    example_inputs,
    logits_of,
    tiny_config,
)

SAMPLE = (
    ("llama", False),
    ("gemma2", False),
    ("deepseek_v3", False),
    ("nemotron_h", False),
    ("zamba2", False),
    ("rwkv", False),
    ("bert", False),
    ("musicgen", False),
    ("t5", True),
)
BUILDABLE = tuple((name, False) for name in CAUSAL if name not in UNBUILDABLE) + tuple(
    (name, True) for name in ENCODER_DECODER if name not in UNBUILDABLE
)


def _ids(n_positions: int = 9) -> Tensor:
    """Token ids that none of the special ones is among."""
    return torch.randint(3, 101, (2, n_positions), generator=torch.Generator().manual_seed(5))


def _other(ids: Tensor, position: int) -> Tensor:
    changed = ids.clone()
    changed[:, position] = (changed[:, position] - 3 + 7) % 98 + 3
    return changed


def check_family(name: str, *, encoder_decoder: bool) -> None:
    """A family's tiny model keeps every promise of the registry."""
    module = build(name, encoder_decoder=encoder_decoder)
    parameters = dict(module.named_parameters())
    assert sum(parameter.numel() for parameter in parameters.values()) < 800_000
    assert not module.training
    for path, parameter in parameters.items():
        assert parameter.dtype is torch.float32, path
        assert parameter.requires_grad, path
        assert parameter.isfinite().all(), path
        assert parameter.numel() <= 1 or (parameter != parameter.flatten()[0]).any(), f"{path} is constant"

    ids = _ids()

    def logits(encoder_ids: Tensor, decoder_ids: Tensor) -> Tensor:
        return logits_of(name, module, encoder_ids, encoder_decoder=encoder_decoder, decoder_ids=decoder_ids)

    expected = logits(ids, ids)
    assert expected.shape[:2] == ids.shape
    assert expected.isfinite().all()
    assert 1 < (expected - expected.mean(-1, keepdim=True)).std() < 5
    torch.testing.assert_close(logits(ids, ids), expected, rtol=0, atol=0)
    first, last = _other(ids, 0), _other(ids, -1)
    assert (logits(ids if encoder_decoder else first, first) - expected)[:, -1].abs().max() > 0.02
    assert not encoder_decoder or (logits(first, ids) - expected)[:, -1].abs().max() > 0.02
    change = (logits(ids if encoder_decoder else last, last) - expected)[:, :-1].abs().max()
    assert (change > 1e-4) == (name in NOT_CAUSAL)


def test_unbuildable_families_are_few_and_known() -> None:
    """What cannot be built is listed by name, is a family of this release, and stays an exception."""
    assert set(UNBUILDABLE) <= {*CAUSAL, *ENCODER_DECODER}
    assert len(UNBUILDABLE) <= 3
    assert all(UNBUILDABLE.values())


@pytest.mark.parametrize(("name", "encoder_decoder"), SAMPLE)
def test_sample_is_built_as_promised(name: str, encoder_decoder: bool) -> None:
    """Families of every kind are small, without defaults, deterministic, causal, and spread their logits."""
    check_family(name, encoder_decoder=encoder_decoder)


@pytest.mark.parametrize(("name", "encoder_decoder"), SAMPLE)
def test_a_seed_fixes_the_model(name: str, encoder_decoder: bool) -> None:
    """Same seed, same parameters, in modules that share none; another seed, other parameters everywhere."""
    one, two = (build(name, encoder_decoder=encoder_decoder) for _ in range(2))
    other = build(name, encoder_decoder=encoder_decoder, seed=1)
    for (path, left), right, changed in zip(one.named_parameters(), two.parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right), path
        assert left.data_ptr() != right.data_ptr(), path
        assert not torch.equal(left, changed), path


def test_building_leaves_the_global_generator_alone() -> None:
    """Transformers draws from the global generator while it builds; a caller does not notice."""
    before = torch.random.get_rng_state()
    build("qwen3", seed=17)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_configuration_has_every_kind_of_layer() -> None:
    """Lists of layers are shortened so that every kind stays."""
    assert set(tiny_config("qwen3_next").layer_types) == {"linear_attention", "full_attention"}
    assert set(tiny_config("gemma3_text").layer_types) == {"sliding_attention", "full_attention"}
    assert set(tiny_config("glm4_moe_lite").mlp_layer_types) == {"dense", "sparse"}


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("gemma3_text", "sliding_window"),
        ("llama4_text", "attention_chunk_size"),
        ("deepseek_v32", "index_topk"),
        ("mamba2", "chunk_size"),
        ("doge", "keep_window_size"),
        ("recurrent_gemma", "attention_window_size"),
        ("qwen4_exp_text", "indexer_budget"),
    ],
)
def test_long_configurations_reach_further_than_a_probe(name: str, setting: str) -> None:
    """What is 4 in a tiny model, windows, chunks and numbers of chosen keys, is 20 in a long one."""
    assert getattr(tiny_config(name), setting) == 4
    assert getattr(tiny_config(name, is_long=True), setting) == REACH == 20


def test_long_positions_scale_within_the_prompts() -> None:
    """Where positions scale with the length, the original context lies between the prompts' lengths."""
    for name in ("phi3", "phimoe", "phi4_multimodal"):
        scaled = tiny_config(name, is_long=True).rope_parameters
        assert scaled["rope_type"] == "longrope"
        assert scaled["original_max_position_embeddings"] == ORIGINAL_CONTEXT == 30


def test_inputs_switch_the_cache_off() -> None:
    """One forward pass needs no cache, and a decoder gets the encoder's ids unless it is given its own."""
    ids = _ids()
    assert example_inputs("llama", ids)["use_cache"] is False
    inputs = example_inputs("t5", ids, encoder_decoder=True)
    assert torch.equal(inputs["decoder_input_ids"], ids)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "encoder_decoder"), BUILDABLE)
def test_every_family_is_built_as_promised(name: str, encoder_decoder: bool) -> None:
    """Every family of the installed transformers keeps the promises of the registry."""
    check_family(name, encoder_decoder=encoder_decoder)
