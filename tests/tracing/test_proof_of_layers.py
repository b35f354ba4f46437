"""The proof at load reaches every layer, and does what a trace does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt

from tests.support.oracles.plain_hooks import plain_embedding_readout, plain_js, plain_log_probs, plain_readouts

D_VOCAB, WIDTH, N_LAYERS = 24, 8, 4
PROMPTS = ((3, 9, 4), (5, 6, 7, 8, 2, 1), (11, 4, 9, 9, 2, 17, 8, 1, 3))
KEEP = np.random.default_rng(0).random((N_LAYERS, 2, WIDTH)) < 0.6


class Block(nn.Module):
    """A causal running mean and an MLP, both added to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.mlp = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def mixed(self, stream: Tensor) -> Tensor:
        """What the mixer adds."""
        mean = stream.cumsum(1) / torch.arange(1, stream.shape[1] + 1)[:, None]
        return self.mix(mean).tanh()

    def forward(self, stream: Tensor) -> Any:
        """The stream after the layer."""
        stream = stream + self.mixed(stream)
        return stream + self.mlp(stream).tanh()


class Model(nn.Module):
    """A language model of such blocks; subclasses differ in one thing each."""

    block: type[nn.Module] = Block

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(D_VOCAB, WIDTH), nn.Linear(WIDTH, D_VOCAB)
        self.layers = nn.ModuleList(self.block() for _ in range(N_LAYERS))
        self.shift = nn.Parameter(torch.empty(WIDTH))
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.8 * torch.randn(parameter.shape, generator=generator))

    def forward(self, ids: Tensor) -> Any:
        """Logits of every position."""
        stream = self.embed(ids)
        for layer in self.layers:
            stream = layer(stream)
        return self.head(stream)


class ChangedBetween(Model):
    """Something is added to the stream in place, between the first layer and the second."""

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        stream = self.embed(ids)
        for index, layer in enumerate(self.layers):
            stream = layer(stream)
            if index == 0:
                stream += self.shift
        logits: Tensor = self.head(stream)
        return logits


class ChangedBefore(ChangedBetween):
    """The first layer hands on another tensor than it reads: the stream is scaled where the embeddings enter."""

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        stream = self.embed(ids)
        for index, layer in enumerate(self.layers):
            stream = layer(stream)
            if index == N_LAYERS - 2:
                stream.mul_(self.shift)
        logits: Tensor = self.head(stream)
        return logits


class CountingBlock(Block):
    """Returns something beside the stream that has no axis for the batch: it depends on the length alone."""

    def forward(self, stream: Tensor) -> Any:
        """The stream, and a weight for every position."""
        return super().forward(stream), 1 + torch.arange(1.0, stream.shape[1] + 1).log()


class Counting(Model):
    """Its tail reads what its last layer returned beside the stream."""

    block = CountingBlock

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        stream, weights = self.embed(ids), torch.ones(1)
        for layer in self.layers:
            stream, weights = layer(stream)
        logits: Tensor = self.head(stream) * weights[:, None]
        return logits


class KeepingBlock(Block):
    """Keeps a number of its call, for the tail to find."""

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after the layer."""
        self.kept = stream.shape[1] * 0.3
        after: Tensor = super().forward(stream)
        return after


class Keeping(Model):
    """Its tail scales the logits by what the last layer kept."""

    block = KeepingBlock

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        logits: Tensor = super().forward(ids) * self.layers[-1].kept
        return logits


class MixingBlock(Block):
    """Returns the mean of its stream beside it, over all rows."""

    def forward(self, stream: Tensor) -> Any:
        """The stream, and a mean without an axis for the batch."""
        after = super().forward(stream)
        return after, after.mean(dim=(0, 1))


class Mixing(Model):
    """Its tail adds a mean over rows and positions."""

    block = MixingBlock

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        stream, mean = self.embed(ids), torch.zeros(WIDTH)
        for layer in self.layers:
            stream, mean = layer(stream)
        logits: Tensor = self.head(stream + 3 * mean)
        return logits


@pytest.mark.parametrize("kind", [ChangedBetween, ChangedBefore, Counting, Keeping, Mixing])
def test_what_the_ladder_does_not_see_is_traced_plainly(kind: type[Model], caplog: pytest.LogCaptureFixture) -> None:
    """Every readout, the embeddings' too, and every JS are those of plain hooks, by the slower method that is right."""
    with caplog.at_level(logging.WARNING, "layertracer"):
        model = lt.wrap_model(kind())
    module = kind()
    assert model.self_check.method == "plain"
    assert all(check.passed for check in model.self_check.checks if check.name.startswith("plain_"))
    samples = [lt.Sample(prompt_ids=ids, answer_id=4) for ids in PROMPTS]
    lt.plan(model, samples)
    readout = lt.read_layers(model, samples)
    trace = lt.trace(model, samples, perturbation=lt.Mask.explicit(KEEP))
    for row, ids in enumerate(PROMPTS):
        np.testing.assert_allclose(readout.log_probs[row], plain_readouts(module, "layers", ids), atol=1e-5)
        np.testing.assert_allclose(
            readout.embedding_log_probs[row], plain_embedding_readout(module, "layers", ids), atol=1e-5
        )
        np.testing.assert_allclose(trace.js_bits[row], plain_js(module, "layers", ids, keep=KEEP), atol=1e-6)
        assert trace.target_prob[row, -1] == pytest.approx(np.exp(plain_log_probs(module, ids)[4]), abs=1e-6)


def test_an_earlier_call_leaves_nothing_in_a_readout() -> None:
    """Whatever was read before, in any order, a prompt's readout by the plain method is the same."""
    model = lt.wrap_model(Keeping())
    short, long = ([lt.Sample(prompt_ids=ids)] for ids in (PROMPTS[0], PROMPTS[2]))
    first = lt.read_layers(model, short).log_probs
    lt.read_layers(model, long)
    lt.trace(model, [lt.Sample(prompt_ids=PROMPTS[1], answer_id=4)])
    torch.testing.assert_close(lt.read_layers(model, short).log_probs, first, atol=0, rtol=0)


class Branched(Block):
    """A block as in mamba_ssm: what the last one adds comes beside the residual, and is added on entering the next."""

    def forward(self, added: Tensor, residual: Tensor | None = None) -> Any:
        """What this block adds, and the residual that it is to be added to."""
        residual = added if residual is None else added + residual
        return self.mixed(residual), residual


class BranchedModel(Model):
    """A model of such blocks."""

    block = Branched

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        added, residual = self.embed(ids), None
        for layer in self.layers:
            added, residual = layer(added, residual)
        logits: Tensor = self.head(added if residual is None else added + residual)
        return logits


class Summed(Branched):
    """The same block as the refusal says to write it."""

    def forward(self, added: Tensor, residual: Tensor | None = None) -> Any:
        """The sum, and nothing beside it."""
        added, residual = super().forward(added, residual)
        return added + residual, None


class SummedModel(BranchedModel):
    """A model of such blocks."""

    block = Summed


class Reversible(Block):
    """A reversible block: each of two streams is changed by the other."""

    def forward(self, one: Tensor, other: Tensor) -> Any:
        """Both streams after the layer."""
        one = one + self.mixed(other)
        return one, other + self.mlp(one).tanh()


class ReversibleModel(Model):
    """A model of such blocks."""

    block = Reversible

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        one = other = self.embed(ids)
        for layer in self.layers:
            one, other = layer(one, other)
        logits: Tensor = self.head(one * self.shift + other)
        return logits


@pytest.mark.parametrize("kind", [BranchedModel, ReversibleModel])
def test_two_streams_are_refused(kind: type[Model]) -> None:
    """A model whose output is read from two streams is refused at load, with what to do."""
    with pytest.raises(lt.AnatomyError, match=r"hands two streams .*return hidden \+ residual, None"):
        lt.wrap_model(kind())


def test_the_way_out_of_two_streams_is_one() -> None:
    """Written as the refusal says, the same model is traced by the ladder and gives what it gave."""
    model = lt.wrap_model(SummedModel())
    assert model.self_check.method == "ladder"
    found = lt.read_layers(model, [lt.Sample(prompt_ids=PROMPTS[1])]).log_probs[0, -1]
    np.testing.assert_allclose(found, plain_log_probs(BranchedModel(), PROMPTS[1]), atol=1e-5)


class Fragile(Model):
    """Raises where it is called with token ids of a certain shape."""

    def __init__(self, fails: Callable[[int, int], bool]) -> None:
        super().__init__()
        self.fails = fails

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of every position."""
        if self.fails(*ids.shape):
            raise RuntimeError("a line of the model's own\nand another")
        logits: Tensor = super().forward(ids)
        return logits


def test_read_layers_says_what_the_model_raises() -> None:
    """What the model raises on a prompt by itself is a ModelError that says so, with its cause."""
    model = lt.wrap_model(Fragile(lambda _, length: length == 6))
    samples = [lt.Sample(prompt_ids=ids) for ids in PROMPTS]
    with pytest.raises(lt.ModelError, match=r"error of its own .*RuntimeError: a line of the model's own") as caught:
        lt.read_layers(model, samples)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_read_layers_does_not_blame_the_model_for_its_own_way() -> None:
    """What is raised only by the way that layers are read, here many rows of one token, is gone round, and said."""
    model = lt.wrap_model(Fragile(lambda rows, length: length == 1 and rows > 60))
    samples = [lt.Sample(prompt_ids=PROMPTS[0])] * 70
    readout = lt.read_layers(model, samples)
    assert "rows could not go through the layers together" in readout.audit.notes[0]
    alone = lt.read_layers(model, samples[:1])
    np.testing.assert_allclose(readout.log_probs[-1], alone.log_probs[0], atol=1e-5)
