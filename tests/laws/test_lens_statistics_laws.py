"""Laws of what is kept of a readout, on generated logits, against float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._distributions.readout_statistics import LensStatistics, measure_lens

D_VOCABS = [1, 2, 7, 15, 16, 17, 101, 1024, 1025, 5000, 49_157]


def _random(d_vocab: int, n_rows: int, *, scale: float = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(d_vocab)
    logits = scale * torch.randn(n_rows, d_vocab, generator=generator)
    return logits, torch.randint(0, d_vocab, (n_rows,), generator=generator)


def _assert_equal(one: LensStatistics, other: LensStatistics) -> None:
    for name in LensStatistics.__slots__:
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("d_vocab", D_VOCABS)
def test_statistics_follow_their_definitions(d_vocab: int, dtype: torch.dtype) -> None:
    """Log-probability, rank, entropy and top tokens are those of float64, within float32's rounding."""
    logits, targets = _random(d_vocab, 4)
    logits = logits.to(dtype)
    got = measure_lens(logits, targets, n_top=5)
    log_probs = torch.log_softmax(logits.double(), dim=-1).numpy()
    own = np.take_along_axis(log_probs, targets[:, None].numpy(), axis=-1)
    order = np.argsort(-log_probs, axis=-1, kind="stable")[:, :5]
    np.testing.assert_allclose(got.log_prob.numpy(), own[:, 0], rtol=2e-7, atol=1e-6)
    lower = np.arange(d_vocab) < targets[:, None].numpy()
    np.testing.assert_array_equal(got.rank.numpy(), 1 + ((log_probs > own) | (lower & (log_probs == own))).sum(axis=-1))
    entropy = -(np.exp(log_probs) * log_probs).sum(axis=-1) / math.log(2)
    np.testing.assert_allclose(got.entropy_bits.numpy(), entropy, rtol=4e-7, atol=1e-6)
    np.testing.assert_array_equal(got.top_ids.numpy(), order)
    top = np.take_along_axis(log_probs, order, axis=-1)
    np.testing.assert_allclose(got.top_log_prob.numpy(), top, rtol=2e-7, atol=1e-6)


@given(st.lists(st.sampled_from([-math.inf, -3.0, -0.0, 0.0, 1.0, 2.5, 88.0]), min_size=1, max_size=120), st.data())
def test_of_equal_logits_the_lowest_id_comes_first(logits: list[float], data: st.DataObject) -> None:
    """Top tokens and the target's rank are those of a stable sort, however many logits are equal."""
    finite = [*logits, 1.0]
    target = data.draw(st.integers(0, len(logits)))
    got = measure_lens(torch.tensor(finite), torch.tensor(target), n_top=5)
    in_order = sorted(range(len(finite)), key=lambda i: -finite[i])
    assert got.top_ids.tolist() == in_order[:5]
    assert int(got.rank) == 1 + in_order.index(target)


def test_a_tie_at_the_top_has_one_first_token() -> None:
    """In bfloat16 two tokens share the top logit: only the lower id, which argmax takes, has rank 1."""
    logits = torch.full((2, 300), -4.0, dtype=torch.bfloat16)
    logits[:, [40, 200]] = 7.0
    got = measure_lens(logits, torch.tensor([40, 200]), n_top=2)
    assert got.rank.tolist() == [1, 2]
    assert got.top_ids.tolist() == [[40, 200]] * 2
    assert int(logits[0].argmax()) == 40


@given(st.integers(1, 3), st.integers(2, 60), st.integers(1, 4), st.integers(0, 2**31))
def test_several_targets_are_summed(n_rows: int, d_vocab: int, n_others: int, seed: int) -> None:
    """The probability of any of several tokens is the sum of theirs, their rank the best; −1 is no token."""
    random = np.random.default_rng(seed)
    logits = np.round(random.normal(scale=3, size=(n_rows, d_vocab)))  # with ties
    several = [
        random.choice(d_vocab, size=random.integers(1, min(n_others + 1, d_vocab) + 1), replace=False).tolist()
        for _ in range(n_rows)
    ]
    padded = [row + [-1] * (n_others + 1 - len(row)) for row in several]
    got = measure_lens(
        torch.tensor(logits),
        torch.tensor([row[0] for row in padded]),
        n_top=3,
        others=torch.tensor([row[1:] for row in padded]),
    )
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    order = np.argsort(-logits, axis=-1, kind="stable")
    for row, tokens in enumerate(several):
        np.testing.assert_allclose(np.exp(float(got.log_prob[row])), probs[row, tokens].sum(), rtol=1e-5)
        assert int(got.rank[row]) == 1 + min(order[row].tolist().index(token) for token in tokens)


def test_no_further_target_changes_nothing() -> None:
    """A row whose others are all −1 has to the last bit the statistics of its target alone."""
    logits, targets = _random(5000, 6)
    none = torch.full((6, 2), -1)
    _assert_equal(measure_lens(logits, targets, n_top=5, others=none), measure_lens(logits, targets, n_top=5))


@given(st.integers(1, 3000), st.integers(1, 400))
def test_a_row_is_the_same_among_others(d_vocab: int, n_rows: int) -> None:
    """However many rows go together, each has to the last bit the statistics that it has alone."""
    logits, targets = _random(d_vocab, n_rows)
    together, log_probs = measure_lens(logits, targets, n_top=5), log_probs_of(logits)
    for row in {0, n_rows // 2, n_rows - 1}:
        alone = measure_lens(logits[row], targets[row], n_top=5)
        _assert_equal(alone, LensStatistics(**{name: getattr(together, name)[row] for name in alone.__slots__}))
        assert torch.equal(log_probs_of(logits[row]), log_probs[row])


def test_leading_axes_are_kept() -> None:
    """Statistics begin with the axes of the targets, in blocks of any shape."""
    logits, targets = _random(20_000, 30)
    flat = measure_lens(logits, targets, n_top=3)
    grid = measure_lens(logits.unflatten(0, (2, 5, 3)), targets.unflatten(0, (2, 5, 3)), n_top=3)
    _assert_equal(grid, LensStatistics.joined([flat], (2, 5, 3)))


def test_certainty_has_no_entropy() -> None:
    """One token that takes all, and logits 1e4 or minus infinity below it: 0 bits, log-probability 0, rank 1."""
    got = measure_lens(torch.tensor([[0.0, 1e4, -math.inf], [-1e4, 3.0, -math.inf]]), torch.tensor([1, 1]), n_top=2)
    assert got.entropy_bits.tolist() == pytest.approx([0, 0], abs=1e-15)
    assert got.log_prob.tolist() == [0, 0]
    assert got.rank.tolist() == [1, 1]
    impossible = measure_lens(torch.tensor([0.0, 1.0, -math.inf]), torch.tensor(2), n_top=3)
    assert float(impossible.log_prob) == -math.inf
    assert int(impossible.rank) == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("d_vocab", [3, 300])
def test_what_is_no_number_stays_none(bad: float, d_vocab: int) -> None:
    """NaN or +∞ among the logits gives NaN for the row's log-probabilities and entropy, and to that row alone."""
    logits = torch.zeros(3, d_vocab)
    logits[1, d_vocab // 2] = bad
    got = measure_lens(logits, torch.zeros(3, dtype=torch.long), n_top=2)
    assert got.log_prob.isnan().tolist() == [False, True, False]
    assert got.entropy_bits.isnan().tolist() == [False, True, False]
    assert got.top_log_prob.isnan().tolist() == [[False] * 2, [True] * 2, [False] * 2]
    assert bool((got.top_ids < d_vocab).all())


def test_log_probabilities_of_a_large_vocabulary_add_up() -> None:
    """Over 300,000 tokens log-probabilities are those of float64, within float32's rounding of each."""
    logits, _ = _random(300_007, 2)
    expected = torch.log_softmax(logits.double(), dim=-1)
    assert float((log_probs_of(logits) - expected).abs().max()) < 5e-6
