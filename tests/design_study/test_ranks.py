"""Rank correlations over placements, beside values by hand."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest

from layertracer.measures import average_ranks

from design_study.ranks import correlate, mean_p, rank_of, ranks_p, spearman

N_LAYERS = 5
PAIRS = list(combinations(range(N_LAYERS), 2))


def _sums(worth: list[float]) -> dict[tuple[int, ...], float]:
    return {kept: sum(worth[layer] for layer in kept) for kept in PAIRS}


def test_ties_share_their_mean_rank() -> None:
    """Ranks begin at 1; the second and third of four equal ones are both 2.5."""
    assert average_ranks(np.array([3.0, 1.0, 2.0, 2.0])).tolist() == [4.0, 1.0, 2.5, 2.5]


def test_correlation_is_that_of_the_textbook() -> None:
    """Without ties, 1 - 6 Σd² / (n (n² - 1)): here d = (0, 1, 1, 0, 0)."""
    assert spearman([1, 2, 3, 4, 5], [10, 30, 20, 40, 50]) == pytest.approx(1 - 6 * 2 / (5 * 24))
    assert spearman([1, 2, 3], [9, 4, 1]) == pytest.approx(-1)
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_score_that_is_the_result_correlates_perfectly() -> None:
    """The correlation is 1, and so are both ends of its interval."""
    result = _sums([1.0, 2.0, 4.0, 8.0, 16.0])
    found = correlate(result, result, n_layers=N_LAYERS)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    assert len(found.null) == 120


def test_p_counts_numberings() -> None:
    """P is the share of numberings of the layers under which the correlation is as large, counted one by one."""
    score, result = _sums([0.0, 3.0, 1.0, 2.0, 7.0]), _sums([1.0, 2.0, 4.0, 8.0, 15.0])
    observed = spearman([score[kept] for kept in PAIRS], [result[kept] for kept in PAIRS])
    counted = []
    for numbering in permutations(range(N_LAYERS)):
        moved = [score[tuple(sorted(numbering[layer] for layer in kept))] for kept in PAIRS]
        counted.append(spearman(moved, [result[kept] for kept in PAIRS]) >= observed - 1e-12)
    assert correlate(score, result, n_layers=N_LAYERS).p == pytest.approx(np.mean(counted))


def test_p_of_several_models() -> None:
    """For one model, p of the mean is p; for two that both correlate it is smaller."""
    one = correlate(_sums([0.0, 3.0, 1.0, 2.0, 7.0]), _sums([1.0, 2.0, 4.0, 8.0, 15.0]), n_layers=N_LAYERS)
    assert mean_p([one]) == pytest.approx(one.p, abs=0.005)
    assert mean_p([one, one]) < one.p


def test_chosen_placement_has_a_rank() -> None:
    """1 is the best; two blind ranks out of 2 add up to at most 3 in three of four cases."""
    result = {(0, 1): 0.5, (0, 2): 0.1, (1, 2): 0.9}
    assert [rank_of(kept, result) for kept in result] == [2, 1, 3]
    assert ranks_p([1, 2], 2) == pytest.approx(3 / 4)


def test_placements_that_are_missing_are_noticed() -> None:
    """Numbers of layers can be exchanged only where all placements of the size are there."""
    score = {kept: float(kept[0]) for kept in PAIRS[:-1]}
    with pytest.raises(AssertionError, match="not all placements"):
        correlate(score, score, n_layers=N_LAYERS)
