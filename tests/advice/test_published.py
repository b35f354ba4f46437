"""Published placements beside advised ones, against enumeration and by hand."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from layertracer.advice import compare_with_published, holm, hypergeometric_tail, published_for, published_placements


class TestLists:
    """What ships."""

    def test_every_list_is_one_of_its_model(self) -> None:
        """118 lists; their layers are distinct, ascending, and within the model."""
        lists = published_placements()
        assert len(lists) == 118
        for one in lists:
            assert list(one.layers) == sorted(set(one.layers))
            assert 0 <= one.layers[0] <= one.layers[-1] < one.n_layers
            assert one.source

    @pytest.mark.parametrize("name", ["Qwen/Qwen3-4B", "/models/Qwen3-4B/", "qwen3_4b", "models--Qwen--Qwen3-4B"])
    def test_a_model_is_known_by_its_own_name(self, name: Any) -> None:
        """By an id, a folder, other spellings; not by another number of layers."""
        assert {one.source[:5] for one in published_for(name, 36)} == {"arXiv"}
        assert not published_for(name, 28)

    @pytest.mark.parametrize("name", ["Qwen3-4B-Instruct", "Qwen3", "4B", "", "smollm2"])
    def test_other_models_have_none(self, name: Any) -> None:
        """A name that only begins or ends alike is another model."""
        assert not published_for(name, 36)


class TestOverlap:
    """An advised placement beside them."""

    @pytest.mark.parametrize("overlap", range(5))
    def test_the_hypergeometric_tail_is_the_share_of_all_sets(self, overlap: Any) -> None:
        """Counted over all 126 sets of 4 of 9."""
        fixed = {0, 2, 3, 7, 8}
        counted = sum(len(fixed & set(one)) >= overlap for one in combinations(range(9), 4)) / 126
        assert hypergeometric_tail(overlap, n=9, first=5, second=4) == pytest.approx(counted)

    def test_an_advised_placement_is_compared_with_lists_of_its_size_alone(self) -> None:
        """Of Qwen2.5-3B-Instruct's lists, those of nine layers; the list itself overlaps fully."""
        uniform = tuple(range(0, 36, 4))
        found = compare_with_published(uniform, model="Qwen/Qwen2.5-3B-Instruct", n_layers=36, placeable=range(36))
        assert found
        assert {len(one.layers) for one in found} == {9}
        own = [one for one in found if one.layers == uniform]
        assert own
        assert own[0].overlap == 9
        assert own[0].expected == pytest.approx(81 / 36)
        assert own[0].p_spaced == pytest.approx(9 / 36)
        assert all(one.p <= one.p_holm <= 1 for one in found)

    def test_lists_with_layers_that_cannot_be_placed_are_left_out(self) -> None:
        """What could not have been chosen is no list to compare with."""
        found = compare_with_published((1, 2, 3), model="Qwen2.5-3B-Instruct", n_layers=36, placeable=range(1, 36))
        assert all(0 not in one.layers for one in found)

    def test_holm_by_hand(self) -> None:
        """Sorted p times 4, 3, 2, 1, never falling, at most 1."""
        assert holm([0.01, 0.9, 0.02, 0.4]) == pytest.approx([0.04, 0.9, 0.06, 0.8])
        assert holm([]) == ()
