"""Every architecture, tiny and un-defaulted, against what is written down about it and against the oracles."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from torch import nn

import layertracer as lt

from tests.support.models.families import BRANCHES, BY_NAME, build_tiny
from tests.support.oracles.plain_hooks import plain_embedding_readout, plain_js, plain_readouts
from tests.support.tiny import tiny

NAMES = tuple(BY_NAME)
NAMES_AND_SITES = [(name, site) for name, family in BY_NAME.items() for site in family.sites]

# Three lengths; four prompts of one length, as many as most of the models have heads, so that a batch axis cannot be
# told from another one by its size alone.
PROMPTS: tuple[tuple[int, ...], ...] = (
    (7, 23, 91, 4, 66, 38, 52, 17, 80),
    (12, 45, 3, 99, 31, 58, 76, 20, 64, 85, 9, 41, 27, 70),
    (90, 33, 15, 62, 48, 5, 71, 29, 94),
    (55, 55, 8, 74, 21, 36, 13, 88, 47),
    (6, 19, 97, 60, 43),
    (82, 25, 50, 11, 68, 39, 93, 57, 30),
)
ANSWER = 42

# RWKV halves its stream between layers. Silenced layers do not stop that, a readout does not go through it: the last
# norm makes both alike but for its epsilon.
READOUT_TOLERANCE = {"rwkv": 1e-3}


def samples() -> list[lt.Sample]:
    """The prompts, each with the same answer."""
    return [lt.Sample(prompt_ids=prompt, answer_id=ANSWER) for prompt in PROMPTS]


def masks(name: str) -> np.ndarray:
    """Two draws that mask a quarter each and one that masks nothing, [layer, draw, width]."""
    family = BY_NAME[name]
    keep = np.random.default_rng(11).random((family.n_layers, 3, family.d_model)) > 0.25
    keep[:, 2] = True
    return keep


@cache
def oracle_readouts(name: str) -> list[np.ndarray]:
    """Log-probabilities of every prompt, read from the embeddings and after every layer."""
    family, module = BY_NAME[name], build_tiny(name)
    return [
        np.stack(
            [plain_embedding_readout(module, family.layers, prompt), *plain_readouts(module, family.layers, prompt)]
        )
        for prompt in PROMPTS
    ]


@pytest.mark.parametrize("name", NAMES)
def test_anatomy_is_as_written_down(name: str) -> None:
    """Layers, their paths, mixers and MLPs, and the widths are those that a reader of the configuration names."""
    family, anatomy = BY_NAME[name], tiny(name).anatomy
    assert anatomy.n_layers == family.n_layers
    assert anatomy.d_model == family.d_model
    assert anatomy.d_vocab == family.d_vocab
    assert tuple(layer.mixer for layer in anatomy.layers) == family.mixers
    assert tuple(layer.mlp for layer in anatomy.layers) == family.mlps
    assert [layer.index for layer in anatomy.layers] == list(range(family.n_layers))
    assert [layer.path for layer in anatomy.layers] == [f"{family.layers}.{i}" for i in range(family.n_layers)]
    stack = tiny(name).module.get_submodule(family.layers)
    assert all(layer.module is module for layer, module in zip(anatomy.layers, stack, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_self_check_passes_with_the_ladder(name: str) -> None:
    """Every check at load is within its tolerance and allows the ladder."""
    check = tiny(name).self_check
    assert check.passed, [one for one in check.checks if not one.passed]
    assert check.method == "ladder", check.notes
    assert not check.row_by_row


@pytest.mark.parametrize("name", NAMES)
def test_readouts_equal_the_model_with_its_later_layers_silenced(name: str) -> None:
    """At every layer the readout is what the model says when all later layers are the identity."""
    readout = np.asarray(lt.read_layers(tiny(name), samples()).log_probs)
    assert readout.dtype == np.float32
    for log_probs, expected in zip(readout, oracle_readouts(name), strict=True):
        np.testing.assert_allclose(log_probs, expected[1:], atol=READOUT_TOLERANCE.get(name, 1e-4), rtol=0)


@pytest.mark.parametrize(("name", "site"), NAMES_AND_SITES)
def test_divergences_equal_one_plain_hook_at_a_time(name: str, site: str) -> None:
    """JS divergence of every prompt, draw and layer is that of one hooked forward for each of them."""
    family, module, keep = BY_NAME[name], build_tiny(name), masks(name)
    trace = lt.trace(tiny(name), samples(), perturbation=lt.Mask.explicit(keep, site=site))
    assert trace.method == "ladder"
    assert trace.js_bits.shape == (len(PROMPTS), 3, family.n_layers)
    for prompt, bits in zip(PROMPTS, trace.js_bits, strict=True):
        expected = plain_js(module, family.layers, prompt, keep=keep, branches=BRANCHES[name], site=site)
        np.testing.assert_allclose(bits, expected, atol=1e-5, rtol=0)
    assert np.all(trace.js_bits[:, 2] <= 1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_the_targets_curve_equals_the_oracles(name: str) -> None:
    """Probability of the answer at every layer and from the embeddings, in the order in which prompts were given."""
    trace = lt.trace(tiny(name), samples(), perturbation=lt.Mask(draws=1))
    for row, log_probs in enumerate(oracle_readouts(name)):
        np.testing.assert_allclose(trace.target_prob[row], np.exp(log_probs[1:, ANSWER]), atol=1e-5, rtol=0)
        np.testing.assert_allclose(trace.embedding_prob[row], np.exp(log_probs[0, ANSWER]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_renamed_classes_are_classed_the_same(name: str) -> None:
    """No name of a class decides: with every class of the model renamed, the anatomy is the same."""
    family = BY_NAME[name]
    anatomy = lt.wrap_model(_renamed(build_tiny(name)), name="renamed").anatomy
    assert tuple(layer.mixer for layer in anatomy.layers) == family.mixers
    assert tuple(layer.mlp for layer in anatomy.layers) == family.mlps


def _renamed(module: nn.Module) -> nn.Module:
    """The module with every class of its parts, PyTorch's own ones apart, called otherwise."""
    classes = {type(part) for part in module.modules() if not type(part).__module__.startswith("torch.")}
    new = {
        cls: type(f"Thing{number}", (cls,), {}) for number, cls in enumerate(sorted(classes, key=lambda c: c.__name__))
    }
    for part in module.modules():
        part.__class__ = new.get(type(part), type(part))
    return module
