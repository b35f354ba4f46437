"""Percentiles among random placements, against hand-made numbers and against simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from layertracer.hybrids._placing.ratio import find_knee, knee_with_interval
from layertracer.hybrids._placing.row_kl import RowKL, combine_kinds
from layertracer.hybrids._placing.standing import find_standing, percentile_of


def rows_of(text: Any, recall: Any = None) -> RowKL:
    """Rows of KL, [row, placement]."""
    return RowKL(
        by_kind={"text": np.asarray(text, float)} | ({} if recall is None else {"recall": np.asarray(recall, float)})
    )


class TestObjective:
    """What placements are compared by."""

    def test_text_and_tasks_count_alike(self) -> None:
        """The mean of text plus the mean over tasks, however many rows each has; one alone where there is but one."""
        text, first, second = np.array([[1.0], [3.0]]), np.array([[0.2]] * 5), np.array([[0.6]] * 3)
        assert RowKL(by_kind={"text": text, "a": first, "b": second}).objective()[0] == pytest.approx(2.0 + 0.4)
        assert combine_kinds({"text": np.array([0.5])})[0] == 0.5
        assert combine_kinds({"a": np.array([0.5]), "b": np.array([0.1])})[0] == pytest.approx(0.3)

    def test_resamples_are_paired_and_of_the_rows(self) -> None:
        """A placement that is everywhere 0.1 above another one is so in every resample; means stay within the rows."""
        first = np.random.default_rng(0).random((12, 1))
        rows = rows_of(np.hstack([first, first + 0.1]))
        found = rows.resampled(n_resamples=200, seed=1)
        np.testing.assert_allclose(found[:, 1] - found[:, 0], 0.1)
        assert first.min() <= found[:, 0].min() < found[:, 0].max() <= first.max()


class TestStanding:
    """A placement among others."""

    def test_a_placement_below_all_others_on_all_rows_is_better(self) -> None:
        """Percentile 0, and an interval whose upper end is Wilson's: 200 others do not make it 0."""
        generator = np.random.default_rng(0)
        others = 0.5 + 0.1 * generator.random((10, 200))
        found = find_standing(rows_of(others[:, :1] - 0.3), rows_of(others), are_all=False, seed=0)
        assert (found.percentile, found.verdict, found.n_others) == (0.0, "better", 200)
        assert found.interval.low == 0.0
        assert found.interval.high == pytest.approx(1.88, abs=0.05)
        assert found.below_best_nats == pytest.approx(0.3, abs=0.1)
        assert found.below_best_interval.low > 0

    def test_a_placement_above_all_is_worse(self) -> None:
        """The other end."""
        others = np.random.default_rng(0).random((10, 50))
        found = find_standing(rows_of(np.full((10, 1), 2.0)), rows_of(others), are_all=True, seed=0)
        assert (found.percentile, found.verdict) == (100.0, "worse")
        # The best of the others was picked on these rows: an interval would make too sure of it.
        assert found.below_best_nats < 0
        assert found.below_best_interval is None

    def test_one_row_that_decides_is_no_evidence(self) -> None:
        """Lower than all others by one row of ten alone, and higher on the rest: undecided."""
        generator = np.random.default_rng(1)
        others = 1.0 + 0.02 * generator.standard_normal((10, 100))
        own = np.full((10, 1), 1.05)
        own[0] = 0.2
        found = find_standing(rows_of(own), rows_of(others), are_all=False, seed=0)
        assert found.percentile == 0.0
        assert found.verdict == "undecided"
        assert found.below_best_interval.low < 0

    def test_few_rows_say_nothing(self) -> None:
        """Below five rows of any kind there is a percentile, and neither an interval nor a verdict."""
        own, others = rows_of(np.zeros((9, 1)), np.zeros((4, 1))), rows_of(np.ones((9, 20)), np.ones((4, 20)))
        found = find_standing(own, others, are_all=False, seed=0)
        assert (found.percentile, found.interval, found.verdict) == (0.0, None, "undecided")
        assert found.below_best_interval is None

    def test_a_placement_in_the_middle_is_seldom_called_better(self) -> None:
        """In 100 worlds where it is the median one, noise makes it "better" or "worse" in fewer than 5."""
        calls = 0
        for seed in range(100):
            generator = np.random.default_rng(seed)
            true = np.linspace(0.8, 1.2, 60)
            others = true + 0.1 * generator.standard_normal((8, 60)) + 0.3 * generator.standard_normal((8, 1))
            own = 1.0 + 0.1 * generator.standard_normal((8, 1))
            calls += find_standing(rows_of(own), rows_of(others), are_all=False, seed=seed).verdict != "undecided"
        assert calls < 5

    def test_ties_count_by_half(self) -> None:
        """Equal ones are neither below nor above."""
        assert percentile_of(np.array([1.0, 1.0]), 1.0) == 50.0
        assert percentile_of(np.array([0.0, 2.0]), 1.0) == 50.0


class TestKnee:
    """Where a curve stops falling."""

    def test_a_curve_that_falls_and_then_stays_has_its_knee_where_it_stops_falling(self) -> None:
        """By construction: worth 1 for each of the first three layers, nothing after."""
        sizes = list(range(9))
        curve = np.array([3.0, 2.0, 1.0, 0, 0, 0, 0, 0, 0])
        assert find_knee(sizes, curve) == 3

    @pytest.mark.parametrize(
        "curve", [[4.0, 3, 2, 1, 0], [1.0, 1, 1, 1, 1], [0.0, 1, 2, 3, 4], [4.0, 3.9, 3.5, 2.5, 0]]
    )
    def test_a_line_a_constant_a_rise_and_a_late_fall_have_none(self, curve: Any) -> None:
        """None is an answer."""
        assert find_knee([0, 1, 2, 3, 4], np.array(curve)) is None

    def test_its_interval_is_over_rows(self) -> None:
        """Rows that agree give a sharp knee, rows that do not a wide one, and few rows none."""
        falls_at = np.array([2, 2, 2, 2, 2, 2, 2, 2])
        curves = np.maximum(0.0, 1.0 - np.arange(9)[None, :] / falls_at[:, None])
        knee, interval, note = knee_with_interval(list(range(9)), rows_of(curves), seed=0)
        assert (knee, interval.low, interval.high, note) == (2, 2.0, 2.0, "")
        falls_at = np.array([1, 1, 1, 1, 5, 5, 5, 5])
        curves = np.maximum(0.0, 1.0 - np.arange(9)[None, :] / falls_at[:, None])
        wide = knee_with_interval(list(range(9)), rows_of(curves), seed=0)[1]
        assert wide.high > wide.low
        knee, interval, note = knee_with_interval(list(range(9)), rows_of(curves[:3]), seed=0)
        assert interval is None
        assert "too few" in note
