"""Results by kind of mixer: numbers done by hand, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from layertracer import UsageError
from layertracer.measures import Sampling, find_missing, find_vulnerable_layer, group_by_mixer, measure_robustness

from tests.strategies import make_curves

NAN = math.nan
CURVES = make_curves(np.array([[0.2, 0.1, 0.6], [0.2, 0.3, 0.4]]), np.array([0.0, 0.1]))
JS = np.array([[[0.1, 0.8, 0.3], [0.1, 0.4, 0.3]], [[0.2, 0.0, 0.5], [0.2, 0.0, 0.5]]])


def test_numbers_done_by_hand() -> None:
    """Means are over prompts, draws and layers of the kind; gains begin at the embeddings."""
    mamba, attention = group_by_mixer(JS, CURVES, ["mamba", "attention", "mamba"])
    assert (mamba.mixer, mamba.layers, mamba.n_layers, mamba.n_perturbed) == ("mamba", (0, 2), 2, 2)
    assert mamba.mean_js_bits == pytest.approx((0.15 + 0.4) / 2)
    assert (mamba.vulnerable_layer, mamba.max_js_bits) == (2, pytest.approx(0.4))
    assert mamba.mean_depth == pytest.approx((1 / 3 + 1) / 2)
    assert mamba.mean_gain_prob == pytest.approx(((0.2 + 0.5) + (0.1 + 0.1)) / 4)
    assert attention.mean_js_bits == pytest.approx(0.3)
    assert attention.mean_gain_prob == pytest.approx((-0.1 + 0.1) / 2)


def test_interval_is_students() -> None:
    """With given draws the interval of a mean over 30 prompts is Student's: 2.045 standard errors, from a table."""
    js = np.random.default_rng(1).uniform(0.2, 0.6, (30, 1, 2))
    prob = make_curves(np.full((30, 2), 0.5))
    (group,) = group_by_mixer(js, prob, ["rwkv", "rwkv"], sampling=Sampling(draws="given"))
    by_prompt = js.mean(axis=(1, 2))
    half = 2.045 * by_prompt.std(ddof=1) / np.sqrt(30)
    assert group.interval is not None
    assert group.interval.low == pytest.approx(by_prompt.mean() - half, abs=0.003)
    assert group.interval.high == pytest.approx(by_prompt.mean() + half, abs=0.003)


@pytest.mark.parametrize(("n_prompts", "n_draws"), [(1, 5), (5, 1)])
def test_one_prompt_or_one_draw_gives_no_interval(n_prompts: int, n_draws: int) -> None:
    """One prompt, or one random draw, cannot say how far another one lies."""
    js = np.random.default_rng(1).random((n_prompts, n_draws, 2))
    (group,) = group_by_mixer(js, make_curves(np.full((n_prompts, 2), 0.5)), ["rwkv", "rwkv"])
    assert group.interval is None
    assert group.mean_js_bits == pytest.approx(js.mean())


def test_kinds_share_their_resamples() -> None:
    """Kinds whose divergences are alike have the same interval, to the last bit."""
    js = np.random.default_rng(0).random((6, 3, 1))
    same = np.concatenate([js, js], axis=-1)
    one, other = group_by_mixer(same, make_curves(np.full((6, 2), 0.5)), ["mamba", "attention"])
    assert one.interval == other.interval


def test_a_kind_without_the_site_has_no_divergence() -> None:
    """A kind none of whose layers has the site has gains alone; one of which some have it is a mean over those."""
    js = JS.copy()
    js[..., :2] = NAN
    mamba, attention = group_by_mixer(js, CURVES, ["mamba", "attention", "mamba"])
    assert (attention.n_perturbed, attention.mean_js_bits, attention.interval) == (0, None, None)
    assert (attention.vulnerable_layer, attention.max_js_bits) == (None, None)
    assert attention.mean_gain_prob == pytest.approx(0.0)
    assert (mamba.n_perturbed, mamba.n_layers, mamba.vulnerable_layer) == (1, 2, 2)
    assert mamba.mean_js_bits == pytest.approx(0.4)


def test_some_nan_is_not_missing() -> None:
    """A layer with NaN for some prompts and draws alone is refused, beside one that is missing."""
    js = JS.copy()
    js[..., 0] = NAN
    js[1, 0, 2] = NAN
    assert find_missing(js).tolist() == [True, False, False]
    for measure in (find_vulnerable_layer, measure_robustness):
        with pytest.raises(UsageError, match="got nan at prompt 1, draw 0, layer 2 and 1 such values"):
            measure(js)


def test_a_site_that_no_layer_has_is_refused() -> None:
    """Where every layer is missing there is nothing to measure."""
    with pytest.raises(UsageError, match="find_vulnerable_layer needs finite values, got nan"):
        find_vulnerable_layer(np.full((1, 2, 3), NAN))


def test_without_prompts_nothing_is_known_to_be_missing() -> None:
    """An empty trace lacks no layer."""
    assert not find_missing(np.zeros((0, 2, 3))).any()


@pytest.mark.parametrize("n_mixers", [2, 4])
def test_shapes_of_another_trace_are_refused(n_mixers: int) -> None:
    """Mixers, curves and divergences must be those of one trace."""
    with pytest.raises(UsageError, match=rf"curves of shape \[2, 3\] and {n_mixers} mixers"):
        group_by_mixer(JS, CURVES, ["mamba"] * n_mixers)
    with pytest.raises(UsageError, match=r"1 prompts and 3 layers, curves of shape \[2, 3\]"):
        group_by_mixer(JS[:1], CURVES, ["mamba"] * 3)
