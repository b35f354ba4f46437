"""Recurrent language models of plain PyTorch: their layers are found, whichever way they are held."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt

from tests.support.oracles.plain_hooks import js_bits

D_VOCAB, WIDTH, N_LAYERS = 47, 24, 3
PROMPTS = ((5, 9, 2, 31, 7, 40), (11, 3, 3, 26, 19, 8), (1, 44, 30, 12))


class RecurrentModel(nn.Module):
    """Embedding, a recurrent module of several layers, and a head, as people write it."""

    def __init__(self, kind: type[nn.RNNBase], *, batch_first: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(D_VOCAB, WIDTH)
        self.rnn = kind(WIDTH, WIDTH, num_layers=N_LAYERS, batch_first=batch_first)
        self.head = nn.Linear(WIDTH, D_VOCAB)
        self.batch_first = batch_first

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [batch, position, d_vocab]."""
        stream = self.embed(ids)
        stream = self.rnn(stream if self.batch_first else stream.transpose(0, 1))[0]
        return self.head(stream if self.batch_first else stream.transpose(0, 1))


class ListedModel(nn.Module):
    """A list of recurrent modules with residual connections around them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(D_VOCAB, WIDTH)
        self.layers = nn.ModuleList(nn.GRU(WIDTH, WIDTH, batch_first=True) for _ in range(N_LAYERS))
        self.head = nn.Linear(WIDTH, D_VOCAB)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [batch, position, d_vocab]."""
        stream = self.embed(ids)
        for layer in self.layers:
            stream = layer(stream)[0]
        return self.head(stream)


def _spread(module: nn.Module) -> nn.Module:
    """Parameters large enough for every layer and every earlier token to matter."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        gain = 1.5 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.3
        parameter.data = gain * torch.randn(parameter.shape, generator=generator)
    module.embed.weight.data *= 5
    module.head.weight.data *= 3
    return module.eval()


MODELS = {
    "lstm": lambda: RecurrentModel(nn.LSTM),
    "gru": lambda: RecurrentModel(nn.GRU),
    "rnn": lambda: RecurrentModel(nn.RNN),
    "lstm_time_first": lambda: RecurrentModel(nn.LSTM, batch_first=False),
    "gru_list": ListedModel,
}


def _layer_by_layer(module: nn.Module, ids: tuple[int, ...], *, keep: dict[int, Tensor], until: int) -> Tensor:
    """Log-probabilities in float64 with some layers' outputs masked and those from `until` on left out.

    Each layer is a recurrent module of one layer that was given copies of its weights.
    """
    stream = module.embed(torch.tensor([ids]))
    for index in range(until):
        if isinstance(module, ListedModel):
            layer = module.layers[index]
        else:
            whole = module.rnn
            layer = type(whole)(WIDTH, WIDTH, batch_first=True)
            names = ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")
            layer.load_state_dict({f"{name}0": getattr(whole, f"{name}{index}").clone() for name in names})
        stream = layer(stream)[0] * keep.get(index, torch.ones(WIDTH))
    return torch.log_softmax(module.head(stream)[0, -1].double(), dim=-1)


@pytest.mark.parametrize("name", MODELS)
def test_layers_of_a_recurrent_model_are_read_and_masked_one_by_one(name: str) -> None:
    """Layers, readouts and JS are those of running the layers by hand; the user's module is left as it was."""
    module = _spread(MODELS[name]())
    names_before = [key for key, _ in module.named_parameters()]
    model = lt.wrap_model(module)
    assert model.self_check.method == "ladder"
    assert model.anatomy.n_layers == N_LAYERS
    assert {layer.mixer for layer in model.anatomy.layers} == {name.split("_", maxsplit=1)[0]}
    assert [key for key, _ in module.named_parameters()] == names_before

    keep = np.random.default_rng(0).random((N_LAYERS, 2, WIDTH)) < 0.6
    samples = [lt.Sample(prompt_ids=ids, answer_id=4) for ids in PROMPTS]
    readout = lt.read_layers(model, samples)
    trace = lt.trace(model, samples, perturbation=lt.Mask.explicit(keep))
    with torch.no_grad():
        for prompt, ids in enumerate(PROMPTS):
            clean = _layer_by_layer(module, ids, keep={}, until=N_LAYERS)
            for layer in range(N_LAYERS):
                expected = _layer_by_layer(module, ids, keep={}, until=layer + 1)
                np.testing.assert_allclose(readout.log_probs[prompt, layer], expected, atol=1e-5)
                for draw in range(2):
                    mask = torch.from_numpy(keep[layer, draw]).float()
                    masked = _layer_by_layer(module, ids, keep={layer: mask}, until=N_LAYERS)
                    assert trace.js_bits[prompt, draw, layer] == pytest.approx(
                        js_bits(clean.numpy(), masked.numpy()), abs=1e-6
                    )
