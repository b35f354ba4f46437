"""The mixers' arithmetic in training, against recurrences written out and against Transformers' own code."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from training import build_untrained, draw_batch, find_miniature
from training.kernels import causal_conv, computing_in_one_chunk, gated_delta_rule, selective_scan

FAMILIES = ("gated-deltanet", "hybrid", "mamba2", "mamba2-hybrid")


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_delta_rule_is_its_recurrence() -> None:
    """One chunk gives what the recurrence gives, one position after another, in float64."""
    query, key, value = (_normal(2, 11, 3, 5, seed=seed) for seed in (0, 1, 2))
    decay, beta = -_normal(2, 11, 3, seed=3).abs(), _normal(2, 11, 3, seed=4).sigmoid()
    units = [vectors / (vectors.square().sum(-1, keepdim=True) + 1e-6).sqrt() for vectors in (query, key)]
    state = torch.zeros(2, 3, 5, 5, dtype=torch.float64)
    expected = []
    for t in range(11):
        state = state * decay[:, t, :, None, None].exp()
        read = torch.einsum("bhkv,bhk->bhv", state, units[1][:, t])
        change = (value[:, t] - read) * beta[:, t, :, None]
        state = state + torch.einsum("bhk,bhv->bhkv", units[1][:, t], change)
        expected.append(torch.einsum("bhkv,bhk->bhv", state, units[0][:, t]) * 5**-0.5)
    result, _ = gated_delta_rule(query, key, value, g=decay, beta=beta)
    torch.testing.assert_close(result, torch.stack(expected, dim=1), atol=1e-12, rtol=1e-10)


def test_scan_is_its_recurrence() -> None:
    """One chunk gives what Mamba2's recurrence gives, one position after another, in float64."""
    inputs, steps = _normal(2, 9, 4, 3, seed=0), _normal(2, 9, 4, seed=1)
    rates, skip, bias = -_normal(4, seed=2).abs(), _normal(4, seed=3), _normal(4, seed=4)
    write, read = _normal(2, 9, 2, 5, seed=5), _normal(2, 9, 2, 5, seed=6)
    widths = functional.softplus(steps + bias)
    state = torch.zeros(2, 4, 3, 5, dtype=torch.float64)
    expected = []
    for t in range(9):
        keys, queries = (vectors[:, t].repeat_interleave(2, dim=1) for vectors in (write, read))
        added = torch.einsum("bhp,bhn->bhpn", inputs[:, t] * widths[:, t, :, None], keys)
        state = state * (rates * widths[:, t])[..., None, None].exp() + added
        expected.append(torch.einsum("bhpn,bhn->bhp", state, queries) + skip[:, None] * inputs[:, t])
    result = selective_scan(
        inputs, steps, rates, write, read, chunk_size=4, D=skip, dt_bias=bias, dt_limit=(0.0, float("inf"))
    )
    torch.testing.assert_close(result, torch.stack(expected, dim=1), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_convolution_is_pytorchs(activation: str | None, has_bias: bool) -> None:
    """A sum of shifted copies is a depthwise convolution."""
    inputs, weight = _normal(2, 6, 10, seed=0), _normal(6, 4, seed=1)
    bias = _normal(6, seed=2) if has_bias else None
    expected = functional.conv1d(inputs, weight.unsqueeze(1), bias, padding=3, groups=6)[..., :10]
    expected = functional.silu(expected) if activation else expected
    torch.testing.assert_close(causal_conv(inputs, weight, bias, activation), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_models_compute_the_same(family: str) -> None:
    """With and without it, a model has the same logits and the same gradients."""
    module = build_untrained(find_miniature(family))
    ids = torch.from_numpy(draw_batch(seed=0, step=0, n_documents=2, n_tokens=21).ids)

    def run() -> tuple[Tensor, Tensor]:
        module.zero_grad()
        logits = module(input_ids=ids, use_cache=False).logits
        functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
        gradients = [parameter.grad.flatten() for parameter in module.parameters() if parameter.grad is not None]
        return logits.detach(), torch.cat(gradients)

    logits, gradients = run()
    with computing_in_one_chunk():
        same_logits, same_gradients = run()
    torch.testing.assert_close(same_logits, logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(same_gradients, gradients, atol=1e-5, rtol=1e-3)


def test_transformers_is_left_as_it_was() -> None:
    """After the block, and after an exception in it, Transformers' own functions are back."""
    from transformers.models.qwen3_5 import modeling_qwen3_5

    original = modeling_qwen3_5.torch_chunk_gated_delta_rule
    with computing_in_one_chunk():
        assert modeling_qwen3_5.torch_chunk_gated_delta_rule is gated_delta_rule
    assert modeling_qwen3_5.torch_chunk_gated_delta_rule is original
    with pytest.raises(RuntimeError, match="stop"), computing_in_one_chunk():
        raise RuntimeError("stop")
    assert modeling_qwen3_5.torch_chunk_gated_delta_rule is original


def test_states_are_refused() -> None:
    """What goes on from a state is not computed in one chunk."""
    tensors = [_normal(1, 2, 1, 3, seed=seed) for seed in range(3)]
    scalars = [_normal(1, 2, 1, seed=seed) for seed in (3, 4)]
    with pytest.raises(AssertionError, match="no state before it"):
        gated_delta_rule(*tensors, *scalars, initial_state=torch.zeros(1, 1, 3, 3))
