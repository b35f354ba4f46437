"""First-order estimates of removals, against autograd on plain models whose branches are scaled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt
from layertracer.tracing import TraceOptions, attribute_logits, estimate_removals
from layertracer.tracing._attribution.directional import Slope, verdict

from tests.support.models.families import BY_NAME
from tests.support.models.offloaded import offloaded
from tests.support.models.plain_modules import NanoGPT
from tests.support.models.registry import build
from tests.support.oracles.scaled_branches import branch_products
from tests.support.tiny import fresh, tiny

PROMPTS = ((5, 9, 2, 31, 8, 17, 4), (11, 4, 20, 8, 3), (6, 6, 3, 12, 40, 1, 30))
FAMILIES = ("llama", "gpt2", "gemma2", "granite", "mamba", "jamba", "qwen3_next", "mixtral", "gpt_neox", "nanogpt")


def samples(prompts: tuple[tuple[int, ...], ...] = PROMPTS) -> list[lt.Sample]:
    """Prompts of token ids that are answered with token 7."""
    return [lt.Sample(prompt_ids=ids, answer_id=7) for ids in prompts]


NO_FLOAT64 = ("jamba", "qwen3_next", "mixtral")
"""Families whose experts' kernel knows no float64."""


def in_float64(name: str) -> lt.TracedModel:
    """A tiny model in float64, with gradients on."""
    return lt.wrap_model(fresh(name).double(), name=name)


@pytest.mark.parametrize("name", FAMILIES)
def test_estimates_are_those_of_scaled_branches(name: str) -> None:
    """Each estimate is minus the derivative by autograd of a plain model whose branch is scaled."""
    model, family = tiny(name) if name in NO_FLOAT64 else in_float64(name), BY_NAME[name]
    close = {"rtol": 2e-4, "atol": 2e-4} if name in NO_FLOAT64 else {"rtol": 1e-6, "atol": 1e-8}
    found = estimate_removals(model, samples())
    branches = {"mixer": family.read.mixer_branch, "mlp": family.read.mlp_branch, "block": None}
    for role, branch in branches.items():
        if role in found.why_not:
            assert role == "mlp"
            assert set(family.mlps) == {"none"}
            continue
        for row, ids in enumerate(PROMPTS):
            expected = -branch_products(model.module, family.layers, branch, ids, 7)
            np.testing.assert_allclose(found.change_nats[role][row], expected, **close)
    assert found.n_audited >= 1
    assert not found.notes


def test_two_mixers_in_parallel_are_one() -> None:
    """Where a layer has two mixers beside each other, what both add is the mixer's."""
    module = build("falcon_h1").double()
    model = lt.wrap_model(module, name="falcon_h1")
    found = estimate_removals(model, samples())
    block = module.model.layers[0]
    names = [name for name in ("mamba", "self_attn") if hasattr(block, name)]
    for row, ids in enumerate(PROMPTS):
        # What both make is multiplied before it is added: scaling it scales what is added.
        expected = -branch_products(module, "model.layers", "+".join(names), ids, 7)
        np.testing.assert_allclose(found.change_nats["mixer"][row], expected, rtol=1e-6, atol=1e-8)


def test_a_prompt_of_hundreds_of_tokens() -> None:
    """Longer prompts than every probe have the derivatives of the plain model, too."""
    module = NanoGPT(d_vocab=41, d_model=32, n_layers=3, n_heads=4, max_length=400).double().eval()
    model = lt.wrap_model(module, name="long")
    ids = tuple(int(token) for token in np.random.default_rng(0).integers(0, 41, 320))
    found = estimate_removals(model, samples((ids, ids[:5])))
    for role, branch in {"mixer": "attn", "mlp": "mlp", "block": None}.items():
        expected = -branch_products(module, "transformer.h", branch, ids, 7)
        np.testing.assert_allclose(found.change_nats[role][0], expected, rtol=1e-6, atol=1e-9)


def test_all_positions_of_running_text_count() -> None:
    """With target_tokens="all" the log-probability is the sum over the answer's tokens, as it is for a plain model."""
    model = lt.load_model("mini/attention")
    text = lt.Sample(prompt="the", answer=" cat sat on the mat and then it went home")
    found = estimate_removals(model, [text], TraceOptions(target_tokens="all"))
    one = lt.trace(model, [text], target_tokens="all", perturbation=lt.Skip(), audit=0)
    assert found.log_prob[0] == pytest.approx(float(one.target_log_prob[0, -1]), abs=1e-3)
    assert np.isfinite(found.change_nats["block"]).all()


def test_several_answers_count_by_their_shares() -> None:
    """Of answers that begin otherwise, each one's estimate counts by its share of the probability."""
    model = in_float64("llama")
    several = [lt.Sample(prompt_ids=PROMPTS[0], answer_ids=(7, 9))]
    single = [lt.Sample(prompt_ids=PROMPTS[0], answer_id=token) for token in (7, 9)]
    found, alone = estimate_removals(model, several), estimate_removals(model, single)
    shares = np.exp(alone.log_prob) / np.exp(alone.log_prob).sum()
    for role in ("mixer", "mlp", "block"):
        expected = (shares[:, None] * alone.change_nats[role]).sum(axis=0)
        np.testing.assert_allclose(found.change_nats[role][0], expected, rtol=1e-6)


def test_the_model_stays_as_it_was() -> None:
    """Parameters, their gradients and flags, training mode and hooks are what they were before."""
    module = fresh("llama").train()
    frozen = next(module.parameters())
    frozen.requires_grad_(False)
    marked = list(module.parameters())[3]
    marked.grad = torch.full_like(marked, 2.0)
    model = lt.wrap_model(module, name="trained")
    module.train()
    flags = [parameter.requires_grad for parameter in module.parameters()]
    values = [parameter.detach().clone() for parameter in module.parameters()]
    estimate_removals(model, samples())
    assert all(part.training for part in module.modules())
    assert flags == [parameter.requires_grad for parameter in module.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(values, module.parameters(), strict=True))
    assert [parameter.grad is None for parameter in module.parameters()].count(False) == 1
    assert marked.grad is not None
    assert bool((marked.grad == 2.0).all())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert not any("forward" in vars(part) for part in module.modules())


@pytest.mark.parametrize("requires_grad", [True, False])
def test_frozen_parameters_make_no_difference(requires_grad: bool) -> None:
    """Whether parameters require gradients, and whether the caller has gradients on, changes no number."""
    module = fresh("gpt2").requires_grad_(requires_grad)
    with torch.set_grad_enabled(requires_grad):
        found = estimate_removals(lt.wrap_model(module, name="frozen"), samples())
    expected = estimate_removals(tiny("gpt2"), samples())
    for role, values in expected.change_nats.items():
        np.testing.assert_allclose(found.change_nats[role], values, rtol=1e-5, atol=1e-6)


def test_prompts_do_not_depend_on_those_beside_them() -> None:
    """Each prompt alone has the numbers that it has among others."""
    together = estimate_removals(tiny("llama"), samples(), TraceOptions(audit=0))
    for row, sample in enumerate(samples()):
        alone = estimate_removals(tiny("llama"), [sample], TraceOptions(audit=0, memory="1MB"))
        np.testing.assert_allclose(
            alone.change_nats["block"][0], together.change_nats["block"][row], rtol=1e-4, atol=1e-5
        )


def test_half_precision_is_close() -> None:
    """In bfloat16 products are taken in more digits: the estimates are near those in float64."""
    exact = estimate_removals(in_float64("llama"), samples())
    rough = estimate_removals(lt.wrap_model(fresh("llama").bfloat16(), name="half"), samples())
    assert not rough.why_not
    for role, values in exact.change_nats.items():
        assert np.linalg.norm(rough.change_nats[role] - values) < 0.15 * np.linalg.norm(values)


class Detached(nn.Module):
    """A module whose output carries no gradient, or another one than it should."""

    def __init__(self, inner: nn.Module, how: str) -> None:
        super().__init__()
        self.inner, self.how = inner, how

    def forward(self, x: Tensor) -> Tensor:
        """What the inner module makes of it."""
        if self.how == "raises":
            return _Kernel.apply(self.inner(x))
        return self.inner(x.detach())


class _Kernel(torch.autograd.Function):
    """A kernel without a backward pass."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        """A copy."""
        return x.clone()


def test_gradients_that_are_cut_are_no_number() -> None:
    """Where the model's own code cuts a gradient off within a layer, differences of the plain model give it away."""
    module = fresh("nanogpt").double()
    block = module.transformer["h"][2]
    block.attn = Detached(block.attn, "detaches")
    found = estimate_removals(lt.wrap_model(module, name="cut"), samples())
    assert set(found.why_not) == {"mixer", "mlp", "block"}
    assert "cuts or replaces gradients" in found.why_not["block"]
    assert all(np.isnan(values).all() for values in found.change_nats.values())


def test_kernels_without_a_backward_pass_are_a_reason() -> None:
    """A model that runs code which cannot be differentiated has no estimates, and the reason why."""
    module = fresh("nanogpt")
    block = module.transformer["h"][1]
    block.mlp = Detached(block.mlp, "raises")
    found = estimate_removals(lt.wrap_model(module, name="kernel"), samples())
    assert "its code cannot be differentiated (NotImplementedError" in found.why_not["block"]
    assert np.isnan(found.change_nats["mixer"]).all()


@pytest.mark.parametrize("kind", ["offloaded", "packed"])
def test_weights_that_come_and_go_are_a_reason(kind: str, tmp_path: Path) -> None:
    """Models whose weights accelerate loads, or are packed, are not differentiated, and the reason is given."""
    module = fresh("llama")
    if kind == "offloaded":
        module = offloaded(module, "main memory", tmp_path)
    else:
        module.model.layers[0].register_buffer("qweight", torch.zeros(4, 4, dtype=torch.int32))
    found = estimate_removals(lt.wrap_model(module, name=kind), samples())
    assert {"offloaded": "accelerate", "packed": "quantised"}[kind] in found.why_not["block"]
    assert np.isnan(found.change_nats["block"]).all()
    assert "mixer" not in attribute_logits(lt.wrap_model(module, name=kind), samples()).why_not


def test_decoders_of_encoder_decoders() -> None:
    """Of an encoder-decoder model the decoder's layers have estimates, and differences of plain forwards agree."""
    model = tiny("encdec:t5")
    given = [lt.Sample(prompt_ids=ids, decoder_ids=(0, 4, 6), answer_id=7) for ids in PROMPTS]
    found = estimate_removals(model, given, TraceOptions(audit=1.0))
    assert not found.why_not
    assert (found.n_audited, found.notes) == (3, ())
    assert np.isfinite(found.change_nats["block"]).all()


def test_inference_tensors_are_a_reason() -> None:
    """Weights that were made in inference mode cannot be differentiated through, and that is said."""
    with torch.inference_mode():
        module = NanoGPT(d_vocab=41, d_model=32, n_layers=3, n_heads=4, max_length=64).eval()
    found = estimate_removals(lt.wrap_model(module, name="inference"), samples())
    assert "Inference tensors" in found.why_not["block"]


def test_settled_differences_convict_and_others_do_not() -> None:
    """A gradient is wrong where differences over two distances agree on another one; jumps tell nothing."""
    settled = [Slope(value=1.0, tolerance=0.01), Slope(value=1.001, tolerance=0.01)]
    jump = [Slope(value=2.0, tolerance=0.01), Slope(value=16.0, tolerance=0.1)]
    assert verdict(settled, 1.005, size=1.0) is True
    assert verdict(settled, 3.0, size=1.0) is False
    assert verdict(jump, 1.0, size=1.0) is None
    assert verdict([Slope(value=1.0, tolerance=5.0)], 3.0, size=1.0) is None
