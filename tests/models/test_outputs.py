"""What a module may return in place of logits at every position."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import layertracer as lt

from tests.support.models.hybrids import Hybrid
from tests.support.oracles.plain_hooks import plain_js, plain_readouts

INNER = Hybrid()
IDS = (3, 9, 4, 7, 11, 2)
SAMPLES = [lt.Sample(prompt_ids=IDS, answer_id=5)]


class Returning(nn.Module):
    """A language model whose output goes through something."""

    def __init__(self, leave: Any) -> None:
        super().__init__()
        self.inner, self.leave = copy.deepcopy(INNER), leave

    def forward(self, ids: Tensor) -> Any:
        """What `leave` makes of the logits."""
        return self.leave(self.inner(ids))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_probabilities_are_refused(dtype: torch.dtype) -> None:
    """Outputs that went through a softmax are not read as logits."""
    module = Returning(lambda logits: logits.softmax(dim=-1)).to(dtype)
    with pytest.raises(lt.AnatomyError, match=r"returns probabilities, not logits: .*log_softmax"):
        lt.wrap_model(module)


def test_log_probabilities_are_logits() -> None:
    """Log-probabilities give the numbers of the logits that they are made of."""
    own, logged = (lt.wrap_model(Returning(leave)) for leave in (lambda x: x, lambda x: x.log_softmax(dim=-1)))
    mask = lt.Mask(draws=2, fraction=0.5)
    one, other = (lt.trace(model, SAMPLES, perturbation=mask) for model in (own, logged))
    np.testing.assert_allclose(one.js_bits, other.js_bits, atol=1e-6)
    np.testing.assert_allclose(one.target_prob, other.target_prob, atol=1e-6)


class Thrifty(nn.Module):
    """Logits and a loss, as in nanoGPT: without targets, logits of the last position alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = copy.deepcopy(INNER)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits, at every position where there are targets, and the loss."""
        logits = self.inner(idx)
        if targets is None:
            return logits[:, [-1], :], None
        return logits, nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Miserly(Thrifty):
    """The last position's logits, whatever it is told."""

    def forward(self, idx: Tensor) -> tuple[Tensor, None]:
        """Logits [batch, 1, d_vocab]."""
        return self.inner(idx)[:, [-1], :], None


def test_logits_at_every_position_where_there_are_targets() -> None:
    """A model that skips all positions but the last unless it has targets is traced as the one that never does."""
    model, inner = lt.wrap_model(Thrifty()), INNER
    assert model.self_check.method == "ladder"
    keep = np.random.default_rng(0).random((model.anatomy.n_layers, 2, model.anatomy.d_model)) < 0.5
    trace = lt.trace(model, SAMPLES, perturbation=lt.Mask.explicit(keep))
    np.testing.assert_allclose(trace.js_bits[0], plain_js(inner, "layers", IDS, keep=keep), atol=1e-6)
    readout = lt.read_layers(model, SAMPLES)
    np.testing.assert_allclose(readout.log_probs[0], plain_readouts(inner, "layers", IDS), atol=1e-5)


def test_the_last_position_alone_is_refused() -> None:
    """A model that gives no more than the last position's logits is refused, with what is needed."""
    with pytest.raises(lt.AnatomyError, match=r"logits at the last position alone: shape \[2, 1, \d+\]"):
        lt.wrap_model(Miserly())


def test_flex_attention_is_refused_in_one_sentence() -> None:
    """Attention into which no mode looks is refused with the implementation to choose, and not with a dump."""
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        attn_implementation="flex_attention",
    )
    with torch.random.fork_rng(devices=[]):
        module = LlamaForCausalLM(config).eval()
    with pytest.raises(lt.AnatomyError, match="attn_implementation='sdpa'") as caught:
        lt.wrap_model(module)
    assert "HigherOrderOperator" not in str(caught.value)
    module.set_attn_implementation("sdpa")
    assert lt.wrap_model(module).self_check.method == "ladder"
