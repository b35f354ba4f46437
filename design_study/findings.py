"""What the scores foretold, beside what training gave."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from layertracer.measures import holm

from design_study.plan import PARENTS, all_placements, read_placement, show_placement
from design_study.ranks import Correlation, Placement, correlate, mean_p, rank_of, ranks_p
from design_study.scores import SIZES, values_of
from design_study.windows import DESIGN, WINDOW
from training.families import N_LAYERS

ALL_PARENTS = "all"
"""Stands for all parents whose placements are all trained."""
_FIRST_SEED = 0
_N_RANDOM = 4

REPEATED = (
    ("removed", 8),
    ("joint JS, word pairs", 0),
    ("greedy", 8),
    ("pairs removed", 8),
    ("restored", 8),
    ("uniform", 0),
    ("JS at block_output, word pairs", 0),
)
"""Scores whose first choices are trained from several seeds, with their windows."""


def collect_findings(
    students: pd.DataFrame, scores: pd.DataFrame, alignment: pd.DataFrame, sizes: Sequence[int] = SIZES
) -> pd.DataFrame:
    """Correlation and first choice of every score, for each parent and size of which all placements are trained.

    Args:
        students: What was trained, see `trained.collect_students`.
        scores: The scores, see `scores.score_parent`.
        alignment: What aligned mixers miss, see `trained.collect_alignment`.
        sizes: Numbers of layers that are kept.

    Returns:
        A row a parent, size, score and window; and one for all parents of a size together, where there are several.
    """
    rows: list[dict[str, object]] = []
    for size in sizes:
        parents = [parent for parent in PARENTS if is_complete(students, parent, size)]
        complete = {parent: read_results(students, parent, size) for parent in parents}
        every = _add_scores(scores, students, alignment)
        scores_of_complete = every[every["parent"].isin(complete)]
        for key, of_score in scores_of_complete.groupby(["score", "window"], sort=False):
            named = {"n_kept": size, "score": key[0], "window": key[1]}
            rows += [row | _rank_recall(students, row) for row in _compare(of_score, complete, named)]
    found = pd.DataFrame(rows)
    return found if found.empty else _adjust(found)


def is_complete(students: pd.DataFrame, parent: str, size: int) -> bool:
    """Whether all placements of a size are trained from the first seed."""
    return len(read_results(students, parent, size)) == len(all_placements(size))


def read_results(
    students: pd.DataFrame, parent: str, size: int, quantity: str = "kl_nats"
) -> Mapping[Placement, float]:
    """Held-out KL, or another quantity, of the students of a parent, from the first seed, by placement."""
    chosen = students[(students["parent"] == parent) & (students["n_kept"] == size) & (students["seed"] == _FIRST_SEED)]
    return {read_placement(kept): value for kept, value in zip(chosen["kept"], chosen[quantity], strict=True)}


def choose(rows: pd.DataFrame, size: int) -> Placement:
    """The placement of a size that a score names: its highest, of equal ones the first.

    Args:
        rows: The rows of one score of one parent by one window.
        size: How many layers are kept.
    """
    if rows["kind"].iloc[0] == "choice":
        named = [read_placement(kept) for kept in rows["kept"]]
        return next(kept for kept in named if len(kept) == size)
    values = values_of(rows, size)
    return max(values, key=lambda kept: (values[kept], [-layer for layer in kept]))


def choose_repeated(scores: pd.DataFrame) -> tuple[Placement, ...]:
    """Placements of two layers of the first parent that are trained from several seeds.

    They are those that scores advise, uniform ones, the most vulnerable ones, and four others at random.
    """
    of_parent = scores[scores["parent"] == PARENTS[0]]
    named = []
    for score, window in REPEATED:
        named.append(choose(of_parent[(of_parent["score"] == score) & (of_parent["window"] == window)], 2))
    others = [kept for kept in all_placements(2) if kept not in named]
    return tuple(dict.fromkeys((*named, *random.Random("repeated").sample(others, _N_RANDOM))))


def as_choices(advice: pd.DataFrame) -> pd.DataFrame:
    """What `layertracer.design` advises for the parents, as a score that only names placements."""
    of_parents = advice[advice["model"].isin(PARENTS) & advice["n_kept"].isin(SIZES)]
    named = of_parents.assign(parent=of_parents["model"], score=DESIGN, window=WINDOW, kind="choice", value=np.nan)
    return named[["score", "kind", "kept", "value", "window", "parent"]]


def _add_scores(scores: pd.DataFrame, students: pd.DataFrame, alignment: pd.DataFrame) -> pd.DataFrame:
    """The scores, and what the first stage says: what mixers miss, and what students do before they are distilled."""
    aligned = students[students["seed"] == _FIRST_SEED].assign(
        score="aligned, not distilled", window=0, kind="placement", value=-students["aligned_kl_nats"]
    )
    missed = alignment[alignment["seed"] == _FIRST_SEED].assign(
        score="missed by the aligned mixer", window=0, kind="layer"
    )
    missed = missed.assign(kept=missed["layer"].astype(str), value=missed["missed_share"])
    return pd.concat([scores, aligned[scores.columns], missed[scores.columns]], ignore_index=True)


def _compare(
    of_score: pd.DataFrame, results: Mapping[str, Mapping[Placement, float]], shared: dict[str, object]
) -> Iterator[dict[str, object]]:
    """One score beside the results of each parent, and of all of them."""
    size = int(str(shared["n_kept"]))
    correlations: list[Correlation] = []
    ranks = []
    for parent, result in results.items():
        rows = of_score[of_score["parent"] == parent]
        row = shared | _describe_choice(choose(rows, size), result) | {"parent": parent}
        ranks.append(int(str(row["rank"])))
        if rows["kind"].iloc[0] != "choice":
            worse = {kept: -value for kept, value in result.items()}
            correlations.append(correlate(values_of(rows, size), worse, n_layers=N_LAYERS))
            last = correlations[-1]
            row |= {"correlation": last.value, "low": last.low, "high": last.high, "p": last.p}
        yield row
    if len(results) > 1:
        pooled: dict[str, object] = {"parent": ALL_PARENTS, "rank": float(np.mean(ranks))}
        pooled["rank_p"] = ranks_p(ranks, len(all_placements(size)))
        if correlations:
            pooled |= {"correlation": float(np.mean([one.value for one in correlations])), "p": mean_p(correlations)}
        yield shared | pooled


def _describe_choice(chosen: Placement, result: Mapping[Placement, float]) -> dict[str, object]:
    """What a first choice is worth among all placements."""
    values = np.array(list(result.values()))
    return {
        "chosen": show_placement(chosen),
        "rank": rank_of(chosen, result),
        "kl_nats": result[chosen],
        "best_kl_nats": float(values.min()),
        "median_kl_nats": float(np.median(values)),
    }


def _rank_recall(students: pd.DataFrame, row: dict[str, object]) -> dict[str, object]:
    """What a first choice is worth by recall, which need not agree with KL; nothing of all parents together."""
    if "chosen" not in row:
        return {}
    parent, size, kept = str(row["parent"]), int(str(row["n_kept"])), read_placement(str(row["chosen"]))
    recall = read_results(students, parent, size, "recall")
    missed = {one: -value for one, value in recall.items()}
    return {"recall": recall[kept], "recall_rank": rank_of(kept, missed)}


def _adjust(found: pd.DataFrame) -> pd.DataFrame:
    """Adds p of the correlations by Holm over all scores, by parent and size."""
    found["p_holm"] = np.nan
    for _, group in found.dropna(subset=["p"]).groupby(["parent", "n_kept"]):
        found.loc[group.index, "p_holm"] = holm(group["p"].tolist())
    return found
