"""What the page says of students, and of the scores beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from design_study.findings import ALL_PARENTS, choose_repeated, is_complete
from design_study.plan import PARENTS, all_placements, show_placement
from design_study.ranks import spearman
from design_study.scores import WINDOWS, uniform
from design_study.windows import DESIGN, WINDOW
from study.tables import number, share, table
from training.families import N_LAYERS

_LEVEL = 0.05
_BEST = 3


def describe_students(students: pd.DataFrame) -> str:
    """The trained placements of two layers: the best ones, the median and the worst, uniform ones."""
    rows = []
    for parent in complete_parents(students, 2):
        chosen = _first_seed(students, parent, 2)
        ranked = chosen.sort_values("kl_nats").to_dict("records")
        (spaced,) = (one for one in ranked if one["kept"] == show_placement(uniform(tuple(range(N_LAYERS)), 2)))
        middle = f"{number(float(chosen['kl_nats'].median()))}, {share(float(chosen['recall'].median()))}"
        cells = [*map(_show_student, ranked[:_BEST]), middle, *map(_show_student, (ranked[-1], spaced))]
        rows.append([f"`{parent}`", *cells])
    header = ["parent", "best", "second", "third", "median", "worst", "uniform"]
    text = (
        "Held-out KL to the parent in nats, and the share of recall questions answered rightly, of all "
        f"{len(all_placements(2))} placements of 2 of 8 layers:"
    )
    picture = "![Held-out KL of every placement of two layers](images/design-students.svg)"
    return f"{text}\n\n{table(header, rows)}\n\n{picture}\n\n{_describe_cost(students)}"


def _show_student(student: Mapping[Any, Any]) -> str:
    return f"{student['kept']}: {number(float(student['kl_nats']))}, {share(float(student['recall']))}"


def _describe_cost(students: pd.DataFrame) -> str:
    spread = students["kl_std_error"] / students["kl_nats"]
    return (
        f"A student took {students['cpu_s'].median():.0f} CPU seconds (median, one thread). The standard error of a KL "
        f"over documents is {share(float(spread.median()))} of it (median)."
    )


def describe_scores(findings: pd.DataFrame) -> str:
    """Rank of the first choice and correlation of every score, placements of two layers."""
    chosen = findings[findings["n_kept"] == 2]
    parents = [parent for parent in PARENTS if parent in set(chosen["parent"])]
    if not parents:
        return "No parent has all of its placements trained yet."
    return table(_score_header(parents), [_score_row(rows, parents) for _, rows in _by_score(chosen)])


def _score_header(parents: list[str]) -> list[str]:
    pooled = ["mean", "p", "p (Holm)"] if len(parents) > 1 else ["p", "p (Holm)"]
    names = ", ".join(f"`{parent}`" for parent in parents)
    return [
        "score",
        "window",
        f"rank of its first choice: {names}",
        "by recall",
        *(f"correlation, `{one}`" for one in parents),
        *pooled,
    ]


def _score_row(rows: pd.DataFrame, parents: list[str]) -> list[str]:
    by_parent = {row["parent"]: row for row in rows.to_dict("records")}
    window = int(rows["window"].iloc[0])
    ranks = "; ".join(f"{by_parent[one]['rank']:.0f} ({by_parent[one]['chosen']})" for one in parents)
    recall = "; ".join(f"{by_parent[one]['recall_rank']:.0f}" for one in parents)
    cells = [recall, *(_show_correlation(by_parent[one]) for one in parents)]
    pooled = by_parent[ALL_PARENTS if len(parents) > 1 else parents[0]]
    mean = [number(float(pooled["correlation"]))] if len(parents) > 1 else []
    return [
        str(rows["score"].iloc[0]),
        str(window or ""),
        ranks,
        *cells,
        *mean,
        show_p(pooled["p"]),
        show_p(pooled["p_holm"]),
    ]


def _show_correlation(row: Mapping[Any, Any]) -> str:
    if np.isnan(row["correlation"]):
        return ""
    return f"{number(row['correlation'])} ({number(row['low'])} to {number(row['high'])})"


def show_p(value: float) -> str:
    """A p value; nothing where there is none."""
    if np.isnan(value):
        return ""
    return "< 0.001" if value < 0.001 else number(value, digits=3)


def _by_score(findings: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each score and window, with how they are called."""
    return [(_name(rows.to_dict("records")[0]), rows) for _, rows in findings.groupby(["score", "window"], sort=False)]


def summarise_scores(findings: pd.DataFrame) -> str:
    """Which scores correlate with the trained result beyond chance, and which do not."""
    known = _pooled(findings).dropna(subset=["correlation"])
    if known.empty:
        return "**Which score foretells?** No parent has all of its placements trained yet."
    is_found = known["p_holm"] <= _LEVEL
    n_parents = max(1, findings.loc[findings["parent"] != ALL_PARENTS, "parent"].nunique())
    return (
        f"**Which score foretells?** Correlation with the trained result, mean of {n_parents} parents. Beyond chance "
        f"(p ≤ {_LEVEL} after Holm, {len(known)} scores): {_say(known[is_found], 'correlation', 2)}. Not "
        f"beyond chance: {_say(known[~is_found], 'correlation', 2)}."
    )


def summarise_choices(findings: pd.DataFrame) -> str:
    """How good the placements are that scores name."""
    pooled = _pooled(findings)
    if pooled.empty:
        return "**Whose first choice is good?** Nothing can be said yet."
    by_recall = findings[(findings["n_kept"] == 2) & (findings["parent"] != ALL_PARENTS)]
    recall = by_recall.groupby(["score", "window"], sort=False)["recall_rank"].mean().reset_index()
    n, middle = len(all_placements(2)), (1 + len(all_placements(2))) / 2
    good, bad = pooled[pooled["rank"] <= _BEST], pooled[pooled["rank"] >= middle]
    return (
        f"**Whose first choice is good?** Mean rank of the first choice among the {n} placements as trained, by parent "
        f"in the table. At most {_BEST}: {_say(good, 'rank', 1)}. No better than chance ({middle}): "
        f"{_say(bad, 'rank', 1)}. By the share of recall questions answered instead of KL, at most {_BEST}: "
        f"{_say(recall[recall['recall_rank'] <= _BEST], 'recall_rank', 1)}."
    )


def _say(rows: pd.DataFrame, column: str, digits: int) -> str:
    """Scores with a number each, those of several windows together."""
    said = []
    for score, group in rows.groupby("score", sort=False):
        values = ", ".join(number(float(value), digits=digits) for value in group[column])
        windows = [str(int(window)) for window in group["window"] if window]
        named = "" if not windows else f" (window{'s' * (len(windows) > 1)} {', '.join(windows)})"
        said.append(f"*{score}*{named} {values}")
    return "; ".join(said) or "none"


def summarise_default(findings: pd.DataFrame) -> str:
    """Whether another search than the default one, or other rows to search on, would name better placements."""
    ranks = {
        name: chosen["rank"].astype(int).tolist()
        for name, chosen in _by_score(findings[(findings["n_kept"] == 2) & (findings["parent"] != ALL_PARENTS)])
    }
    if not ranks:
        return "**Is the default right?** Nothing can be said yet."
    default, exact, removed = (ranks[f"{score} (window {WINDOW})"] for score in (DESIGN, "placement itself", "removed"))
    if sum(default) <= min(sum(exact), sum(removed)):
        verdict = "The default names placements that are as good as any of these."
    elif sum(exact) <= sum(removed):
        verdict = "What it is measured on matters here, not how it is searched: the default search stays."
    else:
        verdict = "Removing single layers names better placements than the default."
    others = "; ".join(
        f"window {window}: {_list(ranks[f'placement itself (window {window})'])} and "
        f"{_list(ranks[f'removed (window {window})'])}"
        for window in WINDOWS
        if window != WINDOW
    )
    return (
        f"**Is the default right?** What `design` advises by default with a window of {WINDOW} (of so few placements "
        f"it measures all, on all tokens of text and on recall) has, by parent, ranks {_list(default)} of "
        f"{len(all_placements(2))} as trained. All placements measured on determined tokens instead (*placement "
        f"itself*): {_list(exact)}; single layers removed, on determined tokens: {_list(removed)}. {verdict} The "
        f"same two with other windows, {others}."
    )


def _list(ranks: Sequence[int]) -> str:
    return ", ".join(map(str, ranks))


def describe_repeats(students: pd.DataFrame, scores: pd.DataFrame) -> str:
    """Placements of the first parent that were trained from several seeds."""
    chosen = [show_placement(kept) for kept in choose_repeated(scores)]
    of_parent = students[(students["parent"] == PARENTS[0]) & students["kept"].isin(chosen)]
    by_kept: dict[str, Mapping[Any, Any]] = {
        str(kept): rows.set_index("seed").to_dict("index") for kept, rows in of_parent.groupby("kept")
    }
    again = {kept: by_seed for kept, by_seed in by_kept.items() if len(by_seed) > 1}
    if not again:
        return "Not trained yet."
    seeds = sorted({seed for by_seed in again.values() for seed in by_seed})
    ranked = sorted(again, key=lambda kept: float(again[kept][0]["kl_nats"]))
    rows = [[kept, *(_show_repeat(again[kept].get(seed)) for seed in seeds)] for kept in ranked]
    text = (
        f"{len(again)} of the {len(chosen)} placements of `{PARENTS[0]}` that scores advise, uniform, the most "
        f"vulnerable and four at random were trained in the time that there was from {len(seeds)} seeds (fresh "
        f"weights, alignment and documents): KL in nats, recall. {_compare_orders(again, ranked, seeds)}"
    )
    return f"{text}\n\n{table(['kept', *(f'seed {seed}' for seed in seeds)], rows)}"


def _show_repeat(student: Mapping[Any, Any] | None) -> str:
    return "" if student is None else f"{number(student['kl_nats'])}, {share(student['recall'])}"


def _compare_orders(again: Mapping[str, Mapping[Any, Any]], ranked: Sequence[str], seeds: Sequence[Any]) -> str:
    """Whether the placements that were trained from each further seed come in the order of the first."""
    said = []
    for seed in seeds[1:]:
        there = [kept for kept in ranked if seed in again[kept]]
        values = [[float(again[kept][one]["kl_nats"]) for kept in there] for one in (seeds[0], seed)]
        said.append(f"{number(spearman(*values))} with those of seed {seed}")
    return f"Rank correlation of the first seed's KL: {', '.join(said)}."


def describe_larger(findings: pd.DataFrame) -> str:
    """The same of placements of three layers, where they are all trained."""
    chosen = findings[(findings["n_kept"] == 3) & (findings["parent"] == PARENTS[0])]
    if chosen.empty:
        return f"### Three layers kept\n\nThe {len(all_placements(3))} placements of 3 of 8 are not trained yet."
    rows = [
        [
            str(row["score"]),
            str(int(row["window"]) or ""),
            f"{row['rank']:.0f} ({row['chosen']})",
            _show_correlation(row),
        ]
        for row in chosen.to_dict("records")
    ]
    header = ["score", "window", f"rank of {len(all_placements(3))}", "correlation"]
    return f"### Three layers kept\n\nAll placements of 3 of 8 of `{PARENTS[0]}`:\n\n{table(header, rows)}"


def complete_parents(students: pd.DataFrame, size: int) -> list[str]:
    """Parents of which all placements of a size are trained from the first seed."""
    return [parent for parent in PARENTS if is_complete(students, parent, size)]


def _first_seed(students: pd.DataFrame, parent: str, size: int) -> pd.DataFrame:
    return students[(students["parent"] == parent) & (students["n_kept"] == size) & (students["seed"] == 0)]


def _pooled(findings: pd.DataFrame) -> pd.DataFrame:
    """The rows of all parents together, or of the only one that there is."""
    chosen = findings[findings["n_kept"] == 2]
    pooled = chosen[chosen["parent"] == ALL_PARENTS]
    return chosen if pooled.empty else pooled


def _name(row: Mapping[Any, Any]) -> str:
    return f"{row['score']} (window {int(row['window'])})" if row["window"] else str(row["score"])
