"""What placements keep of a KV cache, against sizes computed by hand from a model's settings."""

from __future__ import annotations

import pytest
import torch

import layertracer as lt
from layertracer import MeanMixer, ModelError, NoMixer, UsageError, Window
from layertracer.hybrids._measuring.kv_cache import CacheSizes, layers_within, measure_cache

from tests.support.tiny import tiny

SIZES = CacheSizes(per_token=dict.fromkeys(range(4), 100), fixed=dict.fromkeys(range(4), 0))
ALL = (0, 1, 2, 3)


class TestMeasured:
    """Sizes found by running the cache."""

    def test_keys_and_values_of_every_layer(self) -> None:
        """Two tensors of n_kv_heads × head_dim numbers a token and layer."""
        model = tiny("llama")
        config = model.module.config
        head = config.hidden_size // config.num_attention_heads
        expected = 2 * config.num_key_value_heads * head * model.dtype.itemsize
        sizes = measure_cache(model)
        assert sizes.per_token == dict.fromkeys(range(model.anatomy.n_layers), expected)
        assert sizes.full_bytes(1000) == 1000 * expected * model.anatomy.n_layers

    def test_a_recurrent_state_does_not_grow(self) -> None:
        """Of a state-space model nothing grows with the text, so that a budget says nothing; it is refused."""
        with pytest.raises(ModelError, match="does not grow with the text"):
            measure_cache(tiny("mamba"))


class TestPlaced:
    """What placements keep."""

    def test_a_window_keeps_what_it_sees(self) -> None:
        """Two full layers of 1,000 tokens and two of 16 + 4."""
        taken = SIZES.placed_bytes((1, 3), placeable=ALL, substitute=Window(16, sinks=4), context=1000)
        assert taken == 2 * 1000 * 100 + 2 * 20 * 100

    def test_a_window_longer_than_the_context_keeps_all_of_it(self) -> None:
        """And no more."""
        assert SIZES.placed_bytes((), placeable=ALL, substitute=Window(64), context=10) == SIZES.full_bytes(10)

    @pytest.mark.parametrize("substitute", [NoMixer(), MeanMixer()])
    def test_other_substitutes_keep_nothing(self, substitute: NoMixer | MeanMixer) -> None:
        """Layers that cannot be placed keep what they have; states that do not grow count too."""
        sizes = CacheSizes(per_token={0: 100, 1: 100, 2: 0}, fixed={0: 0, 1: 0, 2: 7})
        assert sizes.placed_bytes((), placeable=(0,), substitute=substitute, context=10) == 1000 + 7

    def test_as_many_layers_as_the_budget_holds(self) -> None:
        """By hand: 20 tokens in each layer of a window; each kept layer adds 980 × 100 bytes."""
        for n_kept in (1, 2, 3):
            n_bytes = 4 * 2_000 + n_kept * 98_000
            asked = {"placeable": ALL, "substitute": Window(16, sinks=4), "context": 1000}
            assert layers_within(SIZES, n_bytes, **asked) == n_kept
            assert layers_within(SIZES, n_bytes - 1, **asked) == n_kept - 1

    def test_too_small_and_too_large_budgets_are_refused(self) -> None:
        """With what the least and the whole would take."""
        asked = {"placeable": ALL, "substitute": Window(16, sinks=4), "context": 1000}
        with pytest.raises(UsageError, match="takes 8,000 bytes"):
            layers_within(SIZES, 7_999, **asked)
        with pytest.raises(UsageError, match="nothing to choose"):
            layers_within(SIZES, 400_000, **asked)


@pytest.mark.parametrize("types", [["sliding_attention"] * 3, ["sliding_attention", "full_attention"] * 2])
def test_layers_that_slide_by_themselves_keep_what_their_cache_keeps(types: list[str]) -> None:
    """Windows of the model's own bound what a layer keeps, as the shapes of its real cache say."""
    from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=len(types), num_attention_heads=4,
        num_key_value_heads=2, sliding_window=16, use_sliding_window=True, layer_types=types,
        max_position_embeddings=256,
    )  # fmt: skip
    module = Qwen2ForCausalLM(config)
    sizes = measure_cache(lt.wrap_model(module, name="sliding"))
    with torch.no_grad():
        held = module(torch.arange(100)[None] % 50, past_key_values=DynamicCache(config=config)).past_key_values
    real = [layer.keys.nbytes + layer.values.nbytes for layer in held.layers]
    assert [sizes.per_token[layer] * sizes.kept_tokens(layer, 100) for layer in range(len(types))] == real
    assert sizes.full_bytes(100) == sum(real)
