"""What prompts have in common is read once: the same numbers with less work, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import layertracer as lt
from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._batching.shared_prefixes import PrefixNode, plan_prefixes, tokens_saved

from tests.support.models import registry
from tests.support.models.families import BRANCHES, BY_NAME, build_family, build_tiny
from tests.support.oracles.plain_hooks import plain_js, plain_readouts
from tests.support.tokenizers import numbers

DEMONSTRATIONS = (7, 23, 91, 4, 66, 38, 52, 17, 80, 12, 45, 3)
OTHERS = (60, 61, 62, 63, 64, 65, 66, 67, 68)
PROMPTS = tuple(DEMONSTRATIONS + own for own in ((90, 33, 15), (62, 48, 5), (71, 29), (8, 9, 10), (11, 70)))
NESTED = tuple(DEMONSTRATIONS + OTHERS + own for own in ((90, 33), (62, 48), (71, 29)))

FAMILIES = (
    "llama",
    "mistral",  # a sliding window shorter than the prefix
    "gemma3_text",  # sliding and full
    "llama4_text",  # chunked
    "deepseek_v3",  # latent
    "bloom",  # heads folded into the batch
    "gpt2",
    "mixtral",
    "mamba",  # forgets its state where several tokens follow it
    "mamba2",
    "qwen3_next",
    "qwen3_5_text",
    "jamba",
    "zamba2",
    "nemotron_h",
    "lfm2",
    "kimi_linear",
    "rwkv",  # one tensor for all layers
    "gemma4_text",  # borrows keys and values
    "bamba",  # takes a single token for the first, unless it is told
)
IN_DOUBLE = ("zamba2",)
"""It amplifies what rounding leaves to more than the spot check allows; others run in no more than single precision."""


def as_samples(prompts: Sequence[Sequence[int]]) -> list[lt.Sample]:
    """Prompts with one answer."""
    return [lt.Sample(prompt_ids=tuple(prompt), answer_id=3) for prompt in prompts]


@cache
def wrapped(name: str) -> lt.TracedModel:
    """A tiny model of a registered family."""
    module = registry.build(name)
    return lt.wrap_model(module.double() if name in IN_DOUBLE else module, name=name)


@contextmanager
def counting(module: nn.Module) -> Iterator[list[int]]:
    """How many tokens of how many rows a part of a model is given, call by call."""
    counts: list[int] = []

    def count(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        counts.append(args[0].shape[0] * args[0].shape[1])

    handle = module.register_forward_pre_hook(count)
    try:
        yield counts
    finally:
        handle.remove()


@pytest.mark.parametrize("name", FAMILIES)
def test_shared_prefixes_change_no_number(name: str) -> None:
    """Traces with shared and nested prefixes, and of last positions alone, are those of whole prompts."""
    model = wrapped(name)
    samples = as_samples((*PROMPTS, *NESTED, (5, 6, 7)))
    for perturbation in (
        lt.Mask(site="block_output", draws=2, fraction=0.5),
        lt.Noise(site="block_output", scale=0.5, draws=1, positions="last"),
    ):
        shared = lt.trace(model, samples, perturbation=perturbation, share_prefix=True)
        whole = lt.trace(model, samples, perturbation=perturbation, share_prefix=False)
        assert shared.self_check["prefix"].passed
        assert not [warning for warning in shared.warnings if "prefix" in warning or "cache" in warning]
        np.testing.assert_allclose(shared.js_bits, whole.js_bits, atol=1e-5, rtol=0)
        np.testing.assert_allclose(shared.target_prob, whole.target_prob, atol=1e-5, rtol=0)
        np.testing.assert_allclose(shared.entropy_bits, whole.entropy_bits, atol=1e-3, rtol=0)
        np.testing.assert_array_equal(shared.dominant_dimension, whole.dominant_dimension)
        np.testing.assert_allclose(shared.dominant_ratio, whole.dominant_ratio, rtol=1e-3)


@pytest.mark.parametrize("site", ["block_output", "mixer_output", "mlp_output"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "falcon", "jamba"])
def test_shared_prefixes_agree_with_plain_hooks(name: str, site: str) -> None:
    """At every site, prompts that share a prefix give what plain hooks give for each of them."""
    family, module = BY_NAME[name], build_tiny(name)
    keep = np.random.default_rng(5).random((family.n_layers, 1, family.d_model)) > 0.4
    mask = lt.Mask.explicit(keep, site=site)
    trace = lt.trace(lt.wrap_model(module, name=name), as_samples(PROMPTS), perturbation=mask, share_prefix=True)
    assert trace.self_check["prefix"].passed
    for row, prompt in enumerate(PROMPTS):
        bits = plain_js(module, family.layers, prompt, keep=keep, branches=BRANCHES[name], site=site)
        np.testing.assert_allclose(trace.js_bits[row], bits, atol=1e-5, rtol=0)
        readouts = plain_readouts(module, family.layers, prompt)
        np.testing.assert_allclose(trace.target_prob[row], np.exp(readouts[:, 3]), atol=1e-5, rtol=0)


def test_a_stack_without_attention_shares_prefixes() -> None:
    """Where a cache cannot tell how many tokens it has taken in, they are counted for the model; plain hooks agree."""
    own = BY_NAME["qwen3_5_text"]
    module = build_family(replace(own, settings=own.settings | {"layer_types": ["linear_attention"] * 4}))
    keep = np.random.default_rng(8).random((4, 1, own.d_model)) > 0.4
    mask = lt.Mask.explicit(keep)
    trace = lt.trace(lt.wrap_model(module), as_samples((*PROMPTS, *NESTED)), perturbation=mask, share_prefix=True)
    assert trace.self_check["prefix"].passed
    assert not trace.warnings
    for row, prompt in enumerate((*PROMPTS, *NESTED)):
        np.testing.assert_allclose(trace.js_bits[row], plain_js(module, own.layers, prompt, keep=keep), atol=1e-5)


@pytest.mark.parametrize("fill", ["mean", "resample"])
def test_fills_that_look_across_prompts_are_shared_too(fill: str) -> None:
    """What masked dimensions become is fixed before the first pass, so that it is the same for all prompts."""
    model, mask = wrapped("llama"), lt.Mask(site="block_output", draws=2, fraction=0.5, fill=fill)
    shared, whole = (
        lt.trace(model, as_samples(PROMPTS), perturbation=mask, share_prefix=share) for share in (True, False)
    )
    np.testing.assert_allclose(shared.js_bits, whole.js_bits, atol=1e-5, rtol=0)


def test_several_target_tokens_are_read_after_a_prefix() -> None:
    """Teacher-forced answers of several tokens are read where they are read in whole prompts."""
    samples = [lt.Sample(prompt=" ".join(f"t{token}" for token in ids), answer=" t3 t9 t4") for ids in PROMPTS]
    for name in ("llama", "mamba"):
        model = lt.wrap_model(registry.build(name), numbers(), name=name)
        for positions in ("all", "last"):
            mask = lt.Mask(site="block_output", draws=2, fraction=0.5, positions=positions)
            shared, whole = (
                lt.trace(model, samples, perturbation=mask, target_tokens="all", share_prefix=share)
                for share in (True, False)
            )
            np.testing.assert_allclose(shared.js_bits, whole.js_bits, atol=1e-5, rtol=0)
            np.testing.assert_allclose(shared.target_log_prob, whole.target_log_prob, atol=1e-3, rtol=0)


def test_a_prefix_is_read_once() -> None:
    """The first layer reads the prefix once and of every prompt its own tokens; later ones as often as rows ride."""
    module = build_tiny("llama")
    model = lt.wrap_model(module)
    samples = as_samples([(*DEMONSTRATIONS, own, own + 1) for own in range(20, 28)])
    mask = lt.Mask(site="block_output", draws=1, scheme="random")
    lt.trace(model, samples, perturbation=mask, share_prefix=True)
    for layer in range(model.anatomy.n_layers):
        with counting(module.model.layers[layer].mlp) as counts:
            lt.trace(model, samples, perturbation=mask, share_prefix=True, audit=0)
        assert sum(counts) == (1 + layer) * (len(DEMONSTRATIONS) + len(samples) * 2)


def test_a_last_position_is_perturbed_alone() -> None:
    """With positions="last", perturbed rows are of one token, whatever the length of the prompt."""
    module = build_tiny("llama")
    model = lt.wrap_model(module)
    samples = as_samples([tuple(range(20 + own, 40 + own)) for own in range(6)])
    mask = lt.Mask(site="block_output", draws=3, scheme="random", positions="last")
    lt.trace(model, samples, perturbation=mask, share_prefix=True)
    for layer in range(model.anatomy.n_layers):
        with counting(module.model.layers[layer].mlp) as counts:
            lt.trace(model, samples, perturbation=mask, share_prefix=True, audit=0)
        assert sum(counts) == len(samples) * (19 + 1 + 3 * layer)


class Forgetful(nn.Module):
    """A language model whose layers forget what came before their last tokens, where they go on from a cache.

    Args:
        module: The model that it was.
        n_kept: How many tokens a layer remembers.
        complains: Whether it raises an error instead of forgetting.
    """

    def __init__(self, module: nn.Module, n_kept: int, *, complains: bool = False) -> None:
        super().__init__()
        self.inner, self.config, self.n_kept, self.complains = module, module.config, n_kept, complains
        for index, layer in enumerate(module.model.layers):
            layer.self_attn.register_forward_pre_hook(partial(self._forget, index), with_kwargs=True)

    def _forget(self, index: int, _module: nn.Module, _args: object, kwargs: Mapping[str, Any]) -> None:
        cache = kwargs["past_key_values"]
        if cache is not None and cache.get_seq_length(index) > self.n_kept:
            if self.complains:
                raise RuntimeError("the cache is full")
            cache.layers[index].keys[:, :, : -self.n_kept] = 0

    def forward(
        self, input_ids: Tensor, past_key_values: Any = None, position_ids: Any = None, *, use_cache: bool = False
    ) -> Any:
        """What the inner model says."""
        return self.inner(
            input_ids=input_ids, past_key_values=past_key_values, position_ids=position_ids, use_cache=use_cache
        )


@pytest.mark.parametrize("complains", [False, True])
def test_a_prefix_longer_than_what_the_proof_saw_is_looked_at(complains: bool) -> None:
    """Where a cache goes wrong or fails beyond the probes' lengths, prompts are traced whole, and the trace says so."""
    model = lt.wrap_model(Forgetful(registry.build("llama"), n_kept=24, complains=complains))
    long = tuple(range(30, 70))
    samples = as_samples([(*long, own, own + 1) for own in range(5, 13)])
    mask = lt.Mask(site="block_output", draws=1, scheme="random", fraction=0.5)
    shared = lt.trace(model, samples, perturbation=mask, share_prefix=True)
    whole = lt.trace(model, samples, perturbation=mask, share_prefix=False)
    assert shared.self_check["prefix"].passed
    words = "without the model's own cache" if complains else "measured anew without shared prefixes"
    assert any(words in warning for warning in shared.warnings)
    np.testing.assert_array_equal(shared.js_bits, whole.js_bits)


@pytest.mark.parametrize("name", ["openai-gpt", "xlnet", "deepseek_v32"])
def test_models_that_cannot_share_say_so(name: str) -> None:
    """Where there is no usable cache, asking for shared prefixes gives the same numbers and the reason."""
    model, mask = wrapped(name), lt.Mask(site="block_output", draws=1, fraction=0.5, scheme="random")
    shared, whole = (
        lt.trace(model, as_samples(PROMPTS), perturbation=mask, share_prefix=share) for share in (True, False)
    )
    assert any(warning.startswith("Prompts share no prefix") for warning in shared.warnings)
    np.testing.assert_array_equal(shared.js_bits, whole.js_bits)


def test_small_traces_are_not_proved_for_nothing() -> None:
    """Where sharing would save little, nothing is proved and nothing said."""
    model = lt.wrap_model(registry.build("llama"))
    trace = lt.trace(
        model, as_samples(PROMPTS[:2]), perturbation=lt.Mask(site="block_output", draws=1, scheme="random")
    )
    assert "prefix" not in trace.self_check.errors
    assert not trace.warnings


_TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=40).map(tuple)


@settings(max_examples=200, deadline=None)
@given(st.lists(_TOKENS, min_size=1, max_size=12), st.integers(1, 2))
def test_every_prompt_stands_once_under_what_it_begins_with(prompts: list[tuple[int, ...]], shortest: int) -> None:
    """A tree of prefixes holds every prompt once; each begins with its node's tokens and has some of its own left."""
    laid_out = [
        Prompt(index=index, ids=ids, read=(len(ids) - 1,), target_ids=(1,)) for index, ids in enumerate(prompts)
    ]
    root = plan_prefixes(laid_out, shortest=shortest)
    held = [prompt.index for node in root.nodes() for prompt in node.prompts]
    assert sorted(held) == list(range(len(prompts)))
    _check_node(root, ())
    for node in root.nodes():
        for prompt in node.prompts:
            assert node.end == 0 or len(prompt.ids) - node.end >= shortest
    whole, shared = sum(map(len, prompts)), sum(node.end - node.start for node in root.nodes())
    own = sum(len(prompt.ids) - node.end for node in root.nodes() for prompt in node.prompts)
    assert whole - shared - own == tokens_saved(root)


def _check_node(node: PrefixNode, begin: tuple[int, ...]) -> None:
    assert node.first.ids[: node.start] == begin
    begin = node.first.ids[: node.end]
    assert all(prompt.ids[: node.end] == begin for one in node.nodes() for prompt in one.prompts)
    for child in node.children:
        assert child.start == node.end
        assert child.end > child.start
        _check_node(child, begin)
