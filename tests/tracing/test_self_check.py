"""What the proof at load decides: the ladder, the plain method, one prompt at a time, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt

from tests.support.oracles.plain_hooks import plain_js

N_LAYERS, WIDTH, D_VOCAB = 4, 12, 17


class RunningMean(nn.Module):
    """The mean over the past, then a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(WIDTH, WIDTH)

    def forward(self, stream: Tensor) -> Tensor:
        """What is added to the stream, [batch, position, width]."""
        written: Tensor = self.matrix(stream.cumsum(1) / torch.arange(1, stream.shape[1] + 1)[:, None])
        return written


class Layer(nn.Module):
    """A causal running mean, then an MLP, both added to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer, self.mlp = RunningMean(), nn.Linear(WIDTH, WIDTH)

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after the layer, [batch, position, width]."""
        mixed: Tensor = stream + self.mixer(stream)
        written: Tensor = mixed + self.mlp(mixed.tanh())
        return written


class Model(nn.Module):
    """Four such layers; subclasses spoil one thing each."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(D_VOCAB, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(N_LAYERS))
        self.unembed = nn.Linear(WIDTH, D_VOCAB)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))

    def enter(self, stream: Tensor) -> Tensor:
        """What happens before the layers."""
        return stream

    def leave(self, stream: Tensor) -> Tensor:
        """What happens after them."""
        return stream

    def forward(self, token_ids: Tensor) -> Tensor:
        """Logits, [batch, position, d_vocab]."""
        stream = self.enter(self.embed(token_ids))
        for layer in self.layers:
            stream = layer(stream)
        logits: Tensor = self.unembed(self.leave(stream))
        return logits


class SeesItsNeighbours(Model):
    """Each row is moved by the mean of the batch."""

    def enter(self, stream: Tensor) -> Tensor:
        """The stream with the batch's mean added."""
        return stream + stream.mean(dim=0, keepdim=True)


class LooksBackInItsTail(Model):
    """The tail subtracts the mean over positions, so that no position can be read alone."""

    def leave(self, stream: Tensor) -> Tensor:
        """The stream without its mean over positions."""
        return stream - stream.mean(dim=1, keepdim=True)


class Rolls(Model):
    """Every run adds noise."""

    def enter(self, stream: Tensor) -> Tensor:
        """The stream with noise, from a generator that goes on from run to run."""
        if not hasattr(self, "generator"):
            self.generator = torch.Generator().manual_seed(0)
        return stream + torch.randn(stream.shape, generator=self.generator)


class Remembers(Model):
    """Every run leaves something behind that the next one reads."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = 0.0

    def enter(self, stream: Tensor) -> Tensor:
        """The stream with what earlier runs left."""
        self.memory += 0.1
        return stream + self.memory * torch.arange(WIDTH)


SAMPLES = [lt.Sample(prompt_ids=ids, answer_id=7) for ids in ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11), (2, 2, 5, 1))]


def _plain_divergences(model: Model, keep: np.ndarray) -> np.ndarray:
    """One hook and one prompt at a time."""
    return np.stack([plain_js(model, "layers", sample.prompt_ids, keep=keep) for sample in SAMPLES])


@pytest.mark.parametrize(
    ("make", "method", "row_by_row", "note"),
    [
        (Model, "ladder", False, None),
        (SeesItsNeighbours, "plain", True, "see one another"),
        (LooksBackInItsTail, "plain", True, "does not agree with the model"),
    ],
)
def test_whatever_the_method_the_numbers_are_those_of_plain_hooks(
    make: type[Model], method: str, row_by_row: bool, note: str | None
) -> None:
    """The method is named, with its reason, and divergences equal one hooked forward of one prompt at a time."""
    module = make()
    model = lt.wrap_model(module)
    assert (model.self_check.method, model.self_check.row_by_row) == (method, row_by_row)
    assert (note is None) == (model.self_check.notes == ())
    assert note is None or note in model.self_check.notes[0]
    mask = lt.Mask(site="block_output", fraction=0.5, draws=2)
    trace = lt.trace(model, SAMPLES, perturbation=mask)
    assert trace.method == method
    expected = _plain_divergences(module, mask.keep_array(n_layers=N_LAYERS, width=WIDTH))
    assert np.abs(trace.js_bits - expected).max() < 1e-5
    assert trace.warnings == model.self_check.notes


@pytest.mark.parametrize("make", [Model, SeesItsNeighbours, LooksBackInItsTail])
def test_the_last_readout_is_the_models_own_whatever_the_method(make: type[Model]) -> None:
    """read_layers ends with what the model itself says of the prompt alone."""
    module = make()
    log_probs = lt.read_layers(lt.wrap_model(module), SAMPLES).log_probs
    for row, sample in enumerate(SAMPLES):
        with torch.no_grad():
            own = module(torch.tensor([sample.prompt_ids]))[0, -1].log_softmax(-1)
        assert torch.allclose(log_probs[row, -1], own, atol=1e-5)


@pytest.mark.parametrize("make", [Rolls, Remembers])
def test_a_model_that_says_something_else_each_time_is_refused(make: type[Model]) -> None:
    """Where not even the plain method agrees with the model, there is no number."""
    with pytest.raises(lt.SelfCheckError, match="deterministic and stateless"):
        lt.wrap_model(make())


class TwoMixers(Layer):
    """A layer whose second mixer reads what the first one has added."""

    def __init__(self) -> None:
        super().__init__()
        self.second = RunningMean()

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after the layer, [batch, position, width]."""
        return super().forward(stream + self.second(stream))


class _LooksBack(nn.Module):
    """A layer whose own code looks back, outside its only part."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(WIDTH, WIDTH)

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after the layer, [batch, position, width]."""
        written: Tensor = stream + 0.1 * self.matrix(stream.cumsum(1).tanh())
        return written


def _with_layers(layer: type[Layer]) -> lt.TracedModel:
    module = Model()
    generator = torch.Generator().manual_seed(5)
    module.layers = nn.ModuleList(layer() for _ in range(N_LAYERS))
    with torch.no_grad():
        for parameter in module.layers.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return lt.wrap_model(module)


def test_mixers_one_after_the_other_are_both_masked() -> None:
    """Masking everything that two mixers add leaves the MLP's addition alone, whatever the one read of the other."""
    model = _with_layers(TwoMixers)
    assert model.self_check["mixer_output"].passed
    nothing_kept = np.zeros((N_LAYERS, 1, WIDTH))
    bits = lt.trace(model, SAMPLES, perturbation=lt.Mask.explicit(nothing_kept, site="mixer_output")).js_bits
    layer = model.module.layers[1]
    for row, sample in enumerate(SAMPLES):
        ids = torch.tensor([sample.prompt_ids])
        with torch.no_grad():
            clean = model.module(ids)[0, -1].log_softmax(-1)
            handle = layer.register_forward_hook(lambda m, args, _out: args[0] + m.mlp(args[0].tanh()))
            without = model.module(ids)[0, -1].log_softmax(-1)
            handle.remove()
        assert bits[row, 0, 1] == pytest.approx(float(lt.js_divergence(clean, without)), abs=1e-6)


def test_a_layer_that_mixes_outside_its_parts_has_no_sites_inside() -> None:
    """Where a layer's own code looks back, nobody can say which part adds what; the whole block can be masked."""
    module = Model()
    module.layers = nn.ModuleList(_LooksBack() for _ in range(N_LAYERS))
    model = lt.wrap_model(module)
    assert {layer.mixer for layer in model.anatomy.layers} == {"linear_attention"}
    assert lt.trace(model, SAMPLES).method == "ladder"
    with pytest.raises(lt.SiteError, match="does not exist"):
        lt.trace(model, SAMPLES, perturbation=lt.Mask(site="mlp_output"))


def test_every_check_names_its_error_and_its_tolerance() -> None:
    """The proof is data: names, errors, tolerances, units, and a sentence each."""
    check = lt.wrap_model(Model()).self_check
    assert set(check.errors) == {"batch", "readout", "lens", "identity", "ladder", "mixer_output", "mlp_output"}
    assert check.passed
    for one in check.checks:
        assert one.error <= one.tolerance
        assert one.unit in ("nats", "bits")
        assert one.meaning
    with pytest.raises(KeyError, match="no such check"):
        check["no such check"]
