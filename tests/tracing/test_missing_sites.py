"""Sites that some layers of a hybrid lack: those layers are not perturbed and hold NaN, the others are as ever."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

import layertracer as lt
from layertracer.tracing._sites.protocol import layers_with

from tests.support.budgets import smallest
from tests.support.models.hybrids import BRANCHES, D_MODEL, HAVING, KINDS, LAYERS, MIXERS, Hybrid, HybridLayer
from tests.support.oracles.plain_hooks import plain_js, plain_site_means
from tests.support.tiny import tiny

SITES = ("mixer_output", "mlp_output")
N_LAYERS, N_DRAWS = len(KINDS), 2
PROMPTS: tuple[tuple[int, ...], ...] = ((7, 23, 11, 4, 36, 38), (12, 40, 3, 19), (30, 33, 15, 22, 8, 5))
SAMPLES = [lt.Sample(prompt_ids=prompt, answer_id=3) for prompt in PROMPTS]
KEEP = np.random.default_rng(5).random((N_LAYERS, N_DRAWS, D_MODEL)) > 0.4


def plainly(model: lt.TracedModel) -> lt.TracedModel:
    """The same model, to be traced by one hooked forward at a time."""
    return dataclasses.replace(model, self_check=dataclasses.replace(model.self_check, method="plain"))


def lacking(site: str) -> list[int]:
    """The layers that have not the site."""
    return [layer for layer in range(N_LAYERS) if layer not in HAVING[site]]


def test_the_parts_are_found() -> None:
    """Layers of a mixer alone, an MLP alone and both are told apart, and both sites are proved at load."""
    model = tiny("hybrid")
    assert tuple(layer.mixer for layer in model.anatomy.layers) == MIXERS
    assert [layer.mlp for layer in model.anatomy.layers] == ["dense" if "mlp" in kind else "none" for kind in KINDS]
    assert model.self_check.passed
    assert set(SITES) <= set(model.self_check.errors)
    for site in (*SITES, "block_output"):
        assert layers_with(site, model.network) == HAVING[site]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("method", ["ladder", "plain"])
def test_layers_that_have_the_site_agree_with_plain_hooks(site: str, method: str) -> None:
    """A mask of all layers counts at those that have the site; the others hold NaN for every prompt and draw."""
    model = tiny("hybrid") if method == "ladder" else plainly(tiny("hybrid"))
    trace = lt.trace(model, SAMPLES, perturbation=lt.Mask.explicit(KEEP, site=site))
    assert trace.method == method
    assert trace.layers_without_site == tuple(lacking(site))
    for row, prompt in enumerate(PROMPTS):
        module = model.module
        bits = plain_js(module, LAYERS, prompt, keep=KEEP, branches=BRANCHES, site=site, only=HAVING[site])
        assert np.isnan(bits[:, lacking(site)]).all()
        np.testing.assert_allclose(trace.js_bits[row], bits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("site", SITES)
def test_filling_with_the_mean_needs_no_mean_of_what_is_not_there(site: str) -> None:
    """fill="mean" takes the means of the layers that have the site."""
    having, module = HAVING[site], tiny("hybrid").module
    some = nn.ModuleList(module.layers[layer] for layer in having)
    whole = nn.ModuleDict({"some": some, "model": module})
    means = np.zeros((N_LAYERS, D_MODEL))
    means[list(having)] = plain_site_means_of(whole, PROMPTS, site=site)
    trace = lt.trace(tiny("hybrid"), SAMPLES, perturbation=lt.Mask.explicit(KEEP, site=site, fill="mean"))
    for row, prompt in enumerate(PROMPTS):
        bits = plain_js(module, LAYERS, prompt, keep=KEEP, branches=BRANCHES, site=site, fill=means, only=having)
        np.testing.assert_allclose(trace.js_bits[row], bits, atol=1e-5, rtol=0)


class _Whole(nn.Module):
    """The model beside a list of some of its layers, for an oracle that goes through a list of layers."""

    def __init__(self, parts: nn.ModuleDict) -> None:
        super().__init__()
        self.some, self.model = parts["some"], parts["model"]

    def forward(self, ids: Tensor) -> Tensor:
        """The model's logits."""
        logits: Tensor = self.model(ids)
        return logits


def plain_site_means_of(parts: nn.ModuleDict, prompts: tuple[tuple[int, ...], ...], *, site: str) -> np.ndarray:
    """Means of a site at the layers that have it."""
    return plain_site_means(_Whole(parts), "some", prompts, branches=BRANCHES, site=site)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(
    "settings", [{}, {"fill": "resample"}, {"positions": "last"}, {"scheme": "random", "fraction": 0.4}], ids=str
)
def test_every_kind_of_mask_leaves_out_the_same_layers(site: str, settings: dict[str, object]) -> None:
    """Whatever the mask, NaN stands at the layers without the site and nowhere else; a small memory changes nothing."""
    mask = lt.Mask(site=site, draws=3, **settings)
    trace = lt.trace(tiny("hybrid"), SAMPLES, perturbation=mask)
    missing = np.isin(np.arange(N_LAYERS), lacking(site))
    assert (np.isnan(trace.js_bits) == missing).all()
    cramped = lt.trace(tiny("hybrid"), SAMPLES, perturbation=mask, memory=smallest(tiny("hybrid"), SAMPLES, mask))
    np.testing.assert_allclose(cramped.js_bits, trace.js_bits, atol=1e-6)


@pytest.mark.parametrize("site", SITES)
def test_no_row_is_run_for_layers_without_the_site(site: str) -> None:
    """The last layer is entered by the clean row and one row for each draw of each earlier layer that has the site."""
    module = Hybrid()
    model = lt.wrap_model(module)
    rows = []
    module.layers[-1].register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    lt.trace(model, SAMPLES[:1], perturbation=lt.Mask(site=site, draws=5))
    assert 1 + 5 * (len(HAVING[site]) - 1) in rows
    assert max(rows) <= 5 * len(HAVING[site])  # the tail's own run


def test_a_divergence_that_is_no_number_is_still_an_error() -> None:
    """NaN at a layer that has the site is refused, and the message names the first such layer by its own index."""
    noise = lt.Noise(scale=1e38, site="mlp_output", draws=1)
    with pytest.raises(lt.NonFiniteError, match=r"Perturbing layer 1 makes the output of sample \d NaN"):
        lt.trace(tiny("hybrid"), SAMPLES, perturbation=noise)


def test_a_site_that_no_layer_has_is_refused() -> None:
    """Where every layer lacks it, the error says that it does not exist and which sites there are."""
    model = lt.wrap_model(Hybrid(["mean", "attention", "mean", "mean"]))
    with pytest.raises(lt.SiteError, match=r"'mlp_output' does not exist .*: block_output, mixer_output\."):
        lt.trace(model, SAMPLES, perturbation=lt.Mask(site="mlp_output"))


@pytest.mark.parametrize("site", SITES)
def test_answers_are_those_of_the_layers_that_have_the_site(site: str, tmp_path: Path) -> None:
    """Measures leave the other layers out; run folder, tables and summary keep the gaps."""
    trace = lt.trace(tiny("hybrid"), SAMPLES, perturbation=lt.Mask(site=site))
    profile = trace.js_bits.mean(axis=(0, 1))
    assert trace.vulnerable_layer.layer == np.nanargmax(profile)
    assert set(trace.vulnerable_layer.per_prompt) <= set(HAVING[site])
    assert trace.robustness.mean_bits == pytest.approx(profile[list(HAVING[site])].mean())
    np.testing.assert_allclose(trace.robustness.profile_bits, profile, rtol=1e-6)
    assert np.isnan(trace.dominant.js_share[lacking(site)]).all()
    assert np.isfinite(trace.dominant.js_share[list(HAVING[site])]).all()
    assert trace.to_pandas().groupby("layer").js_bits.count().tolist() == [
        len(PROMPTS) * (layer in HAVING[site]) for layer in range(N_LAYERS)
    ]

    folder = trace.save(tmp_path / "run")
    assert lt.load_run(folder) == trace
    header = json.loads((folder / "run.json").read_text())
    assert header["layers_without_site"] == lacking(site)
    assert header["summary"]["all"]["vulnerable_layer"]["layer"] == trace.vulnerable_layer.layer


def test_kinds_of_mixer_are_told_apart() -> None:
    """by_mixer has one entry a kind in order of appearance; a kind without the site has its gains alone."""
    trace = lt.trace(tiny("hybrid"), SAMPLES, perturbation=lt.Mask(site="mixer_output"))
    mean, none, attention = trace.by_mixer
    assert [group.mixer for group in trace.by_mixer] == ["linear_attention", "none", "attention"]
    assert [group.layers for group in trace.by_mixer] == [(0, 5), (1, 4), (2, 3)]
    assert (none.n_perturbed, none.mean_js_bits, none.interval, none.vulnerable_layer) == (0, None, None, None)
    for group in (mean, attention):
        layers = list(group.layers)
        bits = trace.js_bits[:, :, layers].mean(axis=(0, 1))
        assert group.mean_js_bits == pytest.approx(bits.mean())
        assert group.vulnerable_layer == layers[int(bits.argmax())]
        assert group.interval.low <= group.mean_js_bits <= group.interval.high
    rise = float((trace.target_prob[:, -1] - trace.embedding_prob).mean())
    assert sum(group.n_layers * group.mean_gain_prob for group in trace.by_mixer) == pytest.approx(rise)


# ---------------------------------------------------------------- where nobody asks for a site


def unproved(model: lt.TracedModel) -> lt.TracedModel:
    """The same model as one whose ladder failed at load: the plain method, no site inside the layer proved."""
    checks = tuple(check for check in model.self_check.checks if check.name not in SITES)
    return dataclasses.replace(
        model, self_check=dataclasses.replace(model.self_check, method="plain", checks=checks, row_by_row=True)
    )


@cache
def without_mixers() -> lt.TracedModel:
    """A model whose layers are MLPs alone."""
    return lt.wrap_model(Hybrid(["mlp"] * 4), name="mlps")


@pytest.mark.parametrize("perturbation", [None, lt.Mask(draws=5), lt.Noise(scale=0.3)], ids=["none", "mask", "noise"])
def test_the_usual_site_is_what_the_mixer_adds(perturbation: lt.Mask | lt.Noise | None) -> None:
    """Nobody names a site: the trace is that at "mixer_output", layers without a mixer hold NaN, nothing is noted."""
    trace = lt.trace(tiny("hybrid"), SAMPLES, perturbation=perturbation)
    asked = dataclasses.replace(perturbation or lt.Mask(), site="mixer_output")
    assert trace.spec.perturbation == asked.to_dict()
    np.testing.assert_array_equal(trace.js_bits, lt.trace(tiny("hybrid"), SAMPLES, perturbation=asked).js_bits)
    assert trace.layers_without_site == tuple(lacking("mixer_output"))
    assert not any("nobody asked" in warning for warning in trace.warnings)


@pytest.mark.parametrize("make", [without_mixers, lambda: unproved(tiny("hybrid"))], ids=["no mixer", "plain"])
@pytest.mark.parametrize(
    "perturbation", [None, lt.Mask(fraction=0.5), lt.Noise(draws=2)], ids=["none", "mask", "noise"]
)
def test_where_the_usual_site_is_not_to_be_had_the_stream_is_perturbed(
    make: Callable[[], lt.TracedModel], perturbation: lt.Mask | lt.Noise | None, tmp_path: Path
) -> None:
    """Without a mixer, or by the plain method, it is the trace at "block_output", which the run and the plan say."""
    model = make()
    trace = lt.trace(model, SAMPLES, perturbation=perturbation)
    asked = dataclasses.replace(perturbation or lt.Mask(), site="block_output")
    assert trace.spec.perturbation == asked.to_dict()
    np.testing.assert_array_equal(trace.js_bits, lt.trace(model, SAMPLES, perturbation=asked).js_bits)
    notes = [note for note in trace.warnings if note.startswith("The site is 'block_output': nobody asked for one")]
    assert len(notes) == 1
    assert "'mixer_output'" in notes[0]
    assert lt.load_run(trace.save(tmp_path / "run")).warnings == trace.warnings
    assert notes[0] in lt.plan(model, SAMPLES, perturbation=perturbation).notes


def test_a_last_layer_that_mixes_nothing_is_run_whole() -> None:
    """A model whose last layer treats every position by itself agrees with plain hooks, prompts of any length."""
    model, keep = without_mixers(), np.random.default_rng(6).random((4, N_DRAWS, D_MODEL)) > 0.4
    trace = lt.trace(model, SAMPLES, perturbation=lt.Mask.explicit(keep))
    for row, prompt in enumerate(PROMPTS):
        np.testing.assert_allclose(
            trace.js_bits[row], plain_js(model.module, LAYERS, prompt, keep=keep), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("make", [without_mixers, lambda: unproved(tiny("hybrid"))], ids=["no mixer", "plain"])
def test_a_site_that_was_asked_for_is_never_replaced(make: Callable[[], lt.TracedModel]) -> None:
    """Asked for by name, the usual site of a model that has none is an error, as any other site."""
    for perturbation in (lt.Mask(site="mixer_output"), lt.Noise(site="mixer_output")):
        with pytest.raises(lt.SiteError, match=r"'mixer_output' (does not exist|was not proved)"):
            lt.trace(make(), SAMPLES, perturbation=perturbation)
        with pytest.raises(lt.SiteError, match=r"'mixer_output' (does not exist|was not proved)"):
            lt.plan(make(), SAMPLES, perturbation=perturbation)


class TakesAnotherPath(HybridLayer):
    """A layer whose mixer is added in two halves as soon as a prompt has more tokens than any probe."""

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after the layer."""
        added = self.mixer(self.norm_1(stream))
        if stream.shape[1] > 20:
            stream, added = stream + added / 2, added / 2
        stream = stream + added
        return stream + self.mlp(self.norm_2(stream))


def test_a_site_that_is_lost_on_the_real_prompts_gives_way(tmp_path: Path) -> None:
    """Proved at load, not found again at the prompts' length: unasked the stream is perturbed, asked it is refused."""
    module = Hybrid(["attention+mlp"] * 4)
    for layer in module.layers:
        layer.__class__ = TakesAnotherPath
    model = lt.wrap_model(module, name="switching")
    samples = [
        lt.Sample(prompt_ids=tuple((7 * row + place) % 41 for place in range(24)), answer_id=3) for row in range(3)
    ]
    assert model.self_check["mixer_output"].passed
    trace = lt.trace(model, samples)
    assert trace.spec.perturbation == lt.Mask(site="block_output").to_dict()
    assert trace.warnings[0].startswith("The site is 'block_output': nobody asked for one, and at the usual one")
    asked = lt.trace(model, samples, perturbation=lt.Mask(site="block_output"))
    np.testing.assert_array_equal(trace.js_bits, asked.js_bits)
    assert lt.load_run(trace.save(tmp_path / "run")) == trace
    with pytest.raises(lt.SiteError, match="ran through other code"):
        lt.trace(model, samples, perturbation=lt.Mask(site="mixer_output"))
