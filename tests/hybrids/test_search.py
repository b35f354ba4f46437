"""Searches over placements, against objectives that are known by construction and against enumeration."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from layertracer.hybrids._placing.pairs import choose_by_pairs, score_pairs
from layertracer.hybrids._placing.search import (
    best_of,
    exchange,
    grow,
    largest,
    score_singles,
    search_exactly,
    shrink,
    with_layer,
    without,
)

from tests.hybrids.planted_objectives import Counting, additive, both_needed, covering

LOSSES = [0.3, 0.1, 0.9, 0.0, 0.5, 0.2, 0.8, 0.4, 0.05, 0.6]
LAYERS = tuple(range(len(LOSSES)))


def enumerated(objective: Counting, layers: tuple[int, ...], size: int) -> tuple[int, ...]:
    """The best placement, by asking for every one."""
    return min(combinations(layers, size), key=lambda kept: (float(objective([kept])[0]), kept))


class TestAdditive:
    """Layers that add up."""

    @pytest.mark.parametrize("size", range(len(LOSSES) + 1))
    def test_every_search_keeps_the_layers_that_are_worth_most(self, size: Any) -> None:
        """Where layers add up, all searches name the same layers, of every size."""
        expected = tuple(sorted(sorted(LAYERS, key=lambda layer: -LOSSES[layer])[:size]))
        objective = additive(LOSSES)
        singles = score_singles(objective, LAYERS)
        assert largest(singles.removed, LAYERS, size) == expected
        assert largest(-singles.restored, LAYERS, size) == expected
        assert grow(objective, LAYERS, size).kept[size] == expected
        assert shrink(objective, LAYERS, size).kept[size] == expected
        assert search_exactly(objective, LAYERS, size) == expected
        assert choose_by_pairs(score_pairs(objective, singles), size) == expected
        assert exchange(objective, LAYERS[:size], LAYERS) == expected

    def test_singles_are_what_one_layer_is_worth(self) -> None:
        """Removed: that layer's loss. Restored: all losses less that layer's."""
        singles = score_singles(additive(LOSSES), LAYERS)
        np.testing.assert_allclose(singles.removed, LOSSES)
        np.testing.assert_allclose(singles.restored, sum(LOSSES) - np.array(LOSSES))
        assert singles.none_kept == pytest.approx(sum(LOSSES))

    def test_a_path_goes_through_every_size(self) -> None:
        """Growing holds sizes 0 to the largest, shrinking all layers to the smallest, each with its own objective."""
        objective = additive(LOSSES)
        up, down = grow(objective, LAYERS, 4), shrink(objective, LAYERS, 7)
        assert sorted(up.kept) == [0, 1, 2, 3, 4]
        assert sorted(down.kept) == [7, 8, 9, 10]
        for path in (up, down):
            for size, kept in path.kept.items():
                assert len(kept) == size
                assert path.objective[size] == pytest.approx(float(objective([kept])[0]))


class TestTwoLayersThatCarryRecall:
    """A planted pair."""

    @pytest.mark.parametrize(("first", "second"), [(0, 1), (3, 7), (8, 9)])
    @pytest.mark.parametrize("size", [2, 4])
    def test_they_are_found_from_the_full_end(self, first: Any, second: Any, size: Any) -> None:
        """Two layers of which neither helps alone are kept by singles, pairs, shrinking, exchange and enumeration."""
        objective = both_needed(first, second, n_layers=10)
        singles = score_singles(objective, LAYERS)
        found = [
            largest(singles.removed, LAYERS, size),
            shrink(objective, LAYERS, size).kept[size],
            search_exactly(objective, LAYERS, size),
            choose_by_pairs(score_pairs(objective, singles), size),
        ]
        assert all({first, second} <= set(kept) for kept in found)

    def test_both_ends_are_needed(self) -> None:
        """From none kept, growing sees neither of the two, and the better of both ends is the one from the full one."""
        objective = both_needed(3, 7, n_layers=10)
        up, down = grow(objective, LAYERS, 2), shrink(objective, LAYERS, 2)
        assert not {3, 7} <= set(up.kept[2])
        assert best_of(objective, [up.kept[2], down.kept[2]]) == (3, 7)

    def test_the_interaction_is_what_two_lose_together_less_what_each_loses_alone(self) -> None:
        """Two layers that are needed together: each costs 1, both cost 1, so that they interact by −1."""
        objective = both_needed(3, 7, n_layers=10)
        pairs = score_pairs(objective, score_singles(objective, LAYERS))
        assert pairs.interaction[3, 7] == pytest.approx(-1.0)
        np.testing.assert_allclose(pairs.interaction, pairs.interaction.T)
        np.testing.assert_allclose(np.diag(pairs.interaction), 0.0)
        others = pairs.interaction.copy()
        others[3, 7] = others[7, 3] = 0.0
        np.testing.assert_allclose(others, 0.0, atol=1e-12)


class TestLazySteps:
    """Greedy steps that do not measure every candidate."""

    @pytest.mark.parametrize("seed", range(6))
    def test_where_layers_stand_in_for_one_another_laziness_changes_nothing(self, seed: Any) -> None:
        """On coverings, the lazy search names what measuring every candidate names, and asks for less."""
        lazy, full = covering(16, n_skills=40, seed=seed), covering(16, n_skills=40, seed=seed)
        layers = tuple(range(16))
        for walk, end in ((grow, 8), (shrink, 4)):
            assert walk(lazy, layers, end) == walk(full, layers, end, at_once=16)
        assert len(lazy.asked) < len(full.asked)

    def test_ties_go_to_the_lowest_layers(self) -> None:
        """Where all placements are equally good, all that is found is determined."""
        flat = Counting(lambda _: 1.0)
        assert grow(flat, LAYERS, 3).kept[3] == (0, 1, 2)
        assert search_exactly(flat, LAYERS, 3) == (0, 1, 2)
        assert largest(np.ones(10), LAYERS, 3) == (0, 1, 2)
        assert exchange(flat, (4, 5, 6), LAYERS) == (4, 5, 6)
        assert best_of(flat, [(5, 6), (1, 2)]) == (1, 2)


class TestExchange:
    """Swaps at the end."""

    def test_it_repairs_a_greedy_choice(self) -> None:
        """A layer that is best alone and no part of the best pair is taken out again."""
        worth = {(0,): 0.5, (1,): 0.6, (2,): 0.6, (0, 1): 0.4, (0, 2): 0.4, (1, 2): 0.0}
        objective = Counting(lambda kept: worth.get(kept, 1.0))
        greedy = grow(objective, (0, 1, 2), 2, at_once=3).kept[2]
        assert greedy == (0, 1)
        assert exchange(objective, greedy, (0, 1, 2)) == (1, 2)

    @pytest.mark.parametrize("seed", range(5))
    def test_no_swap_lowers_the_objective_of_what_it_returns(self, seed: Any) -> None:
        """Where all swaps are tried, the result is a local optimum, and no worse than its start."""
        generator = np.random.default_rng(seed)
        table = {kept: generator.random() for kept in combinations(range(8), 3)}
        start = (0, 1, 2)
        found = exchange(Counting(lambda kept: table.get(kept, 2.0)), start, tuple(range(8)))
        assert table[found] <= table[start]
        swaps = [with_layer(without(found, out), new) for out in found for new in range(8) if new not in found]
        assert all(table[found] <= table[swap] for swap in swaps)

    def test_of_many_swaps_the_most_promising_are_tried(self) -> None:
        """Where there are more than may be tried, additive layers still end at the best placement."""
        objective = additive(LOSSES)
        assert exchange(objective, LAYERS[:5], LAYERS, most_swaps=3) == enumerated(objective, LAYERS, 5)

    def test_all_or_no_layers_have_no_swap(self) -> None:
        """Keeping all, or none, stays."""
        objective = additive(LOSSES)
        assert exchange(objective, LAYERS, LAYERS) == LAYERS
        assert exchange(objective, (), LAYERS) == ()


class TestExact:
    """Enumeration."""

    @pytest.mark.parametrize("seed", range(3))
    def test_it_is_the_enumerated_best(self, seed: Any) -> None:
        """Of 210 placements in several calls, the best is found."""
        generator = np.random.default_rng(seed)
        table = {kept: generator.random() for kept in combinations(LAYERS, 4)}
        objective = Counting(table.__getitem__)
        assert search_exactly(objective, LAYERS, 4) == enumerated(objective, LAYERS, 4)

    def test_layers_need_not_be_all_of_the_model(self) -> None:
        """Placeable layers with gaps between them are searched alike."""
        layers = (1, 4, 5, 9)
        objective = Counting(lambda kept: -float(sum(kept)))
        assert search_exactly(objective, layers, 2) == (5, 9)
        assert grow(objective, layers, 2).kept[2] == (5, 9)
        assert shrink(objective, layers, 2).kept[2] == (5, 9)
