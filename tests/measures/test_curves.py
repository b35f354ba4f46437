"""The target's curves: what they refuse, and their means."""

from __future__ import annotations

import math

import numpy as np
import pytest

from layertracer import UsageError
from layertracer.measures import TargetCurves

from tests.strategies import make_curves


def test_curves_are_kept_as_float64() -> None:
    """Float32 arrays of a trace become float64, so that no criterion depends on where a trace came from."""
    curves = TargetCurves(
        log_prob=np.zeros((2, 3), np.float32),
        embedding_log_prob=np.zeros(2, np.float32),
        top1_share=np.zeros((2, 3), np.float32),
    )
    assert {curves.log_prob.dtype, curves.embedding_log_prob.dtype, curves.top1_share.dtype} == {np.dtype(np.float64)}


def test_probabilities_are_exponentials() -> None:
    """`prob` and `embedding_prob` are the exponentials of the log-probabilities."""
    curves = make_curves(np.array([[0.25, 0.5]]), np.array([0.125]))
    np.testing.assert_allclose(curves.prob, [[0.25, 0.5]])
    np.testing.assert_allclose(curves.embedding_prob, [0.125])
    assert curves.n_layers == 2


def test_mean_is_of_probabilities() -> None:
    """The mean curve averages probabilities, as a loop over prompts does."""
    prob = np.array([[0.1, 0.9, 0.2], [0.3, 0.1, 1.0]])
    mean = make_curves(prob, np.array([0.0, 0.5])).mean()
    np.testing.assert_allclose(mean.prob, [sum(column) / 2 for column in prob.T.tolist()])
    np.testing.assert_allclose(mean.embedding_prob, 0.25)
    np.testing.assert_allclose(mean.top1_share, [0.0, 0.5, 0.5])


def test_weight_of_two_is_the_prompt_twice() -> None:
    """Weights count how often a prompt occurs, one set of them per leading index."""
    curves = make_curves(np.array([[0.1, 0.9], [0.3, 0.1]]))
    twice = make_curves(np.array([[0.1, 0.9], [0.1, 0.9], [0.3, 0.1]])).mean()
    weighted = curves.mean(np.array([[2.0, 1.0], [1.0, 1.0]]))
    np.testing.assert_allclose(weighted.prob[0], twice.prob)
    np.testing.assert_allclose(weighted.prob[1], curves.mean().prob)
    np.testing.assert_allclose(weighted.top1_share[0], twice.top1_share)
    assert weighted.embedding_log_prob.shape == (2,)


def test_mean_keeps_tiny_probabilities() -> None:
    """A log-probability far below what float64 can exponentiate survives the mean."""
    curves = TargetCurves(
        log_prob=np.array([[-2000.0], [-2000.0]]), embedding_log_prob=np.zeros(2), top1_share=np.zeros((2, 1))
    )
    assert curves.mean().log_prob.tolist() == [-2000.0]


def test_mean_of_zero_probability_is_zero() -> None:
    """Minus infinity everywhere stays minus infinity, and does not become NaN."""
    assert make_curves(np.zeros((3, 2))).mean().log_prob.tolist() == [-math.inf, -math.inf]


def test_nan_in_one_prompt_makes_the_mean_nan() -> None:
    """A mean over a prompt without a number is no number, in that layer only."""
    curves = make_curves(np.array([[0.5, math.nan], [0.5, 0.5]]))
    assert np.isnan(curves.mean().log_prob).tolist() == [False, True]


@pytest.mark.usefixtures("unchecked_shapes")
class TestRefusals:
    """What cannot be curves is refused in words."""

    def test_no_layer(self) -> None:
        """A curve has at least one layer."""
        with pytest.raises(UsageError, match=r"at least one layer, got shape \[2, 0\]"):
            TargetCurves(log_prob=np.zeros((2, 0)), embedding_log_prob=np.zeros(2), top1_share=np.zeros((2, 0)))

    def test_scalar(self) -> None:
        """A single number is no curve."""
        with pytest.raises(UsageError, match=r"got shape \[\]"):
            TargetCurves(log_prob=np.array(0.0), embedding_log_prob=np.array(0.0), top1_share=np.array(0.0))

    def test_embedding_shape(self) -> None:
        """The embeddings have the axes of the curves, without layers."""
        with pytest.raises(UsageError, match=r"embedding_log_prob of shape \[3\].* expected \[2\]"):
            TargetCurves(log_prob=np.zeros((2, 3)), embedding_log_prob=np.zeros(3), top1_share=np.zeros((2, 3)))

    def test_top1_shape(self) -> None:
        """The share of top tokens has the axes of the curves."""
        with pytest.raises(UsageError, match=r"top1_share of shape \[3\].* expected \[2, 3\]"):
            TargetCurves(log_prob=np.zeros((2, 3)), embedding_log_prob=np.zeros(2), top1_share=np.zeros(3))

    @pytest.mark.parametrize("name", ["log_prob", "embedding_log_prob"])
    def test_probabilities_for_log_probabilities(self, name: str) -> None:
        """Probabilities given where logarithms are due are refused, with the remedy."""
        arrays = {"log_prob": np.full((1, 2), -1.0), "embedding_log_prob": np.full(1, -1.0)}
        arrays[name] = np.full_like(arrays[name], 0.7)
        with pytest.raises(UsageError, match=rf"needs {name} as natural log-probabilities.*0\.7\. Take np\.log"):
            TargetCurves(**arrays, top1_share=np.zeros((1, 2)))

    def test_mean_of_one_curve(self) -> None:
        """A mean needs a prompt axis."""
        with pytest.raises(
            UsageError, match=r"TargetCurves.mean needs curves of shape \[prompt, layer\].*got shape \[2\]"
        ):
            make_curves(np.array([0.1, 0.2])).mean()

    def test_mean_of_no_prompt(self) -> None:
        """A mean needs at least one prompt."""
        with pytest.raises(UsageError, match=r"at least one prompt, got shape \[0, 2\]"):
            make_curves(np.zeros((0, 2))).mean()

    def test_weights_of_another_length(self) -> None:
        """Each prompt has one weight."""
        with pytest.raises(UsageError, match=r"over 2 prompts need shape \[\*resample, 2\], got \[3\]"):
            make_curves(np.full((2, 2), 0.1)).mean(np.ones(3))

    @pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [math.nan, 1.0]])
    def test_weights_that_make_no_mean(self, weights: list[float]) -> None:
        """Weights are at least 0, and not all 0."""
        with pytest.raises(UsageError, match="must be at least 0 and must not all be 0"):
            make_curves(np.full((2, 2), 0.1)).mean(np.array(weights))
