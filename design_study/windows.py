"""Placements inside the running model, nothing trained: what searches advise, among all placements of a size."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

import layertracer as lt

from design_study.inside import Inside, draw_rows, find_determined, load_inside
from design_study.plan import (
    HELD_OUT_SEED,
    N_TOKENS,
    OTHER_SIZES,
    PARENTS,
    SEARCH_SEED,
    all_placements,
    read_placement,
    show_placement,
)
from design_study.ranks import Placement, rank_of
from design_study.scores import choose_greedily, choose_largest, read_joint_js, removed, restored, uniform
from training import draw_batch

MODELS = (*PARENTS, *OTHER_SIZES)
WINDOW = 8
SIZES = (2, 3, 4)
SEARCHED_ROWS, JUDGED_ROWS = 48, 64
MEASURED = ""
"""Stands in place of a search's name with placements that were only measured."""
DESIGN = "design"
DESIGN_ROWS = {"search": 24, "compared": 24, "held_out": 24, "tokens": N_TOKENS}


def place_windows(name: str) -> pd.DataFrame:
    """All placements of some sizes on rows that no search saw, and what searches advise.

    Args:
        name: An attention miniature, whose layers that are not kept see a window.

    Returns:
        Rows of two kinds: each placement with its KL on determined and on all tokens, and each search with the
        placement that it advises.
    """
    model, window = load_inside(name), lt.Window(WINDOW)
    searched = Inside(model, window, draw_rows(SEARCH_SEED, SEARCHED_ROWS, n_seen=WINDOW))
    judged = Inside(model, window, draw_rows(HELD_OUT_SEED, JUDGED_ROWS, n_seen=WINDOW, determined=False))
    is_determined = find_determined(HELD_OUT_SEED, JUDGED_ROWS, n_seen=WINDOW)
    rows: list[dict[str, object]] = []
    for size in SIZES:
        placements = all_placements(size)
        for kept, kl in zip(placements, judged.by_token(placements), strict=True):
            means = {"kl_nats": float(kl[is_determined].mean()), "kl_all_nats": float(kl.mean())}
            rows.append({"n_kept": size, "search": MEASURED, "kept": show_placement(kept)} | means)
        for search, kept in _search(name, searched, size):
            rows.append({"n_kept": size, "search": search, "kept": show_placement(kept)})
    return pd.DataFrame(rows).assign(model=name)


def advise(name: str) -> pd.DataFrame:
    """What `layertracer.design` advises by default from text and the task recall, by the same window.

    Args:
        name: An attention miniature.

    Returns:
        A row a size: the placement, and where `design` itself sees it among all placements of the size, on rows that
        its search did not see.
    """
    documents = draw_batch(seed=SEARCH_SEED, step=0, n_documents=64, n_tokens=N_TOKENS).ids
    advice = lt.design(
        load_inside(name),
        ("recall",),
        text=[tuple(map(int, ids)) for ids in documents],
        keep=SIZES,
        substitute=lt.Window(WINDOW),
        ratio=False,
        divisions=False,
        gates=False,
        against=None,
        rows=DESIGN_ROWS,
    )
    rows = []
    for size, one in advice.placements.items():
        interval = one.percentile_interval
        found = {"percentile": one.percentile, "n_compared": one.n_random, "verdict": one.verdict}
        ends = {} if interval is None else {"low": interval.low, "high": interval.high}
        rows.append({"n_kept": size, "kept": show_placement(one.layers)} | found | ends)
    return pd.DataFrame(rows).assign(model=name, search=DESIGN)


def rank_advised(windows: pd.DataFrame, advice: pd.DataFrame, quantity: str = "kl_nats") -> pd.DataFrame:
    """The rank of what each search advises among all placements of its size.

    Args:
        windows: The tables of `place_windows`.
        advice: The tables of `advise`.
        quantity: By what placements are ranked: KL on determined tokens, or on all ("kl_all_nats").

    Returns:
        A row a model, size and search: `kept`, `rank` of `n`, its KL (`value`), and the `best` and the `median` of all.
    """
    measured = windows[windows["search"] == MEASURED]
    results = {
        key: {read_placement(kept): value for kept, value in zip(rows["kept"], rows[quantity], strict=True)}
        for key, rows in measured.groupby(["model", "n_kept"], sort=False)
    }
    rows = []
    for row in pd.concat([advice, windows[windows["search"] != MEASURED]]).to_dict("records"):
        result = results[row["model"], row["n_kept"]]
        kept, values = read_placement(row["kept"]), pd.Series(list(result.values()))
        found = {"rank": rank_of(kept, result), "n": len(result), "value": result[kept]}
        named = {name: row[name] for name in ("model", "n_kept", "search", "kept")}
        rows.append(named | found | {"best": values.min(), "median": values.median()})
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
