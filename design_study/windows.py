"""Placements inside the running model, nothing trained: what a search advises, among all placements of its size."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

import layertracer as lt

from design_study.inside import Inside, draw_rows, load_inside
from design_study.plan import HELD_OUT_SEED, OTHER_SIZES, PARENTS, SEARCH_SEED, all_placements, show_placement
from design_study.ranks import Placement, rank_of
from design_study.scores import choose_greedily, choose_largest, read_joint_js, removed, restored, uniform

MODELS = (*PARENTS, *OTHER_SIZES)
WINDOWS = (8,)
SIZES = (2, 3, 4)
SEARCHED_ROWS = 48
JUDGED_ROWS = 64


def place_windows(name: str, window: int) -> pd.DataFrame:
    """What each search advises for a miniature, and its rank among all placements on rows that no search saw.

    Args:
        name: An attention miniature.
        window: Tokens that a layer which is not kept sees.

    Returns:
        A row a search and size: `chosen`, its `rank` of `n`, `kl_nats`, and the best and the median of all.
    """
    model = load_inside(name)
    searched, judged = (
        Inside(model, lt.Window(window), draw_rows(seed, n_rows, n_seen=window))
        for seed, n_rows in ((SEARCH_SEED, SEARCHED_ROWS), (HELD_OUT_SEED, JUDGED_ROWS))
    )
    rows = []
    for size in SIZES:
        placements = all_placements(size)
        result = dict(zip(placements, map(float, judged(placements)), strict=True))
        values = pd.Series(result)
        for search, chosen in _search(name, searched, size):
            row = {"chosen": show_placement(chosen), "rank": rank_of(chosen, result), "n": len(result)}
            found = {"kl_nats": result[chosen], "best_kl_nats": values.min(), "median_kl_nats": values.median()}
            rows.append({"model": name, "window": window, "n_kept": size, "search": search} | row | found)
    return pd.DataFrame(rows)


def _search(name: str, inside: Inside, size: int) -> Iterator[tuple[str, Placement]]:
    """Each search with the placement that it advises."""
    placements = all_placements(size)
    yield "all measured", placements[int(inside(placements).argmin())]
    yield "greedy", choose_greedily(inside, size)
    yield "removed", choose_largest(removed(inside), size)
    yield "restored", choose_largest(restored(inside), size)
    yield "joint JS", choose_largest(read_joint_js(name), size)
    yield "uniform", uniform(inside.layers, size)
