"""The door of row measures: a number of every perturbed row, out of the block that the JS divergence is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

import layertracer as lt
from layertracer._types import MeasureInfo
from layertracer.reports import summarize
from layertracer.tracing import TracedModel, register_row_measure
from layertracer.tracing._distributions.js_divergence import js_from_logits
from layertracer.tracing._distributions.log_softmax import floored_log_probs_of
from layertracer.tracing._distributions.reduction import Reduction
from layertracer.tracing._distributions.row_measures import FollowedRows, PerturbedRows

from tests.doors.test_observer import plainly


class KlNats:
    """Toy: KL divergence of the clean from the perturbed distribution, KL(clean ‖ perturbed), nats."""

    info = MeasureInfo(name="toy_kl_nats", unit="nats", meaning="KL(clean, perturbed)", low=0.0)
    over_positions: Literal["mean", "sum"] = "mean"

    def __call__(self, rows: PerturbedRows) -> Tensor:
        """The number of every row."""
        return (rows.log_clean.exp() * (rows.log_clean - rows.log_probs)).sum(dim=-1)


@pytest.fixture(scope="module")
def model() -> TracedModel:
    """A trained miniature."""
    return lt.load_model("mini/attention")


def log_probs(model: TracedModel, ids: tuple[int, ...], n_read: int) -> np.ndarray:
    """The model's own log-probabilities at the last positions, float64 [read, d_vocab]."""
    with torch.no_grad():
        logits = model.module(torch.tensor([ids]), use_cache=False).logits[0, -n_read:].double()
    return logits.log_softmax(dim=-1).numpy()


def perturbed_log_probs(
    model: TracedModel, ids: tuple[int, ...], n_read: int, *, keep: np.ndarray, site: str
) -> np.ndarray:
    """The same with one mask at each layer, by PyTorch's own hooks, [draw, layer, read, d_vocab]."""
    n_layers, n_draws, _ = keep.shape
    found = np.empty((n_draws, n_layers, n_read, model.anatomy.d_vocab))
    for layer in range(n_layers):
        block = model.anatomy.layers[layer].module
        module = {"block_output": block, "mixer_output": getattr(block, "self_attn", None), "mlp_output": block.mlp}[
            site
        ]
        for draw in range(n_draws):
            mask = torch.from_numpy(keep[layer, draw])

            def hook(_: Any, __: Any, output: Any, mask: Tensor = mask) -> Any:
                return (output[0] * mask, *output[1:]) if isinstance(output, tuple) else output * mask

            handle = module.register_forward_hook(hook)
            found[draw, layer] = log_probs(model, ids, n_read)
            handle.remove()
    return found


@pytest.mark.parametrize(
    "how",
    [
        {"site": "block_output"},
        {"site": "mlp_output", "share_prefix": True},
        {"site": "mixer_output", "target_tokens": "all"},
        {"site": "block_output", "target": "model"},
        {"site": "block_output", "plain": True, "target_tokens": "all"},
    ],
    ids=str,
)
def test_the_target_and_a_toy_are_what_plain_hooks_give(model: TracedModel, how: dict[str, Any]) -> None:
    """The target's log-probability, summed over its tokens, and a KL divergence, in every draw and layer."""
    asked = dict(how)
    site, traced = asked.pop("site"), plainly(model) if asked.pop("plain", False) else model
    keep = np.random.default_rng(1).random((model.anatomy.n_layers, 2, model.anatomy.d_model)) < 0.7
    with register_row_measure(KlNats()):
        trace = lt.trace(
            traced, lt.load_task("antonym", n_shot=2, limit=2), perturbation=lt.Mask.explicit(keep, site=site), **asked
        )
    (effect,) = trace.effects.values()
    for row, prompt in enumerate(trace.prompts):
        ids, targets = prompt.prompt_ids + prompt.target_ids[:-1], np.array(prompt.target_ids)
        clean = log_probs(model, ids, len(targets))
        perturbed = perturbed_log_probs(model, ids, len(targets), keep=keep, site=site)
        own = np.take_along_axis(perturbed, targets[None, None, :, None], axis=-1)[..., 0].sum(axis=-1)
        np.testing.assert_allclose(effect.target_log_prob[row], own, atol=2e-4, rtol=1e-5)
        kl = (np.exp(clean) * (clean - perturbed)).sum(axis=-1).mean(axis=-1)
        np.testing.assert_allclose(effect.rows["toy_kl_nats"][row], kl, atol=2e-4, rtol=1e-4)


def test_at_the_state_it_is_that_of_a_layer_that_has_forgotten(model: TracedModel) -> None:
    """With everything masked: the model's own, after a cache in which one layer's keys and values are zero."""
    trace = lt.trace(
        model,
        lt.load_task("antonym", n_shot=2, limit=2),
        perturbation=lt.Mask(site="state", fraction=1.0, scheme="random", draws=1),
    )
    effect = trace.effects["state"]
    for row, prompt in enumerate(trace.prompts):
        ids, expected = torch.tensor([prompt.prompt_ids]), []
        for layer in range(model.anatomy.n_layers):
            with torch.no_grad():
                cache = model.module(ids[:, :-1], use_cache=True).past_key_values
                cache.layers[layer].keys.zero_()
                cache.layers[layer].values.zero_()
                logits = model.module(ids[:, -1:], past_key_values=cache).logits[0, -1].double()
            expected.append(float(logits.log_softmax(dim=-1)[prompt.target_ids[0]]))
        np.testing.assert_allclose(effect.target_log_prob[row, 0], expected, atol=1e-4)
        clean = trace.target_log_prob[row, -1]
        np.testing.assert_allclose(effect.target_log_prob_loss[row, 0], clean - np.array(expected), atol=2e-4)


def test_a_mask_that_keeps_everything_loses_nothing(model: TracedModel) -> None:
    """At every site, the perturbed log-probability is then the clean one."""
    keep = np.ones((model.anatomy.n_layers, 1, model.anatomy.d_model), bool)
    several = [lt.Mask.explicit(keep, site=site) for site in ("block_output", "mixer_output", "mlp_output")]
    trace = lt.trace(model, lt.load_task("antonym", n_shot=2, limit=3), perturbation=several)
    for effect in trace.effects.values():
        np.testing.assert_allclose(effect.target_log_prob_loss, 0, atol=2e-5)


def keeping_everything(model: TracedModel) -> lt.Mask:
    """A mask that masks nothing."""
    return lt.Mask.explicit(np.ones((model.anatomy.n_layers, 1, model.anatomy.d_model), bool), site="block_output")


def test_several_answers_count_together_where_they_differ_in_the_last_token(model: TracedModel) -> None:
    """Any of several first tokens: the logarithm of their sum, as in clean rows; the record states no loss."""
    sample = lt.Sample(prompt_ids=(5, 9, 12, 7), answer_ids=(11, 23, 40))
    trace = lt.trace(model, [sample], perturbation=keeping_everything(model))
    expected = np.logaddexp.reduce(log_probs(model, (5, 9, 12, 7), 1)[0, [11, 23, 40]])
    np.testing.assert_allclose(trace.effects["block_output"].target_log_prob[0], expected, atol=1e-4)
    np.testing.assert_allclose(trace.target_log_prob[0, -1], expected, atol=1e-4)
    assert np.isnan(trace.effects["block_output"].target_log_prob_loss).all()


def test_answers_that_begin_otherwise_are_added_to_clean_rows_alone(model: TracedModel, tmp_path: Path) -> None:
    """With whole answers, perturbed rows follow the first one; clean rows all; what is stored is read again."""
    sample = lt.Sample(prompt="hot -> cold\nbig ->", answers=(" small big", " cold hot"))
    trace = lt.trace(model, [sample], perturbation=keeping_everything(model), target_tokens="all")
    (prompt,) = trace.prompts
    each = [
        float(
            np.take_along_axis(
                log_probs(model, prompt.prompt_ids + ids[:-1], len(ids)), np.array(ids)[:, None], 1
            ).sum()
        )
        for ids in (prompt.answer_ids, *prompt.other_answer_ids)
    ]
    assert len(prompt.answer_ids) > 1
    assert prompt.answer_ids[0] != prompt.other_answer_ids[0][0]
    np.testing.assert_allclose(trace.effects["block_output"].target_log_prob[0], each[0], atol=2e-4)
    np.testing.assert_allclose(trace.target_log_prob[0, -1], np.logaddexp(*each), atol=2e-4)
    assert lt.load_run(trace.save(tmp_path / "run")) == trace


def test_a_toy_is_kept(model: TracedModel, tmp_path: Path) -> None:
    """Registered by a test, it stands in the run that is stored, with its unit; undone, it is measured no more."""
    task = lt.load_task("antonym", limit=2)
    with register_row_measure(KlNats()):
        trace = lt.trace(model, task, perturbation=[lt.Mask(draws=1), lt.Mask(draws=2, site="state")])
    loaded = lt.load_run(trace.save(tmp_path / "run"))
    assert loaded == trace
    told = [one["measures"]["toy_kl_nats"] for one in summarize(loaded)["effects"].values()]
    for one, effect in zip(told, loaded.effects.values(), strict=True):
        np.testing.assert_allclose(one["mean"], effect.rows["toy_kl_nats"].mean(axis=(0, 1)), atol=1e-6)
    assert [one.infos["toy_kl_nats"].unit for one in loaded.effects.values()] == ["nats", "nats"]
    assert all("toy_kl_nats" not in one.rows for one in lt.trace(model, task).effects.values())


def test_far_below_the_floor_it_is_exact() -> None:
    """The block's log-probabilities stop at about −45; the target's does not, in one block or in many."""
    generator = torch.Generator().manual_seed(0)
    logits = 40 * torch.randn(5, 3, 70_000, generator=generator)
    targets = torch.tensor([[int(logits[prompt].amin(dim=0).argmin())] for prompt in range(5)])
    reduction = Reduction(lambda rows: logits.flatten(0, 1)[rows[:, 0].long()], d_vocab=70_000, budget_bytes=2**24)
    places = torch.arange(15.0).view(5, 3, 1)
    found = reduction.perturbed(places[:, 0], places.transpose(0, 1), FollowedRows(targets[:, 0]))
    expected = logits.double().log_softmax(dim=-1).gather(-1, targets[:, None].expand(5, 3, 1))[..., 0].T
    assert float(expected.min()) < -150
    np.testing.assert_allclose(found["target_log_prob"].numpy(), expected.numpy(), rtol=1e-6)
    clean = floored_log_probs_of(logits[:, 0])
    alone = js_from_logits(logits, clean[:, None]).T
    assert torch.equal(found["js_bits"], alone)


class Failing(KlNats):
    """A measure with a mistake."""

    def __call__(self, rows: PerturbedRows) -> Tensor:
        """Nothing."""
        raise ValueError("my own mistake") if len(rows.tokens) else AssertionError


@pytest.mark.parametrize("site", ["mixer_output", "state"])
def test_what_a_measure_raises_is_told_as_its_own(model: TracedModel, site: str) -> None:
    """Of rows in chunks, and of whole distributions: neither the model's fault nor the tool's."""
    said = (
        r"The row measure 'toy_kl_nats' raised ValueError: my own mistake on perturbed rows \(.*That is code of its own"
    )
    with register_row_measure(Failing()), pytest.raises(lt.UsageError, match=said):
        lt.trace(model, lt.load_task("antonym", limit=2), perturbation=lt.Mask(draws=1, site=site))
