"""Importance by other means than masks, against plain hooks and on a model where one layer matters."""

from __future__ import annotations

import numpy as np
import pytest

import layertracer as lt
from layertracer._types import LayerMeasure, MeasureInfo
from layertracer.validation import (
    IMPORTANCE_NAMES,
    Importance,
    fidelity_intervals,
    gradient_fidelity,
    measure_importance,
)

from tests.support.models.families import BY_NAME
from tests.support.models.planted import N_TOKENS, planted_answer
from tests.support.oracles.plain_hooks import (
    branch_modules,
    editing,
    js_bits,
    plain_js,
    plain_log_probs,
    plain_skip_js,
)
from tests.support.tiny import fresh, tiny

PROMPTS = ((5, 9, 2, 31, 8, 17, 4), (11, 4, 20, 8, 3), (6, 6, 3, 12, 40, 1, 30))


def samples() -> list[lt.Sample]:
    """Prompts of token ids that are answered with token 7."""
    return [lt.Sample(prompt_ids=ids, answer_id=7) for ids in PROMPTS]


def planted() -> tuple[lt.TracedModel, list[lt.Sample]]:
    """The planted model with prompts that it answers."""
    rng = np.random.default_rng(3)
    drawn = [tuple(int(token) for token in rng.integers(1, N_TOKENS, size=6)) for _ in range(6)]
    return tiny("planted"), [lt.Sample(prompt_ids=ids, answer_id=planted_answer(ids)) for ids in drawn]


@pytest.mark.parametrize("name", ["llama", "gemma2", "jamba"])
def test_removals_are_those_of_plain_hooks(name: str) -> None:
    """Skips and zero-ablations of every layer are those of plain hooks, prompt by prompt."""
    model, family = tiny(name), BY_NAME[name]
    found = measure_importance(model, samples(), names=[n for n in IMPORTANCE_NAMES if n.startswith(("skip", "zero"))])
    none = np.zeros((family.n_layers, 1, family.d_model), dtype=bool)
    for row, ids in enumerate(PROMPTS):
        skipped = plain_skip_js(model.module, family.layers, ids)
        np.testing.assert_allclose(found["skip_js_bits"].values[row], skipped, atol=1e-5)
        for role in ("mixer", "mlp"):
            site = f"{role}_output"
            zeroed = plain_js(model.module, family.layers, ids, keep=none, branches=family.branches, site=site)[0]
            np.testing.assert_allclose(found[f"zero_{role}_js_bits"].values[row], zeroed, atol=1e-5)
        clean = plain_log_probs(model.module, ids)[7]
        block = model.module.get_submodule(family.layers)[1]
        (part,) = branch_modules(block, family.read.mlp_branch)
        with editing(part, lambda _, output: 0 * output):
            lost = clean - plain_log_probs(model.module, ids)[7]
        assert found["zero_mlp_loss_nats"].values[row, 1] == pytest.approx(lost, rel=1e-3, abs=1e-4)
    assert isinstance(found, Importance)
    assert found.audit is not None
    assert found.audit.n_cells > 0
    assert js_bits(clean + np.zeros(1), clean + np.zeros(1)) == 0


def test_everything_is_measured_on_a_usual_model() -> None:
    """A model with mixers and MLPs has all measures but those that need a contrast, with unit and meaning."""
    found = measure_importance(tiny("llama"), samples())
    assert set(found) == set(IMPORTANCE_NAMES) - {"dla_mixer_difference", "dla_mlp_difference"}
    assert set(found.why_not) == {"dla_mixer_difference", "dla_mlp_difference"}
    for name, measure in found.items():
        assert measure.name == name
        assert measure.unit
        assert measure.meaning
        assert measure.values.shape == (len(PROMPTS), 4)
        assert np.isfinite(measure.values).all()


def test_a_model_without_mlps_says_so() -> None:
    """What a model has not is not measured, with the reason; the rest is."""
    found = measure_importance(tiny("mamba"), samples())
    missing = {name for name in IMPORTANCE_NAMES if "mlp" in name}
    assert missing <= set(found.why_not)
    assert "does not exist" in found.why_not["zero_mlp_js_bits"]
    assert {"zero_mixer_js_bits", "gradient_mixer", "gradient_block", "dla_mixer", "skip_js_bits"} <= set(found)


def test_the_layer_that_matters_is_found() -> None:
    """Every measure that can see it finds the mixer that writes the answer; gradients and attribution among them."""
    model, prompts = planted()
    found = measure_importance(model, prompts, audit=0.5)
    answer_layer = model.module.answer_layer
    both = {
        answer_layer,
        model.module.fragile_layer,
    }  # without one of its two writers the fragile layer writes a wrong one
    for change in (-found["zero_mixer_loss_nats"].mean, found["gradient_mixer"].mean):
        assert set(np.argsort(change)[:2].tolist()) == both
    assert int((-found["gradient_block"].mean).argmax()) == answer_layer
    assert int(found["dla_mixer"].mean.argmax()) == answer_layer
    assert int(found["dla_mixer"].mean.argmax()) == int(found["skip_loss_nats"].mean.argmax())


def test_names_choose_what_is_run() -> None:
    """Only what is asked for is measured, in the order asked for; unknown names are refused with those that exist."""
    found = measure_importance(tiny("llama"), samples(), names=["dla_mlp", "block_influence"])
    assert list(found) == ["dla_mlp", "block_influence"]
    assert not found.why_not
    with pytest.raises(lt.UnknownNameError, match="skip_js_bits"):
        measure_importance(tiny("llama"), samples(), names=["skip_js_bit"])


def test_a_module_in_training_is_left_so() -> None:
    """The model's mode, flags and gradients are what they were before."""
    module = fresh("gpt2").train()
    model = lt.wrap_model(module, name="trained")
    module.train()
    measure_importance(model, samples())
    assert all(part.training for part in module.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())


def test_running_text_is_measured_over_its_positions() -> None:
    """Of a long answer with target_tokens="all", every number is there, over all of its positions."""
    model = lt.load_model("mini/attention")
    text = "the cat sat on the mat and then it went home to see what was there. " * 4
    found = measure_importance(model, [lt.Sample(prompt="the", answer=" " + text)], target_tokens="all", audit=0.5)
    assert np.isfinite(found["gradient_block"].values).all()
    assert np.isfinite(found["skip_js_bits"].values).all()
    assert found.n_gradients_audited == 1
    assert "dla_mixer" in found


def test_fidelity_is_the_correlation_over_all_cells() -> None:
    """Rank and linear correlation of estimates with true changes are those of NumPy over all cells."""
    found = measure_importance(tiny("llama"), samples(), audit=0)
    fidelity = gradient_fidelity(found)
    estimate = found["gradient_mixer"].values.ravel().astype(float)
    change = -found["zero_mixer_loss_nats"].values.ravel().astype(float)
    assert fidelity["gradient_mixer_pearson"] == pytest.approx(np.corrcoef(estimate, change)[0, 1])
    ranks = [values.argsort().argsort() for values in (estimate, change)]
    assert fidelity["gradient_mixer_spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert {name.rpartition("_")[0] for name in fidelity} == {"gradient_mixer", "gradient_mlp", "gradient_block"}
    flipped = LayerMeasure(info=found["gradient_mlp"].info, values=-found["zero_mlp_loss_nats"].values)
    perfect = gradient_fidelity({**found, "gradient_mlp": flipped})
    assert perfect["gradient_mlp_spearman"] == pytest.approx(1.0)


def test_small_additions_are_estimated_well() -> None:
    """Where what is taken away is small beside the stream, first-order estimates are all but the true changes."""
    module = fresh("nanogpt").double()
    for block in module.transformer["h"]:
        for part in (block.attn.c_proj, block.mlp.c_proj):
            part.weight.data *= 0.01
            part.bias.data *= 0.01
    names = ["gradient_mixer", "gradient_mlp", "zero_mixer_loss_nats", "zero_mlp_loss_nats"]
    found = measure_importance(lt.wrap_model(module, name="small"), samples(), names=names)
    assert min(gradient_fidelity(found).values()) > 0.99


def test_fidelity_has_intervals_over_prompts() -> None:
    """Five prompts or more give an interval that holds the correlation; fewer give none; more prompts narrow it."""
    rng = np.random.default_rng(0)

    def made(n: int) -> dict[str, LayerMeasure]:
        loss = rng.standard_normal((n, 6))
        estimate = -loss + rng.standard_normal((n, 6))
        values = {"gradient_mlp": estimate, "zero_mlp_loss_nats": loss}
        return {
            name: LayerMeasure(info=MeasureInfo(name=name, unit="nats", meaning="made"), values=own)
            for name, own in values.items()
        }

    assert fidelity_intervals(made(4)) == {}
    widths = []
    for n in (8, 80):
        given = made(n)
        value = gradient_fidelity(given)["gradient_mlp_pearson"]
        interval = fidelity_intervals(given)["gradient_mlp_pearson"]
        assert interval.low <= value <= interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] < 0.75 * widths[0]
