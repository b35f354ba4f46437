"""Intervals of shares, against published examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer import UsageError
from layertracer.measures import paired_change, wilson


@pytest.mark.parametrize(
    ("n_solved", "n", "low", "high"),
    # Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_is_the_published_one(n_solved: int, n: int, low: float, high: float) -> None:
    """Wilson's intervals of published examples, to the four digits printed."""
    interval = wilson(n_solved, n)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def pairs_of(both: int, gained: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts solved by the placed and by the full model, from the four counts."""
    cells = [(True, True)] * both + [(True, False)] * gained + [(False, True)] * lost + [(False, False)] * neither
    placed, full = zip(*cells, strict=True)
    return np.array(placed), np.array(full)


@pytest.mark.parametrize(
    ("cells", "low", "high"),
    # Newcombe (1998), "Improved confidence intervals for the difference between binomial proportions based on paired
    # data", table II, method 10.
    [((36, 12, 2, 0), 0.0569, 0.3404), ((0, 30, 0, 0), 0.8395, 1.0)],
)
def test_paired_change_is_the_published_one(cells: tuple[int, int, int, int], low: float, high: float) -> None:
    """Newcombe's intervals of published paired examples, to the four digits printed."""
    change, interval = paired_change(*pairs_of(*cells))
    assert change == pytest.approx((cells[1] - cells[2]) / sum(cells))
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@given(cells=st.tuples(*[st.integers(0, 30)] * 4).filter(lambda cells: sum(cells) > 0))
def test_paired_change_turns_over(cells: tuple[int, int, int, int]) -> None:
    """It holds the change, lies within [−1, 1], and turns over where the two are exchanged."""
    placed, full = pairs_of(*cells)
    change, interval = paired_change(placed, full)
    back, turned = paired_change(full, placed)
    assert -1.0 <= interval.low <= change <= interval.high <= 1.0
    assert back == -change
    assert (turned.low, turned.high) == (pytest.approx(-interval.high), pytest.approx(-interval.low))


@given(n=st.integers(0, 200), data=st.data(), level=st.floats(0.5, 0.99))
def test_wilson_holds_the_share(n: int, data: st.DataObject, level: float) -> None:
    """It lies within [0, 1], holds the share, turns over with what is counted, and grows with the level."""
    n_found = data.draw(st.integers(0, n))
    interval, turned, wide = wilson(n_found, n, level), wilson(n - n_found, n, level), wilson(n_found, n, 0.995)
    assert 0.0 <= interval.low <= (n_found / n if n else 0.5) <= interval.high <= 1.0
    assert (turned.low, turned.high) == (pytest.approx(1 - interval.high), pytest.approx(1 - interval.low))
    assert wide.low <= interval.low <= interval.high <= wide.high


def test_wilson_solves_its_equation() -> None:
    """The ends are where the share is z standard errors of theirs away, for another level than 95 % too."""
    z = 1.6448536269514722  # of the normal distribution, for 90 %
    interval = wilson(7, 40, 0.9)
    for end in (interval.low, interval.high):
        assert abs(7 / 40 - end) == pytest.approx(z * np.sqrt(end * (1 - end) / 40))


@pytest.mark.parametrize(("n_found", "n", "level"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)])
def test_wilson_refuses(n_found: int, n: int, level: float) -> None:
    """More found than there are, or a level that is none, is refused."""
    with pytest.raises(UsageError, match="0 <= n_found <= n and a level"):
        wilson(n_found, n, level)
