"""Designs on planted measurements: what carries recall is found by every search, and said with how sure it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from layertracer import SiteError, UsageError
from layertracer.advice import Judgement, Search, published_for
from layertracer.hybrids._design import Design, DesignMeans, Found
from layertracer.hybrids._design_options import DesignOptions, ModelFacts, check_keep, default_keep
from layertracer.hybrids._judging.rows import Rows, RowSet, TaskRows
from layertracer.hybrids._measuring.joint_trace import JointTrace, no_trace
from layertracer.hybrids._measuring.kept_measures import KeptMeasures
from layertracer.runs import Checkpoints
from layertracer.tracing import JudgedRow

from tests.hybrids.planted_substituter import PlantedSubstituter

N_LAYERS = 12
CARRIERS = (3, 7)


def rows_of(kind: int, n: int, *, first: int) -> tuple[JudgedRow, ...]:
    """Rows of a kind, no two alike."""
    return tuple(JudgedRow(ids=(kind, first + index, *range(40)), read=tuple(range(20, 40))) for index in range(n))


def row_set(n: int, *, first: int) -> RowSet:
    """As many passages as prompts of recall."""
    recall = TaskRows(name="recall", rows=rows_of(1, n, first=first + 50), prompts=tuple(range(n)))
    return RowSet(text=rows_of(0, n, first=first), tasks=(recall,))


def some_rows(n_held_out: int = 12) -> Rows:
    """Text and recall, for the search and to judge."""
    return Rows(search=row_set(3, first=0), held_out=row_set(n_held_out, first=200))


def carried_by_two(kept: tuple[int, ...], kind: str) -> float:
    """Recall needs both carriers; text loses a little with every layer, more with layers 4 and 9."""
    gone = [layer for layer in range(N_LAYERS) if layer not in kept]
    if kind == "text":
        return sum(0.02 + 0.02 * (layer == 4) + 0.01 * (layer == 9) for layer in gone)
    return 0.01 * len(gone) + 1.0 * (not set(CARRIERS) <= set(kept))


def judged(placements: Sequence[tuple[int, ...]]) -> list[Judgement]:
    """A judge that has nothing to say."""
    nothing: dict[str, Any] = {"kl_interval": None, "nll_interval": None, "accuracy": {}}
    return [
        Judgement(kept=kept, kl_nats=1.0, nll_change=0.0, n_rows=1, n_positions=1, **nothing) for kept in placements
    ]


def run(options: DesignOptions, *, rows: Rows | None = None, noise: float = 0.05, cost: Any = carried_by_two) -> Found:
    """A design on planted measurements; the trace names the carriers too."""
    joint = np.zeros(N_LAYERS)
    joint[list(CARRIERS)] = 2.0
    trace = JointTrace(js_bits=np.linspace(0.0, 1.0, N_LAYERS), joint=joint, particle=5, site="mixer_output")
    measures = KeptMeasures(PlantedSubstituter(N_LAYERS, cost, noise=noise), Checkpoints(None, {}, noun="design"))
    means = DesignMeans(measures=measures, trace=lambda: trace, judge=judged, tell=lambda _: None)
    facts = ModelFacts(name="planted", n_layers=N_LAYERS)
    return Design(facts, rows or some_rows(), replace(options, n_compared=8), means=means).run()


def run_named(name: str, n_layers: int, size: int, worth: Mapping[int, float]) -> Found:
    """A design of a model of some name, whose layers are worth what is said and else next to nothing."""

    def cost(kept: tuple[int, ...], _: str) -> float:
        return sum(worth.get(layer, 0.01) for layer in range(n_layers) if layer not in kept)

    measures = KeptMeasures(PlantedSubstituter(n_layers, cost), Checkpoints(None, {}, noun="design"))
    trace = no_trace(n_layers)
    means = DesignMeans(measures=measures, trace=lambda: trace, judge=judged, tell=lambda _: None)
    options = DesignOptions(keep=(size,), n_random=50, wants_ratio=False)
    return Design(ModelFacts(name=name, n_layers=n_layers), some_rows(), options, means=means).run()


class TestCarriers:
    """Two layers that carry recall."""

    @pytest.mark.parametrize("search", ["greedy", "singles", "joint_js", "pairs", "exact"])
    def test_every_search_keeps_them(self, search: Search) -> None:
        """At every size from two on."""
        found = run(DesignOptions(keep=(2, 3, 5), search=search))
        for size, placement in found.placements.items():
            assert len(placement.layers) == size
            assert set(CARRIERS) <= set(placement.layers)

    def test_the_advised_placement_is_better_than_random_ones(self) -> None:
        """Percentile near 0 with an interval, and the verdict says so; so do the baselines' percentiles."""
        placement = run(DesignOptions(keep=(3,))).placements[3]
        assert placement.percentile < 1.0
        assert placement.percentile_interval.high < 5.0
        assert placement.verdict == "better"
        assert placement.n_random in (199, 200)

    def test_baselines_stand_beside_it(self) -> None:
        """Uniform, random, most vulnerable and around the particle, each measured on the same rows."""
        found = run(DesignOptions(keep=(4,)))
        named = found.baselines[4]
        assert set(named) == {"uniform", "random", "most_vulnerable", "around_particle"}
        assert named["most_vulnerable"].placements == ((8, 9, 10, 11),)
        assert named["around_particle"].placements == ((3, 4, 5, 6),)
        assert len(named["random"].placements) == 200
        for baseline in named.values():
            assert len(baseline.objective) == len(baseline.placements) == len(baseline.kl_nats)
            assert found.placements[4].objective <= baseline.objective.min() + 1e-9

    def test_the_objective_is_text_plus_recall(self) -> None:
        """By hand, without noise: three layers kept, nine gone, carriers and one of the two that text needs."""
        placement = run(DesignOptions(keep=(3,)), noise=0.0).placements[3]
        assert placement.layers == (3, 4, 7)
        assert placement.objective == pytest.approx(9 * 0.02 + 0.01 + 9 * 0.01)

    def test_singles_say_both_directions(self) -> None:
        """Each carrier, removed, costs recall; restored alone, neither brings it back: the directions disagree."""
        singles = run(DesignOptions(keep=(3,)), noise=0.0).singles
        np.testing.assert_allclose(singles.removed_kl_nats["recall"][list(CARRIERS)], 1.01)
        np.testing.assert_allclose(np.delete(singles.removed_kl_nats["recall"], CARRIERS), 0.01)
        np.testing.assert_allclose(singles.restored_kl_nats["recall"], 1.11)
        assert singles.all_kl_nats["recall"] == pytest.approx(1.12)
        assert singles.removed_accuracy["recall"].tolist() == [
            float(layer not in CARRIERS) for layer in range(N_LAYERS)
        ]

    def test_the_ratio_has_its_knee_where_both_are_kept(self) -> None:
        """Below two layers recall is lost, above them little is gained."""
        ratio = run(DesignOptions(keep=(3,))).ratio
        assert ratio.n_kept == (0, 1, 2, 3, 4, 6, 8, 12)
        assert ratio.knee == 2
        assert (ratio.knee_interval.low, ratio.knee_interval.high) == (2.0, 2.0)


class TestPublished:
    """Lists of others, of the same model and size."""

    def test_they_stand_beside_the_advised_placement(self) -> None:
        """Named like the model, with its overlap; a baseline of its own, measured on the same rows."""
        (published,) = published_for("Qwen/Qwen3-1.7B", 28)
        worth = dict.fromkeys(published.layers[1:], 0.2) | {1: 0.3}
        found = run_named("Qwen/Qwen3-1.7B", 28, len(published.layers), worth)
        size = len(published.layers)
        assert found.placements[size].layers == tuple(sorted(worth))
        (match,) = found.published[size]
        assert (match.overlap, match.layers) == (size - 1, published.layers)
        assert match.expected == pytest.approx(size**2 / 28)
        assert match.p == pytest.approx((math.comb(7, 6) * 21 + 1) / math.comb(28, 7))
        assert found.baselines[size]["published"].placements == (published.layers,)
        assert found.baselines[size]["published"].percentile < 1.0

    def test_another_model_and_another_size_have_none(self) -> None:
        """Neither a match nor a baseline."""
        worth = {1: 0.3, 2: 0.2}
        for name, size in (("Qwen/Qwen3-1.7B-Base", 7), ("Qwen/Qwen3-1.7B", 2)):
            found = run_named(name, 28, size, worth)
            assert found.published[size] == ()
            assert "published" not in found.baselines[size]


class TestHonesty:
    """What is not known is not claimed."""

    def test_where_all_placements_are_alike_it_is_undecided(self) -> None:
        """Every layer costs the same: the advised placement is in the middle."""
        found = run(DesignOptions(keep=(4,)), cost=lambda kept, _: 0.1 * (N_LAYERS - len(kept)))
        assert found.placements[4].verdict == "undecided"
        assert found.placements[4].percentile == pytest.approx(50.0)

    def test_few_rows_make_it_undecided(self) -> None:
        """Four rows of each kind: a percentile, no interval, and a note."""
        placement = run(DesignOptions(keep=(3,)), rows=some_rows(4)).placements[3]
        assert placement.percentile < 1.0
        assert placement.percentile_interval is None
        assert placement.verdict == "undecided"
        assert "too few" in placement.notes[-1]

    def test_equal_questions_have_equal_answers(self) -> None:
        """Same seed, same numbers; the seed moves the random placements."""
        first, again, other = (run(DesignOptions(keep=(4,), seed=seed)) for seed in (0, 0, 1))
        assert first.placements == again.placements
        assert first.baselines[4]["random"].placements == again.baselines[4]["random"].placements
        assert first.baselines[4]["random"].placements != other.baselines[4]["random"].placements


class TestAsked:
    """What makes no sense is refused before anything runs."""

    @pytest.mark.parametrize("keep", [(0,), (12,), (4, 13), (-1,)])
    def test_a_number_out_of_range_is_refused(self, keep: tuple[int, ...]) -> None:
        """With the range, and an example."""
        with pytest.raises(UsageError, match=r"must be from 1 to 11.*keep=\(3,\)"):
            check_keep(keep, tuple(range(12)), n_layers=12, name="planted", search="greedy")

    def test_no_number_is_refused(self) -> None:
        """keep=() asks for nothing."""
        with pytest.raises(UsageError, match="keep is empty"):
            check_keep((), tuple(range(12)), n_layers=12, name="planted", search="greedy")

    def test_one_placeable_layer_leaves_nothing_to_choose(self) -> None:
        """A model of which one layer can be substituted has one placement."""
        with pytest.raises(SiteError, match="nothing to choose"):
            check_keep((1,), (5,), n_layers=12, name="planted", search="greedy")

    def test_an_exact_search_of_millions_is_refused(self) -> None:
        """Before it runs, with what would do."""
        with pytest.raises(UsageError, match=r"5,852,925 placements.*greedy"):
            check_keep((8,), tuple(range(30)), n_layers=30, name="planted", search="exact")

    def test_numbers_are_sorted_and_each_once(self) -> None:
        """As asked for, whatever the order; a quarter where nothing is asked."""
        assert check_keep((8, 4, 8), tuple(range(30)), n_layers=30, name="planted", search="greedy") == (4, 8)
        assert default_keep(tuple(range(30))) == (8,)
        assert default_keep((1, 2)) == (1,)
