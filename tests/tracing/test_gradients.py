"""Modules are traced as constructors and from_pretrained leave them, whatever the caller does about gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt

from tests.support.models import registry

FAMILIES = (("bart", True), ("t5", True), ("qwen3", False))
MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "gradients": torch.enable_grad,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}
SAMPLES = [lt.Sample(prompt_ids=ids, answer_id=11) for ids in ((5, 7, 9), (5, 7, 9, 4))]


def _use_everything(module: nn.Module, samples: Sequence[lt.Sample] = SAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Every public function that runs a network, once."""
    model = lt.wrap_model(module)
    model.check_everything()
    lt.plan(model, samples)
    trace = lt.trace(model, samples, perturbation=lt.Mask(draws=2, fraction=0.5))
    return trace.js_bits, lt.read_layers(model, samples).log_probs.numpy()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "encoder_decoder"), FAMILIES)
def test_the_callers_mode_changes_nothing(name: str, encoder_decoder: bool, mode: str) -> None:
    """In any mode of the caller the numbers are those of frozen parameters, and parameters are left as they were."""
    module = registry.build(name, encoder_decoder=encoder_decoder)
    frozen = registry.build(name, encoder_decoder=encoder_decoder).requires_grad_(requires_grad=False)
    assert all(parameter.requires_grad for parameter in module.parameters())
    samples = [replace(sample, decoder_ids=(2, 6)) for sample in SAMPLES] if encoder_decoder else SAMPLES
    with MODES[mode]():
        found = _use_everything(module, samples)
    for one, other in zip(found, _use_everything(frozen, samples), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_no_module_ever_runs_with_gradients_or_in_inference_mode(mode: str) -> None:
    """Whatever runs of a network, its encoder alone included, runs without gradients and makes ordinary tensors."""
    module = registry.build("bart", encoder_decoder=True)
    seen: set[tuple[bool, bool]] = set()

    def note(*_: Any) -> None:
        seen.add((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    for part in module.modules():
        part.register_forward_pre_hook(note)
    with MODES[mode]():
        _use_everything(module)
    assert seen == {(False, False)}


class Remembering(nn.Module):
    """A language model that keeps a table it made in its first forward, as those with rotary positions do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(24, 8), nn.Linear(8, 24)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True) for _ in range(3)
        )
        self.table: Tensor | None = None

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        if self.table is None:
            self.table = torch.arange(64.0)[:, None].sin().expand(64, 8).contiguous()
        stream = self.embed(ids) * self.table[: ids.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        for layer in self.layers:
            stream = layer(stream, src_mask=mask, is_causal=True)
        logits: Tensor = self.head(stream)
        return logits


@pytest.mark.parametrize("mode", MODES)
def test_a_traced_module_can_be_trained(mode: str) -> None:
    """What a module keeps from a trace, in any mode of the caller, may meet autograd afterwards."""
    torch.manual_seed(0)
    module = Remembering()
    with MODES[mode]():
        lt.trace(lt.wrap_model(module), SAMPLES)
    assert module.table is not None
    module.train()(torch.tensor([[5, 7, 9]])).sum().backward()
    assert module.embed.weight.grad is not None


def test_a_model_loaded_in_inference_mode_can_be_traced_outside() -> None:
    """Parameters that were loaded in a caller's inference mode are ordinary tensors."""
    with torch.inference_mode():
        model = lt.load_model("mini/attention")
    assert not any(parameter.is_inference() for parameter in model.module.parameters())
    ids = tuple(model.anatomy.plain_tokens[:4].tolist())
    assert lt.trace(model, [lt.Sample(prompt_ids=ids, answer_id=ids[0])]).js_bits.shape[0] == 1


class Climbing(nn.Module):
    """A layer that uses gradients itself, as test-time training does: it moves its stream along one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.mlp = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, stream: Tensor) -> Tensor:
        """The stream moved against the gradient of an energy, and an MLP's output."""
        with torch.enable_grad():
            point = stream.detach().requires_grad_()
            (step,) = torch.autograd.grad(self.inner(point).square().sum(), point)
        stream = stream - 0.1 * step
        return stream + self.mlp(stream).tanh()


class ClimbingModel(nn.Module):
    """A language model of such layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(24, 8), nn.Linear(8, 24)
        self.layers = nn.ModuleList(Climbing() for _ in range(3))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        stream = self.embed(ids)
        for layer in self.layers:
            stream = layer(stream)
        logits: Tensor = self.head(stream)
        return logits


def test_a_model_that_takes_gradients_itself_is_traced() -> None:
    """A forward that opens gradients for itself has them, and the last readout is its own output."""
    torch.manual_seed(0)
    module = ClimbingModel()
    own = module(torch.tensor([[5, 7, 9]]))[0, -1].log_softmax(-1).detach()
    found = lt.read_layers(lt.wrap_model(module), SAMPLES[:1]).log_probs[0, -1]
    torch.testing.assert_close(found, own, atol=1e-5, rtol=0)


def test_a_module_in_training_is_traced_in_evaluation_mode() -> None:
    """Between the steps of a training, a trace reads the module without dropout and leaves it in training mode."""
    module = registry.build("qwen3")
    module.config.attention_dropout = 0.5
    for layer in module.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model, samples = lt.wrap_model(module), [lt.Sample(prompt_ids=(5, 7, 9, 4), answer_id=11)]
    expected = lt.trace(model, samples)
    module.train()
    again, readout = lt.trace(model, samples), lt.read_layers(model, samples)
    assert all(part.training for part in module.modules())
    np.testing.assert_array_equal(again.js_bits, expected.js_bits)
    np.testing.assert_allclose(readout.log_probs[0, :, 11].exp(), expected.target_prob[0], atol=1e-6)
