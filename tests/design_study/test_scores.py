"""Scores out of the running model, beside windows by masks of Transformers' own attention."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import pandas as pd
import pytest
import torch

import layertracer as lt

from design_study.findings import choose, choose_repeated, collect_findings
from design_study.inside import Inside, draw_rows, find_determined, load_inside
from design_study.plan import N_TOKENS, PARENTS, SEARCH_SEED, all_placements, show_placement
from design_study.recall import ask_recall, take_apart
from design_study.results import read_table
from design_study.scores import (
    choose_greedily,
    choose_largest,
    read_joint_js,
    read_js,
    removed,
    restored,
    uniform,
    values_of,
)
from design_study.students import load_trained
from design_study.windows import rank_advised
from tests.design_study.by_masks import divergences
from training import draw_batch
from training.vocabulary import token_ids

WINDOW, N_ROWS = 8, 3


@pytest.fixture(scope="module")
def inside() -> Inside:
    """Windows in the first attention miniature."""
    return Inside(load_inside("attention"), lt.Window(WINDOW), draw_rows(SEARCH_SEED, N_ROWS, n_seen=WINDOW))


def _by_masks(kept: tuple[int, ...]) -> float:
    """KL on determined tokens beyond the window, the plain way."""
    batch = draw_batch(seed=SEARCH_SEED, step=0, n_documents=N_ROWS, n_tokens=N_TOKENS + 1)
    is_read = torch.from_numpy(batch.weights == 1.0)
    is_read[:, :WINDOW] = False
    kl = divergences(load_trained("attention"), torch.from_numpy(batch.ids[:, :-1]), kept, WINDOW)
    return float(kl[is_read].double().mean())


def test_windows_are_those_of_a_mask(inside: Inside) -> None:
    """KL of placements inside the running model is that of Transformers' attention with a narrower mask."""
    asked = [(), (0, 4), (0, 1, 2, 3, 5, 6, 7)]
    assert inside(asked) == pytest.approx([_by_masks(kept) for kept in asked], rel=1e-4)
    assert inside([range(8)])[0] == 0.0


def test_scores_are_differences_of_placements(inside: Inside) -> None:
    """Removed: all but one kept. Restored: none kept less one kept. Both by the plain way, for layer 4."""
    assert removed(inside)[4] == pytest.approx(_by_masks((0, 1, 2, 3, 5, 6, 7)), rel=1e-4)
    assert restored(inside)[4] == pytest.approx(_by_masks(()) - _by_masks((4,)), rel=1e-4)


class _Planted:
    """Costs of placements that are known: 9 less the worth of what is kept."""

    layers = (0, 1, 2, 3)

    def __init__(self, worth: Callable[[frozenset[int]], float]) -> None:
        self._worth = worth

    def __call__(self, placements: Sequence[Collection[int]]) -> np.ndarray:
        return np.array([9 - self._worth(frozenset(kept)) for kept in placements])


def test_greedy_is_the_better_of_both_ends() -> None:
    """Two layers that are worth something together alone are found by taking layers away, not by giving them back."""
    single = {0: 1.0, 1: 0.5, 2: 0.0, 3: 0.0}
    together = _Planted(lambda kept: sum(single[layer] for layer in kept) + 5 * ({2, 3} <= kept))
    assert choose_greedily(together, 2) == (2, 3)
    assert choose_greedily(_Planted(lambda kept: sum(single[layer] for layer in kept)), 2) == (0, 1)
    assert choose_greedily(together, 0) == ()


def test_choices_by_hand() -> None:
    """The largest values, of equal ones the lowest layers; the last layer of each block."""
    assert choose_largest(np.array([0.0, 3.0, 1.0, 3.0, 3.0]), 2) == (1, 3)
    assert (uniform(tuple(range(8)), 2), uniform(tuple(range(8)), 3)) == ((3, 7), (1, 4, 7))


def test_rows_are_read_beyond_the_window() -> None:
    """Only positions that the window changes, and only where the next token is determined unless asked otherwise."""
    batch = draw_batch(seed=SEARCH_SEED, step=0, n_documents=2, n_tokens=N_TOKENS + 1)
    rows, every = (draw_rows(SEARCH_SEED, 2, n_seen=WINDOW, determined=one) for one in (True, False))
    assert [row.read for row in every] == [tuple(range(WINDOW, N_TOKENS))] * 2
    for row, ids, weights in zip(rows, batch.ids, batch.weights, strict=True):
        assert row.ids == tuple(ids[:-1])
        assert row.read == tuple(at for at in range(WINDOW, N_TOKENS) if weights[at] == 1.0)


def test_determined_positions_are_those_that_are_read() -> None:
    """Of all positions that are read, row by row, those marked are the ones read where the next token is determined."""
    every, rows = (draw_rows(SEARCH_SEED, 3, n_seen=WINDOW, determined=one) for one in (False, True))
    marked = find_determined(SEARCH_SEED, 3, n_seen=WINDOW)
    places = [(row.ids, at) for row in every for at in row.read]
    assert [place for place, mark in zip(places, marked, strict=True) if mark] == [
        (row.ids, at) for row in rows for at in row.read
    ]


def test_advised_placements_are_ranked() -> None:
    """Among all that were measured, by the quantity asked for."""
    kept = ["0+1", "0+2", "1+2"]
    measured = pd.DataFrame({"kept": kept, "kl_nats": [0.3, 0.1, 0.2], "kl_all_nats": [0.1, 0.2, 0.3], "search": ""})
    windows = pd.concat([measured, pd.DataFrame({"kept": ["1+2"], "search": ["greedy"]})]).assign(model="m", n_kept=2)
    advice = pd.DataFrame({"kept": ["0+2"], "search": ["design"], "model": ["m"], "n_kept": [2]})
    by_search = rank_advised(windows, advice).set_index("search")
    assert by_search["rank"].to_dict() == {"design": 1, "greedy": 2}
    assert by_search.loc["greedy", ["n", "value", "best", "median"]].tolist() == [3, 0.2, 0.1, 0.2]
    assert rank_advised(windows, advice, "kl_all_nats").set_index("search")["rank"].to_dict() == {
        "design": 2,
        "greedy": 3,
    }


def test_joint_divergence_is_a_sum_of_shares() -> None:
    """Each site's JS divided by its largest, added: between 0 and 2, and the sites' own."""
    joint = read_joint_js("attention")
    sites = [
        read_js("attention", site, ("antonym", "synonym", "present-past", "singular-plural"))
        for site in ("mixer_output", "state")
    ]
    assert joint == pytest.approx(sites[0] / sites[0].max() + sites[1] / sites[1].max())
    assert joint.shape == (8,)


def test_placement_has_the_sum_of_its_layers() -> None:
    """Scores of layers are added over those kept; a score of placements is taken as it is; ties go to the first."""
    layers = pd.DataFrame({"kind": "layer", "kept": list("01234567"), "value": [1.0, 0, 4, 0, 0, 0, 0, 1]})
    assert values_of(layers, 3)[0, 2, 7] == 6.0
    assert choose(layers, 2) == (0, 2)
    own = pd.DataFrame(
        {"kind": "placement", "kept": [show_placement(kept) for kept in all_placements(2)], "value": range(28)}
    )
    assert choose(own, 2) == (6, 7)
    named = pd.DataFrame({"kind": "choice", "kept": ["0+4", "0+1+4"], "value": np.nan})
    assert choose(named, 3) == (0, 1, 4)


def test_findings_of_a_planted_result() -> None:
    """Trained results that are minus a score's sums correlate perfectly, rank 1; an incomplete parent is left out."""
    worth = np.arange(8) ** 2.0
    scores = pd.DataFrame({"kept": list("01234567"), "value": worth}).assign(
        parent="attention", score="removed", window=8, kind="layer"
    )
    students = pd.DataFrame(
        [
            {
                "parent": parent,
                "n_kept": 2,
                "kept": show_placement(kept),
                "seed": 0,
                "kl_nats": 200 - worth[list(kept)].sum(),
            }
            for parent in PARENTS[:2]
            for kept in all_placements(2)[: 28 if parent == PARENTS[0] else 27]
        ]
    ).assign(aligned_kl_nats=1.0, recall=0.5)
    alignment = pd.DataFrame({"parent": "attention", "seed": 0, "layer": range(8), "missed_share": worth[::-1]})
    found = collect_findings(students, scores, alignment).set_index("score")
    assert set(found["parent"]) == {"attention"}
    planted = found.loc["removed"]
    assert (planted["chosen"], planted["rank"], planted["correlation"]) == ("6+7", 1, pytest.approx(1.0))
    assert planted["p"] < 1e-3
    assert planted["recall_rank"] == 1
    assert found.loc["missed by the aligned mixer", "correlation"] < -0.8
    assert np.isnan(found.loc["aligned, not distilled", "correlation"])


def test_repeated_placements_are_distinct() -> None:
    """Those that scores advise, uniform and random ones, none twice."""
    repeated = choose_repeated(read_table("scores"))
    assert len(repeated) == len(set(repeated)) >= 6
    assert uniform(tuple(range(8)), 2) in repeated


def test_questions_are_recall() -> None:
    """The answer stands as far back as is said, and the model knows it."""
    for row, answer, distance in ask_recall(20):
        assert row.ids[row.read[0] - distance] == answer
        assert row.read == (len(row.ids) - 1,)
    assert set(token_ids().values()) >= {answer for _, answer, _ in ask_recall(20)}


def test_hybrid_is_taken_apart() -> None:
    """Each layer alone and all of a kind; without any mixer of a kind it recalls less than as it is."""
    found = take_apart("hybrid", n_questions=12, n_rows=1)
    removed_ones = found[found["substitute"] == "no mixer"]
    assert removed_ones["layers"].tolist() == [*map(str, range(8)), "0+1+2+4+5+6", "3+7"]
    assert set(found.loc[found["substitute"] != "no mixer", "layers"]) == {"3", "7", "3+7"}
    without = removed_ones.set_index("layers")
    assert without.loc["3+7", "mixer"] == "attention"
    assert without.loc["3+7", "recall"] < without.loc["3+7", "full_recall"]
