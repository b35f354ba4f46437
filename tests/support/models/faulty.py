"""A model in which every fault of a tracer shows, and its numbers: by LayerTracer, proved or not, and by plain hooks.

Its layers read a mask that differs between prompts, a gate of batch × heads, and something that the layer before
hands on beside the stream; its tail has a norm and a softcap.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

import layertracer as lt
from layertracer._types import SelfCheck
from layertracer.models import Network
from layertracer.tracing._model import TracedModel
from layertracer.tracing._passes.argument_axes import ArgumentAxes

from tests.support.oracles.plain_hooks import plain_js, plain_readouts

N_LAYERS, WIDTH, N_HEADS, D_VOCAB, CAP = 4, 12, 2, 29, 3.0

# Five prompts, four of one length: as many rows of a batch as there are layers, and more than heads.
PROMPTS = ((3, 11, 25, 8, 17, 6), (9, 22, 4, 13, 28, 5), (7, 7, 19, 26, 2, 10), (14, 1, 23), (20, 16, 12, 27, 15, 24))
SAMPLES = [lt.Sample(prompt_ids=prompt, answer_id=18) for prompt in PROMPTS]


class Norm(nn.Module):
    """Root mean square norm with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, stream: Tensor) -> Tensor:
        """The stream with unit mean square, times the weight."""
        return self.weight * stream / stream.square().mean(-1, keepdim=True).add(1e-6).sqrt()


class Mixer(nn.Module):
    """The mean over those earlier positions that the mask shows, gated by head, then a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(WIDTH, WIDTH)

    def forward(self, stream: Tensor, shown: Tensor, gate: Tensor) -> Tensor:
        """What is added to the stream.

        Args:
            stream: [batch, position, width].
            shown: Which positions are seen, [batch, position].
            gate: [batch × head, position, width of a head].
        """
        weights = shown[..., None]
        mean = (stream * weights).cumsum(1) / weights.cumsum(1).clamp(min=1)
        batch, length, _ = stream.shape
        gates = gate.view(batch, N_HEADS, length, -1).transpose(1, 2).reshape(stream.shape)
        mixed: Tensor = self.matrix(mean * gates)
        return mixed


class Layer(nn.Module):
    """A mixer and an MLP, both added; the MLP also reads what the layer before hands on beside the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = Norm(), Norm()
        self.mixer, self.mlp = Mixer(), nn.Linear(WIDTH, WIDTH)

    def forward(self, stream: Tensor, shown: Tensor, gate: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        """The stream after the layer, and what is handed on, both [batch, position, width]."""
        stream = stream + self.mixer(self.norm_1(stream), shown, gate)
        stream = stream + self.mlp((self.norm_2(stream) + carry).tanh())
        return stream, (0.5 * carry + self.norm_1(stream)).tanh()


class Model(nn.Module):
    """Embeddings, four layers, and a tail of norm, unembedding and softcap."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gates = nn.Embedding(D_VOCAB, WIDTH), nn.Embedding(D_VOCAB, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(N_LAYERS))
        self.norm, self.unembed = Norm(), nn.Linear(WIDTH, D_VOCAB)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in self.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(1 + 0.4 * noise if (parameter == 1).all() else 0.5 * noise)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Logits, [batch, position, d_vocab]."""
        stream, length = self.embed(token_ids), token_ids.shape[1]
        shown = (token_ids % 3 != 0).float()
        gate = self.gates(token_ids).sigmoid().view(-1, length, N_HEADS, WIDTH // N_HEADS).transpose(1, 2).flatten(0, 1)
        carry = torch.zeros_like(stream)
        for layer in self.layers:
            stream, carry = layer(stream, shown, gate, carry)
        logits: Tensor = CAP * (self.unembed(self.norm(stream)) / CAP).tanh()
        return logits


# ---------------------------------------------------------------- numbers, with and without a check


def keep() -> np.ndarray:
    """Two draws that mask a third, [layer, draw, width]."""
    return np.random.default_rng(5).random((N_LAYERS, 2, WIDTH)) > 1 / 3


def numbers(model: TracedModel, site: str = "block_output") -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities after every layer, and divergences at a site."""
    # Without the audit, which would put right at run time what is planted here.
    trace = lt.trace(model, SAMPLES, perturbation=lt.Mask.explicit(keep(), site=site), audit=0)
    assert trace.method == model.self_check.method, trace.warnings  # else its pass raised, and was gone round
    return lt.read_layers(model, SAMPLES, audit=0).log_probs.numpy(), trace.js_bits


def by_plain_hooks(module: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """The same by plain hooks, one prompt and one hook at a time, nothing of LayerTracer in it."""
    lens = [plain_readouts(module, "layers", ids) for ids in PROMPTS]
    return np.array(lens), np.array([plain_js(module, "layers", ids, keep=keep()) for ids in PROMPTS])


def unchecked(network: Network) -> TracedModel:
    """A network traced by the ladder as if it had been proved."""
    return replace(
        _sound(), network=network, self_check=SelfCheck(checks=(), method="ladder"), axes=ArgumentAxes(network)
    )


@cache
def _sound() -> TracedModel:
    return lt.wrap_model(Model())


def gap(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """Largest difference of readouts (nats) or divergences (bits)."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))
