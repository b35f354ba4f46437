"""Linear relations: Jacobians against autograd on the plain model, and what the map says where it must be right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt
from layertracer.tracing import map_subjects, read_subjects
from layertracer.validation import relation_faithfulness

from tests.support.models.plain_modules import NanoGPT

PROMPTS = ((5, 9, 2, 31, 8, 17, 4), (11, 4, 20, 8, 3))
POSITIONS = (2, 1)


def nano() -> nn.Module:
    """A small GPT in float64, drawn with a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return NanoGPT(d_vocab=41, d_model=16, n_layers=3, n_heads=2, max_length=32).double().eval()


def end_from_subject(module: nn.Module, ids: tuple[int, ...], position: int, layer: int, subject: Tensor) -> Tensor:
    """What leaves the last block at the end, with `subject` in place of what leaves a block at a position."""
    parts = module.transformer
    stream = parts["wte"](torch.tensor([ids])) + parts["wpe"](torch.arange(len(ids)))
    for index, block in enumerate(parts["h"]):
        stream = block(stream)
        if index == layer:
            rows = [stream[0, where] for where in range(len(ids))]
            rows[position] = subject
            stream = torch.stack(rows)[None]
    return stream[0, -1]


@pytest.mark.parametrize("layer", [0, 1])
def test_maps_are_jacobians_of_the_plain_model(layer: int) -> None:
    """The matrix is the mean of torch.autograd.functional.jacobian on the plain model, the bias the mean of o − J s."""
    module = nano()
    model = lt.wrap_model(module, name="nano")
    states = read_subjects(model, PROMPTS, POSITIONS)
    maps = map_subjects(model, PROMPTS, POSITIONS, layers=[layer], states=states)
    matrices, biases = [], []
    for row, (ids, position) in enumerate(zip(PROMPTS, POSITIONS, strict=True)):
        subject = torch.from_numpy(states.subjects[row, layer]).double()
        jacobian = torch.autograd.functional.jacobian(
            lambda one, ids=ids, position=position: end_from_subject(module, ids, position, layer, one), subject
        )
        end = end_from_subject(module, ids, position, layer, subject).detach()
        np.testing.assert_allclose(states.objects[row], end.numpy(), rtol=1e-5, atol=1e-6)
        matrices.append(jacobian.numpy())
        biases.append((end - jacobian @ subject).numpy())
    np.testing.assert_allclose(maps.matrices[0], np.mean(matrices, axis=0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(maps.biases[0], np.mean(biases, axis=0), rtol=1e-4, atol=1e-5)


class LinearBlock(nn.Module):
    """A residual block whose branches are linear: the mean over earlier positions, and a matrix."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.mixer, self.mlp = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """The stream after the block."""
        counts = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)[:, None]
        x = x + self.mixer(x.cumsum(dim=1) / counts)
        return x + self.mlp(x)


class LinearModel(nn.Module):
    """A model in which all that follows the embeddings is linear."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 24)
        self.blocks = nn.ModuleList([LinearBlock(24) for _ in range(3)])
        self.head = nn.Linear(24, 60, bias=False)
        with torch.no_grad():  # the subject says more than the words about it
            self.embed.weight[50:] *= 0.1
            self.embed.weight[:50] *= 4
            self.blocks[0].mixer.weight *= 1e-3  # and nothing of it has moved on when the first block is done

    def forward(self, ids: Tensor) -> Tensor:
        """Logits."""
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def linear() -> lt.TracedModel:
    """The linear model, drawn with a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return lt.wrap_model(LinearModel().eval(), name="linear")


def relation(n: int) -> list[lt.Sample]:
    """Prompts of one template about different subjects of one token."""
    return [lt.Sample(prompt_ids=(50, 51, number, 52, 53), subject_span=(2, 3), answer_id=0) for number in range(n)]


def test_a_linear_model_is_linear() -> None:
    """Where all that follows the subject is linear, the map gives the model's own object for every subject."""
    found = relation_faithfulness(linear(), relation(40))
    assert (found.faithfulness, found.beta, found.layer) == (1.0, 1.0, 0)
    assert found.interval is not None
    assert found.interval.low > 0.75
    assert found.without_subject < 1.0
    assert (found.n_fit, found.n_chosen_on, found.n_test) == (5, 17, 18)
    assert set(found.by_layer) == {0, 1}


def test_subjects_count_once_and_must_be_enough() -> None:
    """Prompts about one subject are one; with too few subjects, or without them, nothing is measured."""
    with pytest.raises(lt.TaskError, match="got 6 different ones"):
        relation_faithfulness(linear(), relation(6) * 9)
    with pytest.raises(lt.TaskError, match="Sample 2 has no subject"):
        relation_faithfulness(linear(), [*relation(2), lt.Sample(prompt_ids=(5, 6, 7), answer_id=0)])
    with pytest.raises(lt.UsageError, match="of 0 to 2"):
        relation_faithfulness(linear(), relation(40), layers=[3])


def test_what_cannot_be_differentiated_says_so() -> None:
    """A model without gradients has no map, and the reason is given."""
    with torch.inference_mode():
        module = LinearModel().eval()
    found = relation_faithfulness(lt.wrap_model(module, name="inference"), relation(40))
    assert np.isnan(found.faithfulness)
    assert "cannot be differentiated" in found.why_not
