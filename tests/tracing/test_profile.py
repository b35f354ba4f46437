"""Profiles of layers: KL divergence of readouts and HSIC between layers, against plain hooks and hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

import layertracer as lt
from layertracer.measures import cka_of
from layertracer.tracing import profile_layers
from layertracer.tracing._observers.layer_hsic import MOST_TOKENS, compared_tokens

from tests.support.models.families import BY_NAME
from tests.support.models.planted_decoder import LAYERS, N_LAYERS, Decoder, drawn
from tests.support.models.planted_faults import FAULTS, FaultCase
from tests.support.oracles.plain_hooks import Numbers, plain_log_probs, plain_readouts
from tests.support.tiny import fresh, tiny

PROMPTS = ((5, 9, 2, 31, 8, 17, 4), (6, 6, 3, 12, 40, 1, 30), (11, 4, 20, 8, 3), (2, 3, 4))
QUICK_FAULTS = ("batch_statistics", "changed_between_layers", "rows_exit_early")


def as_samples(prompts: Sequence[Sequence[int]]) -> list[lt.Sample]:
    """Prompts of token ids, with an answer that is not looked at."""
    return [lt.Sample(prompt_ids=tuple(ids), answer_id=7) for ids in prompts]


def kl_nats(log_p: Numbers, log_q: Numbers) -> float:
    """KL divergence from its definition."""
    return float((np.exp(log_p) * (log_p - log_q)).sum())


def hsic_by_song(one: np.ndarray, other: np.ndarray) -> float:
    """The estimator of Song et al. as it is printed, of Gram matrices."""
    n = len(one)
    k, l = (gram - np.diag(np.diag(gram)) for gram in (one, other))  # noqa: E741 - as it is printed
    ones = np.ones(n)
    middle = (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return float((np.trace(k @ l) + middle - 2 / (n - 2) * ones @ k @ l @ ones) / (n * (n - 3)))


@pytest.mark.parametrize("name", ["llama", "gpt2", "hybrid"])
def test_divergences_are_those_of_plain_hooks(name: str) -> None:
    """KL of each readout is that of the model with its later layers silenced, one prompt at a time; 0 at the last."""
    found = profile_layers(tiny(name), as_samples(PROMPTS), audit=1.0)
    module, path = tiny(name).module, tiny(name).anatomy.layers[0].path.rsplit(".", 1)[0]
    for row, ids in enumerate(PROMPTS):
        readouts, own = plain_readouts(module, path, ids), plain_log_probs(module, ids)
        expected = [kl_nats(own, readout) for readout in readouts]
        np.testing.assert_allclose(found.kl_nats[row], expected, rtol=1e-4, atol=1e-5)
    assert (found.kl_nats[:, -1] == 0).all()
    assert found.n_measured_again == len(PROMPTS)


def test_hsic_is_that_of_hidden_states() -> None:
    """HSIC between layers is the printed formula on the hidden states of Transformers, from the second token on."""
    found, module = profile_layers(tiny("llama"), as_samples(PROMPTS[:3]), audit=0), fresh("llama")
    left: list[torch.Tensor] = []
    last = module.get_submodule(tiny("llama").anatomy.layers[-1].path)  # whose output comes back with the norm on it
    last.register_forward_hook(lambda *call: left.append(call[2]))
    for row, ids in enumerate(PROMPTS[:3]):
        with torch.no_grad():
            states = module(torch.tensor([ids]), output_hidden_states=True).hidden_states
        streams = [state[0, 1:].double().numpy() for state in (*states[:-1], left[-1])]
        grams = [stream @ stream.T for stream in streams]
        expected = [[hsic_by_song(one, other) for other in grams] for one in grams]
        np.testing.assert_allclose(found.hsic[row], expected, rtol=1e-4, atol=1e-6)


def test_cka_is_its_definition() -> None:
    """CKA between layers is mean HSIC over the root of the product of both layers' own, with 1 on the diagonal."""
    found, module = profile_layers(tiny("llama"), as_samples(PROMPTS[:3]), audit=0), fresh("llama")
    sums = np.zeros((4, 4))
    for ids in PROMPTS[:3]:
        with torch.no_grad():
            states = module(torch.tensor([ids]), output_hidden_states=True).hidden_states[:4]
        grams = [state[0, 1:].double().numpy() @ state[0, 1:].double().numpy().T for state in states]
        sums += [[hsic_by_song(one, other) for other in grams] for one in grams]
    expected = sums / np.sqrt(np.outer(np.diag(sums), np.diag(sums)))
    np.testing.assert_allclose(found.cka[:4, :4], expected, rtol=1e-4, atol=1e-5)
    assert found.cka.shape == (5, 5)


def test_prompts_do_not_depend_on_those_beside_them() -> None:
    """Each prompt alone has the numbers that it has among others, in any order."""
    model, samples = tiny("llama"), as_samples(PROMPTS)
    together, turned = profile_layers(model, samples, audit=0), profile_layers(model, samples[::-1], audit=0)
    for row, sample in enumerate(samples):
        alone = profile_layers(model, [sample], audit=0)
        for other in (alone.kl_nats[0], turned.kl_nats[len(samples) - 1 - row]):
            np.testing.assert_allclose(other, together.kl_nats[row], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(alone.hsic[0], together.hsic[row], rtol=1e-3, atol=1e-6)


def test_long_prompts_are_compared_by_a_fixed_sample_of_tokens() -> None:
    """Of 300 tokens 64 are compared, never the first, the same ones for each prompt of that length."""
    tokens = compared_tokens(300, seed=1)
    assert len(tokens) == MOST_TOKENS
    assert min(tokens) >= 1
    assert tokens == compared_tokens(300, seed=1) == tuple(sorted(set(tokens)))
    assert tokens != compared_tokens(300, seed=2)
    prompt = np.random.default_rng(0).integers(1, 30, 300).tolist()
    found = profile_layers(lt.wrap_model(drawn(Decoder())), as_samples([prompt]))
    assert np.isfinite(cka_of(found.hsic[0])).all()


def test_short_prompts_take_no_part_in_comparing_layers() -> None:
    """Three tokens say nothing of how alike layers are: their HSIC is 0 beside others, and a note counts them."""
    found = profile_layers(tiny("llama"), as_samples(PROMPTS))
    assert (found.hsic[3] == 0).all()
    assert (found.hsic[:3] != 0).any(axis=(1, 2)).all()
    assert any(note.startswith("1 of 4 prompts have too few tokens") for note in found.notes)


def test_answers_of_several_tokens_are_means_over_positions() -> None:
    """With all tokens of an answer followed, KL is the mean over the positions that are read."""
    model = lt.load_model("mini/attention")
    both = profile_layers(model, [lt.Sample(prompt="the capital of France", answer=" is Paris")], target_tokens="all")
    ids = model.tokenizer("the capital of France is")["input_ids"]
    first, second = (profile_layers(model, as_samples([one])) for one in (ids[:-1], ids))
    np.testing.assert_allclose(both.kl_nats, (first.kl_nats + second.kl_nats) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case.name in QUICK_FAULTS else pytest.mark.slow) for case in FAULTS],
    ids=lambda case: case.name,
)
def test_no_planted_fault_is_silent(case: FaultCase) -> None:
    """Models that do otherwise in batches or in long prompts have the profile of prompts alone, or are refused."""
    if case.name == "in_place_read_later":
        pytest.skip("it depends on whether a bypassed layer hands on a tensor or a copy of it")
    try:
        found = profile_layers(lt.wrap_model(case.build()), as_samples(case.prompts))
    except lt.LayerTracerError:
        return
    for row, ids in enumerate(case.prompts):
        own = plain_log_probs(case.build(), ids)
        for layer in range(N_LAYERS):
            (readout,) = plain_readouts(case.build(), LAYERS, ids, only=[layer])
            assert found.kl_nats[row, layer] == pytest.approx(kl_nats(own, readout), abs=1e-2, rel=1e-2)


@pytest.mark.slow
def test_every_quick_family_has_a_profile() -> None:
    """Every quick family has a profile, without another way having to be taken."""
    for name in BY_NAME:
        found = profile_layers(tiny(name), as_samples(PROMPTS[:1]))
        assert np.isfinite(found.kl_nats).all()
        assert not [note for note in found.notes if "anew" in note]
