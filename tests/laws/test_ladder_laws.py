"""Laws that readouts and traces obey on every model, whatever their numbers are."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import layertracer as lt

from tests.support.budgets import allowing
from tests.support.models.families import BY_NAME, build_tiny, logits_of
from tests.support.models.plain_modules import NanoGPT
from tests.support.models.planted import PlantedModel, planted_answer
from tests.support.oracles.plain_hooks import plain_embedding_readout, plain_log_probs, plain_readouts
from tests.support.tiny import tiny

# One of each mechanism: plain, post-norm with softcaps, parallel with an addition in place, flattened positions,
# residual inside the branches, recurrent with rescaling, hybrid with experts, fused code of PyTorch.
LAW_FAMILIES = ("llama", "gemma2", "falcon", "opt", "bloom", "rwkv", "jamba", "torch_encoder")
# The laws that need many traces hold them against the most different ones.
FEW_FAMILIES = ("llama", "falcon", "bloom", "jamba")
SITES = ("block_output", "mixer_output", "mlp_output")
PROMPTS: tuple[tuple[int, ...], ...] = (
    (7, 23, 91, 4, 66, 38, 52, 17, 80),
    (12, 45, 3, 99, 31, 58),
    (90, 33, 15, 62, 48, 5, 71, 29, 94),
    (55, 55, 8, 74, 21, 36, 13, 88, 47),
    (6, 19, 97, 60, 43, 2, 77, 35, 18, 84, 67),
)
ARRAYS = ("target_log_prob", "target_prob", "target_rank", "entropy_bits", "js_bits", "embedding_log_prob")


def as_samples(prompts: tuple[tuple[int, ...], ...]) -> list[lt.Sample]:
    """Prompts whose answers differ from one another."""
    return [lt.Sample(prompt_ids=prompt, answer_id=(7 * prompt[0] + 3) % 101) for prompt in prompts]


def hooks_and_overrides(module: nn.Module) -> list[tuple[int, int, bool]]:
    """For every part of a module: its forward hooks, forward pre-hooks, and whether its forward was replaced."""
    return [
        (len(part._forward_hooks), len(part._forward_pre_hooks), "forward" in vars(part)) for part in module.modules()
    ]


@pytest.mark.parametrize("name", LAW_FAMILIES)
def test_the_last_readout_is_the_models_own_distribution(name: str) -> None:
    """After the last layer there is nothing left but the tail: the readout is what the model itself says."""
    readout = np.asarray(lt.read_layers(tiny(name), as_samples(PROMPTS)).log_probs)
    module = build_tiny(name)
    for prompt, log_probs in zip(PROMPTS, readout, strict=True):
        np.testing.assert_allclose(log_probs[-1], plain_log_probs(module, prompt), atol=1e-5, rtol=0)
        np.testing.assert_allclose(np.exp(log_probs.astype(np.float64)).sum(-1), 1.0, atol=1e-5)


@pytest.mark.parametrize("name", LAW_FAMILIES)
def test_tracing_leaves_the_model_as_it_was(name: str) -> None:
    """Wrapping, reading and tracing change no logit, no parameter, and leave neither hook nor replaced forward."""
    module = build_tiny(name)
    ids = torch.tensor([PROMPTS[0], PROMPTS[2]])
    before = logits_of(module, ids)  # the first run of an RWKV model divides its weights
    parameters = copy.deepcopy(module.state_dict())
    state = hooks_and_overrides(module)
    model = lt.wrap_model(module, name=name)
    lt.read_layers(model, as_samples(PROMPTS))
    for site in SITES:
        lt.trace(model, as_samples(PROMPTS), perturbation=lt.Mask(site=site, draws=2))
    assert torch.equal(logits_of(module, ids), before)
    assert hooks_and_overrides(module) == state
    assert all(torch.equal(value, parameters[key]) for key, value in module.state_dict().items())


class Brittle(NanoGPT):
    """A model that fails in the n-th run of its third block from when `fuse` is set."""

    def __init__(self) -> None:
        super().__init__(d_vocab=101, d_model=32, n_layers=4, n_heads=4, max_length=64)
        self.fuse: int | None = None
        self.transformer["h"][2].register_forward_pre_hook(self._burn)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))

    def _burn(self, block: nn.Module, args: tuple[Tensor, ...]) -> None:
        del block, args
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise RuntimeError("the fuse has blown")


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("fuse", [0, 1])
def test_after_an_exception_no_hook_is_left(site: str, fuse: int) -> None:
    """A model that fails in the middle of a pass is given back without hooks or replaced forwards."""
    module = Brittle().eval()
    state = hooks_and_overrides(module)
    model = lt.wrap_model(module, name="brittle")
    module.fuse = fuse
    with pytest.raises(lt.ModelError, match="the fuse has blown"):
        lt.trace(model, as_samples(PROMPTS), perturbation=lt.Mask(site=site, draws=2))
    assert hooks_and_overrides(module) == state
    module.fuse = None
    lt.trace(model, as_samples(PROMPTS), perturbation=lt.Mask(site=site, draws=2))


@pytest.mark.parametrize("name", FEW_FAMILIES)
@pytest.mark.parametrize("site", SITES)
def test_a_mask_that_keeps_everything_changes_nothing(name: str, site: str) -> None:
    """An all-ones mask gives a divergence of 0."""
    family = BY_NAME[name]
    keep = np.ones((family.n_layers, 2, family.d_model))
    trace = lt.trace(tiny(name), as_samples(PROMPTS), perturbation=lt.Mask.explicit(keep, site=site))
    assert np.all(trace.js_bits >= 0.0)
    assert np.all(trace.js_bits <= 1e-7)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(len(PROMPTS))), name=st.sampled_from(LAW_FAMILIES), site=st.sampled_from(SITES))
def test_permuting_prompts_permutes_results(order: list[int], name: str, site: str) -> None:
    """Prompts come back in the order given, and none knows of the others."""
    mask = lt.Mask(site=site, draws=2)
    straight = lt.trace(tiny(name), as_samples(PROMPTS), perturbation=mask)
    permuted = lt.trace(tiny(name), as_samples(tuple(PROMPTS[i] for i in order)), perturbation=mask)
    for array in ARRAYS:
        np.testing.assert_allclose(
            getattr(permuted, array), getattr(straight, array)[list(order)], atol=1e-6, rtol=1e-5
        )


@pytest.mark.parametrize("name", FEW_FAMILIES)
@pytest.mark.parametrize("site", SITES)
def test_a_prompt_alone_equals_the_prompt_among_others(name: str, site: str) -> None:
    """A batch of one gives the numbers of a batch of many."""
    mask = lt.Mask(site=site, draws=2)
    together = lt.trace(tiny(name), as_samples(PROMPTS), perturbation=mask)
    for row, prompt in enumerate(PROMPTS[:3]):
        alone = lt.trace(tiny(name), as_samples((prompt,)), perturbation=mask)
        np.testing.assert_allclose(alone.js_bits[0], together.js_bits[row], atol=1e-6, rtol=0)
        np.testing.assert_allclose(alone.target_prob[0], together.target_prob[row], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "site", "live"),
    [
        ("llama", "block_output", "64KB"),
        ("llama", "mlp_output", "1MB"),
        ("falcon", "mixer_output", "64KB"),
        ("bloom", "block_output", "256KB"),
        ("jamba", "mixer_output", "256KB"),
    ],
)
def test_results_do_not_depend_on_the_memory_budget(name: str, site: str, live: str) -> None:
    """However small the chunks that a budget forces, the numbers are the same within rounding."""
    mask = lt.Mask(site=site, draws=5)
    roomy = lt.trace(tiny(name), as_samples(PROMPTS), perturbation=mask)
    memory = allowing(tiny(name), as_samples(PROMPTS), live)
    tight = lt.trace(tiny(name), as_samples(PROMPTS), perturbation=mask, memory=memory)
    for array in ARRAYS:
        np.testing.assert_allclose(getattr(tight, array), getattr(roomy, array), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "perturbation",
    [
        lt.Mask(seed=3, draws=3, scheme="random"),
        lt.Mask(seed=3, draws=3, fill="resample"),
        lt.Noise(seed=3, draws=3, site="mixer_output"),
        lt.Skip(),
    ],
    ids=["random mask", "resample", "noise", "skip"],
)
def test_equal_seeds_give_equal_results_bit_for_bit(perturbation: lt.Mask | lt.Noise | lt.Skip) -> None:
    """The same inputs and seed give the same numbers run after run, and PyTorch's global generator is not touched."""
    state = torch.random.get_rng_state()
    first = lt.trace(tiny("gemma2"), as_samples(PROMPTS), perturbation=perturbation)
    second = lt.trace(tiny("gemma2"), as_samples(PROMPTS), perturbation=perturbation)
    for array in ARRAYS:
        assert np.array_equal(getattr(first, array), getattr(second, array)), array
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("perturbation", [lt.Mask(seed=1, draws=2), lt.Noise(seed=1, draws=2)], ids=["mask", "noise"])
def test_other_seeds_give_other_divergences(perturbation: lt.Mask | lt.Noise) -> None:
    """A seed that is ignored would make every run agree with every other."""
    other = type(perturbation)(seed=2, draws=2)
    first = lt.trace(tiny("llama"), as_samples(PROMPTS), perturbation=perturbation)
    second = lt.trace(tiny("llama"), as_samples(PROMPTS), perturbation=other)
    assert not np.allclose(first.js_bits, second.js_bits, atol=1e-3)
    assert np.array_equal(first.target_log_prob, second.target_log_prob)


@settings(max_examples=15, deadline=None)
@given(
    n_layers=st.integers(2, 7),
    where=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    site=st.sampled_from(SITES),
    seed=st.integers(0, 2**16),
)
def test_the_planted_layers_are_found(n_layers: int, where: tuple[int, int], site: str, seed: int) -> None:
    """Wherever the answer enters and wherever the model was made fragile, the trace says so."""
    answer_layer, fragile_layer = (layer % n_layers for layer in where)
    module = PlantedModel(n_layers=n_layers, answer_layer=answer_layer, fragile_layer=fragile_layer, seed=seed)
    prompts = ((3, 7, 1), (5, 2, 2, 9, 11), (14, 8, 6), (1, 17, 4, 10))
    samples = [lt.Sample(prompt_ids=prompt, answer_id=planted_answer(prompt)) for prompt in prompts]
    trace = lt.trace(lt.wrap_model(module, name="planted"), samples, perturbation=lt.Mask(site=site, seed=seed))
    assert trace.method == "ladder"
    assert trace.task_particle.layer == answer_layer
    assert trace.task_particle.per_prompt == (answer_layer,) * len(prompts)
    assert trace.task_particle.share_found == 1.0
    assert trace.vulnerable_layer.layer == fragile_layer
    assert trace.vulnerable_layer.per_prompt == (fragile_layer,) * len(prompts)
    assert trace.vulnerable_layer.stability > 0.95
    assert trace.solved_share == 1.0


@pytest.mark.parametrize("name", ["llama", "gemma2", "rwkv"])
def test_rank_entropy_and_probability_equal_their_definitions(name: str) -> None:
    """Rank, entropy and probability of every layer are those of the oracle's distribution in float64."""
    samples = as_samples(PROMPTS)
    trace = lt.trace(tiny(name), samples, perturbation=lt.Mask(draws=1))
    module, layers = build_tiny(name), BY_NAME[name].layers
    for row, sample in enumerate(samples):
        log_probs = plain_readouts(module, layers, sample.prompt_ids)
        own = log_probs[:, sample.answer_id]
        entropy = -(np.exp(log_probs) * log_probs).sum(-1) / np.log(2)
        embedding = plain_embedding_readout(module, layers, sample.prompt_ids)[sample.answer_id]
        assert trace.target_rank[row].tolist() == (1 + (log_probs > own[:, None]).sum(-1)).tolist()
        np.testing.assert_allclose(trace.entropy_bits[row], entropy, atol=1e-3, rtol=0)
        np.testing.assert_allclose(trace.target_log_prob[row], own, atol=1e-3, rtol=0)
        np.testing.assert_allclose(trace.target_prob[row], np.exp(own), atol=1e-5, rtol=0)
        np.testing.assert_allclose(trace.embedding_log_prob[row], embedding, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", LAW_FAMILIES)
def test_the_models_own_token_has_rank_one_at_the_last_layer(name: str) -> None:
    """With target="model" the followed token is the top one of the model itself."""
    trace = lt.trace(tiny(name), as_samples(PROMPTS), perturbation=lt.Mask(draws=1), target="model")
    module = build_tiny(name)
    for prompt, record in zip(PROMPTS, trace.prompts, strict=True):
        own = plain_log_probs(module, prompt)
        assert record.target_ids == (int(own.argmax()),)
        assert record.top_id == int(own.argmax())
        assert record.top_prob == pytest.approx(np.exp(own.max()), abs=1e-5)
    assert np.all(trace.target_rank[:, -1] == 1)


@pytest.mark.parametrize("name", FEW_FAMILIES)
@pytest.mark.parametrize("site", SITES)
def test_no_noise_changes_nothing_and_more_noise_changes_more(name: str, site: str) -> None:
    """Noise of scale 0 gives 0; on average over layers, more noise gives a larger divergence."""
    means = []
    for scale in (0.0, 0.03, 0.3):
        noise = lt.Noise(scale=scale, site=site, draws=2)
        means.append(lt.trace(tiny(name), as_samples(PROMPTS), perturbation=noise).js_bits.mean(axis=(0, 1)))
    assert np.all(means[0] <= 1e-7)
    assert np.all(means[1] > 0)
    assert means[2].mean() > 3 * means[1].mean()


@pytest.mark.parametrize("fill", ["mean", "resample"])
@pytest.mark.parametrize("site", SITES)
def test_where_all_positions_are_alike_a_fill_from_elsewhere_changes_nothing(fill: str, site: str) -> None:
    """Prompts that repeat one token look alike at every position (attention averages equal values), so that neither
    the mean over positions nor another position's value differs from what is there.
    """
    prompts = ((9,) * 5, (9,) * 8, (9,) * 5)
    mask = lt.Mask(site=site, fill=fill, fraction=0.5, draws=2)
    trace = lt.trace(tiny("llama"), as_samples(prompts), perturbation=mask)
    assert np.all(trace.js_bits <= 1e-6)
    zeroed = lt.trace(tiny("llama"), as_samples(prompts), perturbation=lt.Mask(site=site, fraction=0.5, draws=2))
    assert np.all(zeroed.js_bits.mean(axis=(0, 1)) > 1e-4)


@pytest.mark.parametrize("fill", ["mean", "resample"])
def test_fills_differ_from_zero_and_stay_in_range(fill: str) -> None:
    """A fill is not the zero fill in disguise, and its divergence is one."""
    filled = lt.trace(tiny("llama"), as_samples(PROMPTS), perturbation=lt.Mask(fill=fill, draws=2))
    zeroed = lt.trace(tiny("llama"), as_samples(PROMPTS), perturbation=lt.Mask(draws=2))
    assert np.all((filled.js_bits >= 0) & (filled.js_bits <= 1))
    assert not np.allclose(filled.js_bits, zeroed.js_bits, atol=1e-3)
