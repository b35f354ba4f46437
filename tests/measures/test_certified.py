"""Certified stopping: races of means and confidence sequences, held against plain loops, enumeration and simulation."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest

from layertracer._errors import UsageError
from layertracer.measures import Rounds, bound_mean, certify, race_means
from layertracer.measures._certified.race import _Bettors

LEVEL = 0.95


def plain_race(rows: list[list[float]], level: float) -> list[int | None]:
    """The race written anew, option by option and round by round, with the standard library alone."""
    options = range(len(rows[0]))
    capital, out = [1.0 for _ in options], [None for _ in options]
    for index, row in enumerate(rows):
        left = [one for one in options if out[one] is None]
        if len(left) == 1:
            break
        before = rows[:index]
        order = sorted(left, key=lambda one: (-sum(past[one] for past in before), one))
        for one in left:
            rival = order[0] if one != order[0] else order[1]
            leads = [past[rival] - past[one] for past in before]
            mean = sum(leads) / (index + 1)
            spread = index * statistics.pvariance(leads) if leads else 0.0
            variance = (0.05 + spread) / (index + 1)
            bet = min(max(mean / (variance + mean**2), 0.0), 0.9)
            capital[one] *= 1 + bet * (row[rival] - row[one])
        best = min(left, key=lambda one: (-sum(past[one] for past in rows[: index + 1]), one))
        for one in left:
            if one != best and capital[one] >= 2 / (1 - level):
                out[one] = index + 1
    return out


@pytest.mark.parametrize("seed", range(6))
def test_a_race_is_what_a_plain_loop_makes_of_it(seed: int) -> None:
    """Options are out after the same rounds as in an implementation that shares no code."""
    generator = np.random.default_rng(seed)
    means = generator.uniform(0.05, 0.6, size=5)
    rows = np.clip(means + 0.1 * generator.standard_normal((60, 5)) + 0.1 * generator.standard_normal((60, 1)), 0, 1)
    assert list(race_means(rows, level=LEVEL).out_after) == plain_race(rows.tolist(), LEVEL)


def test_no_bet_gains_on_average_against_the_best() -> None:
    """Over all sequences of outcomes with equal means the mean capital of every bettor is exactly 1."""
    outcomes = np.array([[1.0, 0.0], [0.0, 0.5], [0.0, 0.5], [0.25, 0.25]])
    assert outcomes.mean(axis=0)[0] == outcomes.mean(axis=0)[1]
    capital = []
    for sequence in itertools.product(range(4), repeat=5):
        bettors = _Bettors.of(2, np.ones(2, dtype=bool))
        for outcome in sequence:
            bettors.bet(outcomes[outcome])
        capital.append(np.exp(bettors.log_capital))
    assert np.mean(capital, axis=0) == pytest.approx([1.0, 1.0], abs=1e-12)
    assert np.std(capital) > 0.05


POPULATIONS = {
    "near tie": lambda draw, n: np.clip(
        [0.200, 0.199, 0.1, 0.1] + 0.1 * draw.standard_normal((n, 1)) + 0.05 * draw.standard_normal((n, 4)), 0, 1
    ),
    "rare": lambda draw, n: (draw.random((n, 4)) < [0.031, 0.03, 0.03, 0.03]).astype(float),
    "heavy tails": lambda draw, n: draw.beta(0.05, [0.2, 0.205, 0.205, 0.4], size=(n, 4)),
    "one above": lambda draw, n: np.clip([0.3, 0.15, 0.1, 0.1] + 0.08 * draw.standard_normal((n, 4)), 0, 1),
}


@pytest.mark.parametrize("name", POPULATIONS)
def test_stopping_at_every_round_certifies_a_wrong_layer_in_one_of_twenty_at_most(name: str) -> None:
    """Looked at after every round, the best option is out in no more runs than the level allows."""
    generator = np.random.default_rng(5)
    races = [race_means(POPULATIONS[name](generator, 120), level=LEVEL) for _ in range(100)]
    assert sum(0 not in race.contenders for race in races) <= 5
    if name == "one above":
        assert sum(race.winner == 0 for race in races) >= 95


def test_of_two_equal_layers_none_is_certified() -> None:
    """Options that share the largest mean are told apart in no more runs than the level allows."""
    generator = np.random.default_rng(6)
    tied = [
        np.repeat(generator.random((150, 1)) < 0.5, 2, axis=1) ^ (generator.random((150, 2)) < 0.2) for _ in range(150)
    ]
    assert sum(race_means(one.astype(float), level=LEVEL).winner is not None for one in tied) <= 7


def test_what_is_out_stays_out_and_is_not_needed_any_more() -> None:
    """More rounds bring no option back, and what an option that is out would have done changes nothing."""
    rows = np.clip([0.5, 0.2, 0.45] + 0.1 * np.random.default_rng(1).standard_normal((80, 3)), 0, 1)
    whole = race_means(rows, level=LEVEL)
    assert whole.out_after[1] is not None
    for n_rounds in (10, 20, 40):
        so_far = race_means(rows[:n_rounds], level=LEVEL)
        assert set(whole.contenders) <= set(so_far.contenders)
    cut = rows.copy()
    cut[whole.out_after[1] :, 1] = np.nan
    assert race_means(cut, level=LEVEL) == whole


def test_options_in_another_order_race_alike() -> None:
    """Permuting options permutes when they are out; adding a constant to all changes nothing."""
    rows = np.clip([0.4, 0.2, 0.3] + 0.05 * np.random.default_rng(2).standard_normal((50, 3)), 0, 0.9)
    race, permuted = race_means(rows, level=LEVEL), race_means(rows[:, [2, 0, 1]], level=LEVEL)
    assert permuted.out_after == tuple(race.out_after[one] for one in (2, 0, 1))
    assert race_means(rows + 0.1, level=LEVEL).out_after == race.out_after


def test_options_that_take_no_part_are_no_contenders() -> None:
    """An option that is never observed is neither in the race nor out of it."""
    race = race_means(np.array([[np.nan, 0.2, 0.2]] * 3), level=LEVEL)
    assert race.contenders == (1, 2)
    assert race.out_after == (None, None, None)


def test_an_option_must_be_observed_until_it_is_out() -> None:
    """What is left out while it can still be the best would make the statement worth nothing."""
    rows = np.full((10, 2), 0.3)
    rows[4:, 0] = np.nan
    with pytest.raises(UsageError, match="Option 0 is not observed in round 4"):
        race_means(rows, level=LEVEL)


@pytest.mark.parametrize("wrong", [1.2, -0.1, math.inf])
def test_observations_outside_of_their_bounds_are_refused(wrong: float) -> None:
    """The bets rest on observations in [0, 1]."""
    with pytest.raises(UsageError, match=r"must lie in \[0, 1\]"):
        race_means(np.array([[0.1, wrong]]), level=LEVEL)
    with pytest.raises(UsageError, match=r"must lie in \[0, 1\]"):
        bound_mean(np.array([wrong]), level=LEVEL)


def test_a_confidence_is_a_share() -> None:
    """A confidence of 95 is none."""
    with pytest.raises(UsageError, match="confidence must be between 0 and 1, got 95"):
        race_means(np.array([[0.1, 0.2]]), level=95)


def plain_capital(values: list[float], mean: float, alpha: float) -> float:
    """The largest capital that either bettor against a mean ever has, in plain Python."""
    up = down = largest = 1.0
    total, squares, variance = 0.5, 0.25, 0.25
    for index, value in enumerate(values, start=1):
        bet = math.sqrt(2 * math.log(2 / alpha) / (variance * index * math.log(1 + index)))
        up *= 1 + min(bet, 0.5 / mean) * (value - mean)
        down *= 1 - min(bet, 0.5 / (1 - mean)) * (value - mean)
        largest = max(largest, up / 2, down / 2)
        total += value
        squares += (value - total / (index + 1)) ** 2
        variance = squares / (index + 1)
    return largest


def test_the_interval_is_where_neither_bettor_gets_rich() -> None:
    """Just outside of it, to a cell of a thousandth, a plain loop's capital reaches 1 / alpha; inside it does not."""
    values = np.random.default_rng(3).beta(2, 5, size=80)
    low, high = bound_mean(values, level=LEVEL)
    assert [plain_capital(values.tolist(), mean, 0.05) >= 20 for mean in (low, low + 0.001, high - 0.001, high)] == [
        *(True, False, False, True)
    ]


def test_the_interval_holds_at_all_rounds_at_once() -> None:
    """The mean is outside at any round in no more runs than the level allows; it only ever narrows."""
    generator = np.random.default_rng(4)
    outside = 0
    for _ in range(150):
        values = generator.beta(0.3, 1.2, size=100)
        low, high = bound_mean(values, level=LEVEL)
        outside += not low <= 0.2 <= high
        early = bound_mean(values[:30], level=LEVEL)
        assert early[0] <= low <= high <= early[1]
    assert outside <= 8


def test_the_interval_costs_more_than_one_look_and_is_mirrored() -> None:
    """Holding at every round takes a wider interval than a single look; 1 − x has the mirror image."""
    flips = (np.random.default_rng(8).random(200) < 0.5).astype(float)
    low, high = bound_mean(flips, level=LEVEL)
    assert high - low > 2 * 1.96 * flips.std() / math.sqrt(200)
    assert bound_mean(1 - flips, level=LEVEL) == pytest.approx((1 - high, 1 - low))
    assert bound_mean(flips[:0], level=LEVEL) == (0.0, 1.0)
    assert bound_mean(flips, level=0.8)[0] >= low


def test_a_certificate_counts_what_was_measured() -> None:
    """Cells are draws times rounds of each layer; the whole trace has those of all prompts and layers with the site."""
    dropped = tuple([0.1] * 20)
    rounds = Rounds(
        js_bits=(tuple([0.6] * 24), dropped, ()),
        particles=(1, None) * 12,
        order=tuple(range(24)),
        n_prompts=40,
    )
    found = certify(rounds, confidence=LEVEL, ending="certified", n_draws=5, budget=None, n_whole=20)
    assert (found.layer, found.contenders) == (0, (0,))
    assert (found.n_cells, found.n_total) == (5 * 44, 5 * 2 * 40)
    assert found.rounds_by_layer == (24, 20, 0)
    assert found.mean_js_bits[1:] == (pytest.approx(0.1), None)
    assert found.low_js_bits[0] < 0.6 < found.high_js_bits[0]
    assert found.low_js_bits[2] is None
    assert found.particle.layer is None
    assert found.particle.contenders == (1, None)
    assert found.particle.share_low[0] == 0 < found.particle.share_low[1] < 0.5 < found.particle.share_high[1]
