"""The site "state": what a layer remembers of the prompt's prefix, against transformers' own caches masked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, xLSTMConfig

import layertracer as lt
from layertracer.models import BatchAxis, StatePiece
from layertracer.tracing._perturbers.cached_values import StateMask, StateNoise

from tests.support.budgets import smallest
from tests.support.models import registry
from tests.support.models.families import BY_NAME, build_family, build_tiny
from tests.support.models.plain_modules import NanoGPT
from tests.support.oracles.layer_caches import Masked, everything, plain_state_js
from tests.support.oracles.plain_hooks import js_bits
from tests.support.tiny import tiny
from tests.support.tokenizers import numbers

NAMES = (
    "llama",
    "mistral",
    "gemma3_text",
    "bloom",
    "gpt2",
    "mamba",
    "mamba2",
    "qwen3_next",
    "qwen3_5_text",
    "jamba",
    "rwkv",
)
# The second is short; the others are longer than every sliding window and convolution.
PROMPTS: tuple[tuple[int, ...], ...] = (
    (7, 23, 91, 4, 66, 38, 52, 17, 80),
    (12, 45),
    (90, 33, 15, 62, 48, 5, 71, 29, 94),
    (61, 8, 40, 77, 19, 3),
)


def as_samples(prompts: Sequence[Sequence[int]]) -> list[lt.Sample]:
    """Prompts with one answer."""
    return [lt.Sample(prompt_ids=tuple(prompt), answer_id=3) for prompt in prompts]


def state_js(name: str, mask: Any, prompts: Sequence[Sequence[int]] = PROMPTS, **settings: Any) -> NDArray[np.float32]:
    """JS divergence at the site "state", [prompt, draw, layer]."""
    return lt.trace(tiny(name), as_samples(prompts), perturbation=mask, **settings).js_bits


@cache
def exact(name: str) -> nn.Module:
    """The tiny model of a family in float64; with experts in float32, which they need."""
    module = build_tiny(name)
    return module if "experts" in BY_NAME[name].mlps else module.double()


def oracle(name: str, masked: Masked, prompt: Sequence[int], layer: int, **settings: Any) -> float:
    """The same by the oracle, one prompt and layer at a time."""
    return plain_state_js(exact(name), prompt, masked, layer=layer, mixer=BY_NAME[name].mixers[layer], **settings)


def piece_at(path: str, size: int) -> StatePiece:
    """A tensor of a cache with slots of that size."""
    return StatePiece(
        path=path, batch=BatchAxis(0, 1), position=None, layer_axis=None, slot_size=size, slot_bytes=4 * size
    )


def masked_by(mask: lt.Mask, *, layer: int, draw: int) -> Masked:
    """What a scheme masks, in the oracle's form."""

    def masked(path: str, n_slots: int, size: int) -> NDArray[np.bool_]:
        return StateMask(mask=mask).masked(n_slots, piece=piece_at(path, size), layer=layer, draw=draw)

    return masked


# ---------------------------------------------------------------- against the oracle


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_that_forgets_everything(name: str) -> None:
    """With fraction 1, each layer in turn remembers nothing: keys, values, windows and states are all zero."""
    mask = lt.Mask(site="state", fraction=1.0, scheme="random", draws=1)
    found = state_js(name, mask, PROMPTS[:2])
    for row, prompt in enumerate(PROMPTS[:2]):
        expected = [oracle(name, everything, prompt, layer) for layer in range(BY_NAME[name].n_layers)]
        np.testing.assert_allclose(found[row, 0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_masks_of_a_scheme(name: str) -> None:
    """What the scheme masks of each slot is what is forgotten, in every layer and draw."""
    mask = lt.Mask(site="state", fraction=0.5, draws=2, seed=3)
    found = state_js(name, mask, PROMPTS[2:])
    for row, prompt in enumerate(PROMPTS[2:]):
        for layer in range(BY_NAME[name].n_layers):
            expected = [oracle(name, masked_by(mask, layer=layer, draw=draw), prompt, layer) for draw in range(2)]
            np.testing.assert_allclose(found[row, :, layer], expected, atol=1e-4, rtol=0)


def test_a_memory_that_is_put_away_after_its_layer() -> None:
    """What xLSTM writes into its cache when a layer has ended is that layer's all the same."""
    sizes = {"vocab_size": 101, "hidden_size": 64, "num_hidden_layers": 3, "num_heads": 4, "chunk_size": 16}
    config = xLSTMConfig(**sizes, qk_dim_factor=1.0, v_dim_factor=1.0, return_last_states=True, mode="inference")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config).eval()
        for parameter in module.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
    mask = lt.Mask(site="state", fraction=1.0, scheme="random", draws=1)
    prompt = PROMPTS[3]
    found = lt.trace(lt.wrap_model(module, name="xlstm"), as_samples([prompt]), perturbation=mask).js_bits
    expected = [plain_state_js(module, prompt, everything, layer=layer, mixer="xlstm") for layer in range(3)]
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-4, rtol=0)
    assert min(expected) > 1e-4


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_masks_given_entry_by_entry(name: str) -> None:
    """An explicit mask is put on every position of keys and of values alike, head by head."""
    family = BY_NAME[name]
    width = {"llama": 16, "bloom": 32}[name]
    keep = np.random.default_rng(0).random((family.n_layers, 2, width)) > 0.4
    keep[:, 1] = True
    found = state_js(name, lt.Mask.explicit(keep, site="state"))
    assert np.all(found[:, 1] <= 1e-7)
    for layer in range(family.n_layers):

        def masked(path: str, n_slots: int, size: int, kept: NDArray[np.bool_] = keep[layer, 0]) -> NDArray[np.bool_]:
            del path, size
            return np.tile(~kept, (n_slots, 1))

        expected = [oracle(name, masked, prompt, layer) for prompt in PROMPTS]
        np.testing.assert_allclose(found[:, 0, layer], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["mistral", "jamba", "rwkv"])
def test_several_tokens_after_the_prefix(name: str) -> None:
    """target_tokens="all": the state after the prefix, then the last token and the answer's tokens but the last."""
    prompt, answer = PROMPTS[3], (11, 54, 32)
    model = lt.wrap_model(build_tiny(name), numbers(), name=name)
    sample = lt.Sample(prompt=" ".join(f"t{token}" for token in prompt), answer=" t11 t54 t32")
    mask = lt.Mask(site="state", fraction=1.0, scheme="random", draws=1)
    trace = lt.trace(model, [sample], perturbation=mask, target_tokens="all")
    assert trace.prompts[0].target_ids == answer
    fed = (*prompt, *answer[:-1])
    expected = [oracle(name, everything, fed, layer, n_after=3) for layer in range(BY_NAME[name].n_layers)]
    np.testing.assert_allclose(trace.js_bits[0, 0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["mistral", "mamba", "rwkv"])
def test_the_lens_is_that_of_any_trace(name: str) -> None:
    """The target's curves do not depend on what is perturbed."""
    samples = as_samples(PROMPTS)
    here = lt.trace(tiny(name), samples, perturbation=lt.Mask(site="state", fraction=0.5, draws=1))
    there = lt.trace(tiny(name), samples, perturbation=lt.Mask(draws=1))
    np.testing.assert_allclose(here.target_prob, there.target_prob, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(here.target_rank, there.target_rank)


# ---------------------------------------------------------------- stacks whose caches do not tell how long they are

WITHOUT_ATTENTION: dict[str, dict[str, Any]] = {
    "qwen3_5_text": {"layer_types": ["linear_attention"] * 4},
    "jamba": {"attn_layer_period": 50, "attn_layer_offset": 49},
}


@cache
def without_attention(name: str) -> nn.Module:
    """The tiny model of a hybrid family with its recurrent layers alone."""
    own = BY_NAME[name]
    return build_family(replace(own, settings=own.settings | WITHOUT_ATTENTION[name]))


@pytest.mark.parametrize("name", WITHOUT_ATTENTION)
def test_a_stack_without_attention(name: str) -> None:
    """Where no layer's memory tells how many tokens it has taken in, they are counted for the model."""
    module, prompt = without_attention(name), PROMPTS[0]
    model = lt.wrap_model(module, name=name)
    assert "attention" not in {layer.mixer for layer in model.anatomy.layers}
    mask = lt.Mask(site="state", fraction=1.0, scheme="random", draws=1)
    trace = lt.trace(model, as_samples([prompt, PROMPTS[1]]), perturbation=mask)
    assert trace.self_check["state"].passed
    for row, ids in enumerate((prompt, PROMPTS[1])):
        expected = [
            plain_state_js(module, ids, everything, layer=layer.index, mixer=layer.mixer, is_counted=True)
            for layer in model.anatomy.layers
        ]
        np.testing.assert_allclose(trace.js_bits[row, 0], expected, atol=1e-4, rtol=0)
    assert trace.js_bits.mean() > 1e-3


class Asking(nn.Module):
    """A language model with attention that asks for a length with its cache unless it is told positions and a mask.

    Args:
        module: The model that it was.
        complains: Whether it wants no cache at all.
    """

    def __init__(self, module: nn.Module, *, complains: bool = False) -> None:
        super().__init__()
        self.inner, self.config, self.complains = module, module.config, complains

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        *,
        use_cache: bool = False,
    ) -> Any:
        """What the inner model says."""
        if use_cache and position_ids is None:
            raise ValueError("the cache cannot tell")
        if use_cache and self.complains:
            raise RuntimeError("no cache at all")
        return self.inner(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_layer_that_reads_the_mask_is_found_out(implementation: str) -> None:
    """The mask that a model is given with the count lets nothing through: attention that reads it is refused."""
    module = build_tiny("llama")
    module.set_attn_implementation(implementation)
    with pytest.raises(lt.SiteError, match="its own cache changes what it says"):
        lt.trace(lt.wrap_model(Asking(module)), as_samples(PROMPTS), perturbation=lt.Mask(site="state"))


def test_the_models_own_complaint_is_told() -> None:
    """Where counting for a model does not help, the reason is what it says without."""
    model = lt.wrap_model(Asking(build_tiny("llama"), complains=True))
    with pytest.raises(lt.SiteError, match="raised ValueError: the cache cannot tell"):
        lt.trace(model, as_samples(PROMPTS), perturbation=lt.Mask(site="state"))


TRAINED_PROMPTS = ("hot -> cold\nold -> new\nwide ->", "the capital of France is")


def test_trained_hybrid_equals_the_oracle(mini_hybrid: lt.TracedModel) -> None:
    """A trained hybrid: keys and values, convolution windows and recurrent states masked by hand in every layer."""
    mask = lt.Mask(site="state", fraction=0.5, draws=1)
    samples = [lt.Sample(prompt=prompt, answer=" new") for prompt in TRAINED_PROMPTS]
    trace = lt.trace(mini_hybrid, samples, perturbation=mask)
    assert trace.self_check["state"].passed
    for row, record in enumerate(trace.prompts):
        for layer, parts in enumerate(mini_hybrid.anatomy.layers):
            masked = masked_by(mask, layer=layer, draw=0)
            expected = plain_state_js(mini_hybrid.module, record.prompt_ids, masked, layer=layer, mixer=parts.mixer)
            assert abs(trace.js_bits[row, 0, layer] - expected) <= 1e-5


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("name", ["mistral", "bloom", "mamba", "qwen3_5_text", "jamba", "rwkv"])
def test_batches_order_and_memory_do_not_matter(name: str) -> None:
    """A prompt alone, in a batch, in another order and in chunks has the same numbers."""
    mask = lt.Mask(site="state", fraction=0.25, draws=4)
    whole = state_js(name, mask)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(state_js(name, mask, [PROMPTS[i] for i in order]), whole[order], atol=5e-6, rtol=0)
    np.testing.assert_allclose(state_js(name, mask, PROMPTS[2:3]), whole[2:3], atol=5e-6, rtol=0)
    memory = smallest(tiny(name), as_samples(PROMPTS), mask)
    np.testing.assert_allclose(state_js(name, mask, memory=memory), whole, atol=5e-6, rtol=0)


def test_noise_of_no_size_and_seeds() -> None:
    """Noise of scale 0 changes nothing; equal seeds give equal numbers, other seeds others; more noise does more."""
    quiet, weak, strong = (state_js("jamba", lt.Noise(site="state", scale=scale, draws=2)) for scale in (0, 0.1, 1))
    assert np.all(quiet <= 1e-7)
    assert weak.mean() < strong.mean()
    np.testing.assert_array_equal(weak, state_js("jamba", lt.Noise(site="state", scale=0.1, draws=2)))
    assert np.abs(weak - state_js("jamba", lt.Noise(site="state", scale=0.1, draws=2, seed=1))).max() > 1e-4


def test_noise_is_relative_to_its_slot() -> None:
    """The noise of a slot has the root mean square of the slot times the scale, and is that of the slot's position."""
    values = torch.tensor([1.0, 100.0])[:, None, None] * torch.ones(2, 3, 4000)
    noise = StateNoise(noise=lt.Noise(site="state", scale=0.1))
    added = noise(values, piece=piece_at("p", 4000), layer=0, draw=0) - values
    torch.testing.assert_close(added.std(dim=-1) / values[..., 0], torch.full((2, 3), 0.1), atol=5e-3, rtol=0)
    shorter = noise(values[:, 1:], piece=piece_at("p", 4000), layer=0, draw=0)
    torch.testing.assert_close(shorter - values[:, 1:], added[:, 1:])


@settings(max_examples=40)
@given(
    n_sets=st.integers(1, 12),
    n_slots=st.integers(1, 9),
    size=st.integers(1, 40),
    seed=st.integers(0, 9),
    layer=st.integers(0, 3),
)
def test_a_partition_masks_each_entry_of_a_slot_once(
    n_sets: int, n_slots: int, size: int, seed: int, layer: int
) -> None:
    """The draws of a group split every slot, as evenly as possible; two groups split it differently."""
    assume(size >= n_sets)  # else a draw would mask nothing, and is refused
    mask = lt.Mask(site="state", fraction=1 / n_sets, draws=2 * n_sets, seed=seed)
    drawn = np.stack([masked_by(mask, layer=layer, draw=draw)("p", n_slots, size) for draw in range(2 * n_sets)])
    for group in (drawn[:n_sets], drawn[n_sets:]):
        np.testing.assert_array_equal(group.sum(axis=0), 1)
        counts = group.sum(axis=2)
        assert counts.max() - counts.min() <= 1


@settings(max_examples=40)
@given(fraction=st.floats(0.05, 1.0), n_slots=st.integers(1, 9), size=st.integers(10, 40), draw=st.integers(0, 5))
def test_a_random_mask_has_its_exact_count_and_is_counted_from_the_end(
    fraction: float, n_slots: int, size: int, draw: int
) -> None:
    """Every slot loses round(fraction × size) entries; a longer prompt has the same masks at the same distances."""
    assume(round(fraction * size) >= 1)  # else a draw would mask nothing, and is refused
    mask = lt.Mask(site="state", fraction=fraction, scheme="random", draws=6)
    drawn = masked_by(mask, layer=1, draw=draw)("p", n_slots, size)
    np.testing.assert_array_equal(drawn.sum(axis=1), round(fraction * size))
    longer = masked_by(mask, layer=1, draw=draw)("p", n_slots + 3, size)
    np.testing.assert_array_equal(longer[3:], drawn)


def test_masks_of_layers_tensors_draws_and_positions_differ() -> None:
    """Each has a pattern of its own."""
    mask = lt.Mask(site="state", fraction=0.5, scheme="random", draws=2)
    first = masked_by(mask, layer=0, draw=0)("keys", 2, 64)
    assert not np.array_equal(first[0], first[1])
    for other in (
        masked_by(mask, layer=1, draw=0)("keys", 2, 64),
        masked_by(mask, layer=0, draw=1)("keys", 2, 64),
        masked_by(mask, layer=0, draw=0)("values", 2, 64),
        masked_by(lt.Mask(site="state", fraction=0.5, scheme="random", seed=1), layer=0, draw=0)("keys", 2, 64),
    ):
        assert not np.array_equal(first, other)


# ---------------------------------------------------------------- caches of any class, and planted faults


class Recall(nn.Module):
    """A layer that adds what it remembers: a decaying sum over the tokens that it has read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width, bias=False)
        self.decay = nn.Parameter(torch.rand(width))
        self.is_read = True

    def forward(self, stream: Tensor, memory: dict[str, Tensor], name: str) -> Tensor:
        """Stream [batch, position, width]; the memory is changed in place."""
        total = memory.get(name, torch.zeros_like(stream[:, 0]))
        outputs = []
        for position in range(stream.shape[1]):
            total = self.decay * total + self.inner(stream[:, position])
            outputs.append(torch.tanh(total if self.is_read else self.inner(stream[:, position])))
        memory[name] = total
        return stream + torch.stack(outputs, dim=1)


class Reciting(nn.Module):
    """A language model with a cache of its own making: a dictionary."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.embed = nn.Embedding(29, 12)
        self.layers = nn.ModuleList(Recall(12) for _ in range(3))
        self.head = nn.Linear(12, 29)
        self.fault = fault
        self.layers[1].is_read = fault != "unread"

    def forward(self, ids: Tensor, use_cache: bool = False, memory: dict[str, Tensor] | None = None) -> Any:
        """Logits, with the memory where it is asked for."""
        memory = {} if memory is None else memory
        resumes = bool(memory)
        if self.fault == "ignored":
            memory.clear()
        if self.fault == "mixed rows":
            memory |= {name: total.flip(0) for name, total in memory.items()}
        if self.fault == "late":
            memory |= {name: total + 1e-2 for name, total in memory.items()}
        stream = self.embed(ids)
        for index, layer in enumerate(self.layers):
            name = "0" if self.fault == "shared" else str(index)
            if self.fault == "swapped" and resumes:
                name = str((index + 1) % 3)
            own = {} if self.fault == "forgetful" and index == 2 else memory
            stream = layer(stream, own, name)
        output: dict[str, Any] = {"logits": 3 * self.head(stream)}
        return output | {"memory": memory} if use_cache else output


def reciting(fault: str = "") -> lt.TracedModel:
    """Such a model with parameters of its own."""
    generator = torch.Generator().manual_seed(4)
    module = Reciting(fault)
    for parameter in module.parameters():
        parameter.data = torch.rand(parameter.shape, generator=generator) * 1.6 - 0.8
    return lt.wrap_model(module, name="reciting")


def test_a_cache_of_any_class() -> None:
    """A dictionary of tensors is a cache; its entries are found and masked."""
    model = reciting()
    prompt = (4, 9, 17, 21, 5)
    mask = lt.Mask(site="state", fraction=1.0, scheme="random", draws=1)
    found = lt.trace(model, as_samples([prompt]), perturbation=mask).js_bits[0, 0]
    ids = torch.tensor([prompt])
    for layer in range(3):
        memory = model.module(ids[:, :-1], use_cache=True)["memory"]
        memory[str(layer)] = torch.zeros_like(memory[str(layer)])
        forgetful = torch.log_softmax(model.module(ids[:, -1:], memory=memory)["logits"][0, -1].double(), dim=-1)
        clean = torch.log_softmax(model.module(ids)["logits"][0, -1].double(), dim=-1)
        assert abs(js_bits(clean.detach().numpy(), forgetful.detach().numpy()) - found[layer]) <= 1e-6
        assert found[layer] > 1e-3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("ignored", "its own cache changes what it says"),
        ("late", "all write to"),
        ("shared", "all write to"),
        ("swapped", "its own cache changes what it says"),
        ("unread", "does not show in what leaves that layer"),
        ("forgetful", "its own cache changes what it says"),
    ],
)
def test_planted_faults_are_caught(fault: str, reason: str) -> None:
    """A model that forgets, mixes or shares its memories is refused, with the reason."""
    with pytest.raises(lt.SiteError, match=reason):
        lt.trace(reciting(fault), as_samples([(4, 9, 17)]), perturbation=lt.Mask(site="state"))


def test_rows_that_are_mixed_up_run_alone() -> None:
    """Where a cache mixes up the rows of a batch, they are read one at a time, and the numbers are right."""
    samples, mask = as_samples([(4, 9, 17), (21, 2, 8)]), lt.Mask(site="state", fraction=0.5, draws=2)
    right = lt.trace(reciting(), samples, perturbation=mask).js_bits
    model = reciting("mixed rows")
    np.testing.assert_allclose(lt.trace(model, samples, perturbation=mask).js_bits, right, atol=1e-6, rtol=0)
    assert model.state_proof.site().continuation.one_row


# ---------------------------------------------------------------- refusals and records


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lt.Mask(site="state", positions="last"), r"positions='last'.*Leave positions out"),
        (lambda: lt.Noise(site="state", positions="last"), r"positions='last'.*Leave positions out"),
        (lambda: lt.Mask(site="state", fill="mean"), r"fill='mean'.*Use fill='zero'"),
        (lambda: lt.Mask(site="state", fill="resample"), r"fill='resample'.*Use fill='zero'"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(make: Any, message: str) -> None:
    """Masks that cannot be meant are refused before a model is needed."""
    with pytest.raises(lt.UsageError, match=message):
        make()


def test_prompts_of_one_token_are_refused() -> None:
    """There is nothing before the only token that could be remembered."""
    with pytest.raises(lt.UsageError, match=r"Sample 1: a prompt of one token.*two tokens or more"):
        state_js("llama", lt.Mask(site="state"), [(5, 6), (7,)])


def test_explicit_masks_that_fit_not_every_slot_are_refused() -> None:
    """One width for all layers fits only where all slots are of that size; the message names the sizes."""
    with pytest.raises(lt.UsageError, match=r"a slot of layer 0 has 16 entries"):
        state_js("llama", lt.Mask.explicit(np.ones((4, 1, 32)), site="state"))
    with pytest.raises(lt.UsageError, match=r"a slot of layer 0 has 256 or 384 entries"):
        state_js("jamba", lt.Mask.explicit(np.ones((5, 1, 32)), site="state"))


def test_a_mask_of_nothing_is_refused() -> None:
    """A fraction that masks less than one entry of every slot says how much is needed."""
    with pytest.raises(lt.UsageError, match=r"fraction=0.01 of the 16 entries of a slot.*at least 0.062"):
        state_js("llama", lt.Mask(site="state", fraction=0.01, scheme="random"))


def test_models_without_a_cache_are_refused() -> None:
    """A module that takes no use_cache keeps nothing; the other sites remain."""
    module = NanoGPT(d_vocab=101, d_model=32, n_layers=2, n_heads=4, max_length=64)
    model = lt.wrap_model(module, name="nanogpt")
    with pytest.raises(lt.SiteError, match=r"its cache cannot be used, because its forward takes no use_cache"):
        lt.trace(model, as_samples(PROMPTS), perturbation=lt.Mask(site="state"))
    check = model.check_everything()
    assert check.passed
    assert any("use_cache" in note for note in check.notes)


def test_layers_without_a_memory_are_missing() -> None:
    """In a hybrid with layers of an MLP alone, these have no divergence at all, and the others have one."""
    model = lt.wrap_model(registry.build("nemotron_h"))
    trace = lt.trace(model, as_samples(PROMPTS), perturbation=lt.Mask(site="state", fraction=0.5, draws=2))
    without = [layer.index for layer in model.anatomy.layers if layer.mixer == "none"]
    assert without
    assert list(trace.layers_without_site) == without
    assert np.isnan(trace.js_bits[:, :, without]).all()
    with_memory = np.delete(trace.js_bits, without, axis=-1)
    assert np.isfinite(with_memory).all()
    assert (with_memory.mean(axis=(0, 1)) > 1e-4).all()


def test_models_with_an_encoder_are_refused() -> None:
    """A decoder's cache holds what the encoder said, too; the reason names that."""
    model = lt.wrap_model(registry.build("t5", encoder_decoder=True))
    with pytest.raises(lt.SiteError, match="it has an encoder"):
        lt.trace(
            model,
            [lt.Sample(prompt_ids=(5, 6), decoder_ids=(7, 8), answer_id=9)],
            perturbation=lt.Mask(site="state"),
        )


def test_a_record_keeps_the_proof_and_reads_back(tmp_path: Path) -> None:
    """The checks of the site stand in the record; dominant dimensions are not looked for, and the report is whole."""
    trace = lt.trace(tiny("mamba"), as_samples(PROMPTS), perturbation=lt.Mask(site="state"))
    assert {"state", "state_readout", "state_identity", "state_layers"} <= set(trace.self_check.errors)
    assert trace.self_check.passed
    assert not trace.dominant.is_known
    assert not trace.dominant_hit.any()
    assert lt.load_run(trace.save(tmp_path / "run")) == trace
    page = trace.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "state (the layer's memory)" in page.replace("&#39;", "'")
    assert 'id="dominant"' not in page
