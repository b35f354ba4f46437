"""What the page says of placements inside the running model, and of the trained hybrids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from design_study.windows import DESIGN, DESIGN_ROWS, JUDGED_ROWS, SEARCHED_ROWS, WINDOW, rank_advised
from study.tables import number, share, table

_BEST_SHARE = 0.05
NOTHING = "no mixer"


def describe_windows(windows: pd.DataFrame, advice: pd.DataFrame) -> str:
    """Ranks of what each search advises, by model and size."""
    ranked = rank_advised(windows, advice)
    searches = list(dict.fromkeys(ranked["search"]))
    own = {(row["model"], row["n_kept"]): _show_percentile(row) for row in advice.to_dict("records")}
    rows = []
    for (model, size), group in ranked.groupby(["model", "n_kept"], sort=False):
        of = {row["search"]: row for row in group.to_dict("records")}
        kl = [number(of[DESIGN][name], digits=3) for name in ("best", "median")]
        cells = [own[model, size], *(_show_rank(of[one]) for one in searches), *kl]
        rows.append([f"`{model}`", f"{size}: {of[DESIGN]['n']}", *cells])
    text = (
        f"Layers that are not kept see a window of {WINDOW} tokens, nothing is trained. *{DESIGN}*: what "
        f"`layertracer.design` advises by default from {DESIGN_ROWS['search']} documents, all tokens, and as many "
        f"prompts of its task `recall`. Its *percentile* is its own judgement: the share of all other placements of "
        f"the size that do better on {DESIGN_ROWS['compared']} held-out documents and as many held-out prompts, with "
        f"its interval. The other searches see KL on determined tokens of {SEARCHED_ROWS} documents (joint JS and "
        f"uniform: nothing). All placements of the size were then measured on {JUDGED_ROWS} other documents, KL on "
        "determined tokens, which is not quite what `design` lowers. The rank of the advised placement there, and the "
        "placement; in bold where it is within the best 5 % of its size, or the best. *All measured*: the best of all "
        "on the search's documents."
    )
    return (
        f"{text}\n\n{table(['model', 'kept: placements', 'percentile', *searches, 'best KL (nats)', 'median'], rows)}"
    )


def summarise_windows(windows: pd.DataFrame, advice: pd.DataFrame) -> str:
    """Of how many cases each search's placement is within the best 5 %."""
    ranked = rank_advised(windows, advice)
    inside = _is_within(ranked)
    counts = inside.groupby(ranked["search"], sort=False).agg(["sum", "count"]).to_dict("index")
    said = ", ".join(f"{search} {row['sum']} of {row['count']}" for search, row in counts.items())
    again = rank_advised(windows, advice, "kl_all_nats")
    on_all = _is_within(again[again["search"] == DESIGN])
    n_own = int((advice["percentile"] <= 100 * _BEST_SHARE).sum())
    failed = ranked[~inside & (ranked["search"] == DESIGN)].to_dict("records")
    missed = "; ".join(
        f"`{row['model']}`, {row['n_kept']} kept: rank {row['rank']} of {row['n']}, {number(row['value'], digits=3)} "
        f"nats where the best has {number(row['best'], digits=3)} and the median {number(row['median'], digits=3)}"
        for row in failed
    )
    return (
        f"**Windows inside the running model** ({ranked['model'].nunique()} attention miniatures; "
        f"{_join(ranked['n_kept'])} of 8 layers kept, the others see {WINDOW} tokens): by its own held-out judgement, "
        f"text and recall, what `design` advises is within the best 5 % of all placements of the size {n_own} times of "
        f"{len(advice)} (largest percentile {number(advice['percentile'].max(), digits=1)}). Within the best 5 % by KL "
        f"on determined tokens of other documents: {said}. "
        + (f"`design` is not for {missed}. " if missed else "")
        + f"On all tokens of those documents, without recall prompts, `design` is within the best 5 % "
        f"{int(on_all.sum())} times."
    )


def _is_within(ranked: pd.DataFrame) -> pd.Series:
    return ranked["rank"] <= (_BEST_SHARE * ranked["n"]).clip(lower=1)


def _show_percentile(row: Mapping[Any, Any]) -> str:
    return (
        f"{number(row['percentile'], digits=1)} % ({number(row['low'], digits=1)} to {number(row['high'], digits=1)})"
    )


def _show_rank(row: Mapping[Any, Any]) -> str:
    is_best = row["rank"] <= max(1.0, _BEST_SHARE * row["n"])
    rank = f"**{row['rank']}**" if is_best else str(row["rank"])
    return f"{rank} ({row['kept']})"


def _join(values: pd.Series) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(values))


def describe_recall(recall: pd.DataFrame) -> str:
    """What trained hybrids lose without each of their mixers."""
    text = (
        "The hybrids of the miniatures, trained from scratch with attention in layers 3 and 7 and Gated DeltaNet in "
        "the others, taken apart layer by layer: the share of recall questions answered rightly, and KL to the whole "
        "hybrid in nats on determined tokens of documents."
    )
    parts = [
        f"With {substitute} {_describe_rows(rows)}" for substitute, rows in recall.groupby("substitute", sort=False)
    ]
    return "\n\n".join((text, *parts))


def _describe_rows(rows: pd.DataFrame) -> str:
    """One substitute: a line a model, a column a set of layers."""
    sets = dict(zip(rows["layers"], rows["mixer"], strict=True))
    header = ["model", "as it is", *(_name_set(layers, mixer) for layers, mixer in sets.items())]
    lines = []
    for model, group in rows.groupby("model", sort=False):
        records = group.to_dict("records")
        cells = {one["layers"]: f"{share(one['recall'])}, {number(one['kl_nats'])}" for one in records}
        lines.append([f"`{model}`", share(records[0]["full_recall"]), *(cells[layers] for layers in sets)])
    counts = _join(rows["n_questions"])
    far = "" if rows["substitute"].iloc[0] == NOTHING else ", those whose answer stands farther back than that"
    return f"in place of the mixer ({counts} questions{far}):\n\n{table(header, lines)}"


def _name_set(layers: str, mixer: str) -> str:
    return f"all {mixer}" if "+" in layers else f"{layers} ({mixer})"


def summarise_recall(recall: pd.DataFrame) -> str:
    """Which attention layer of each trained hybrid carries recall, and which other layer it needs."""
    single = recall[~recall["layers"].str.contains("+", regex=False)]
    said = []
    for model, group in single.groupby("model", sort=False):
        narrowed = group[group["substitute"] != NOTHING].to_dict("records")
        removed = group[(group["substitute"] == NOTHING) & (group["mixer"] != "attention")]
        lowest = removed.sort_values("recall", kind="stable").to_dict("records")[0]
        falls = " and ".join(f"to {share(one['recall'])} by narrowing layer {one['layers']}" for one in narrowed)
        said.append(
            f"`{model}` from {share(narrowed[0]['full_recall'])} {falls}; of its linear mixers it misses that of layer "
            f"{lowest['layers']} most ({share(lowest['recall'])} without it)"
        )
    window = single.loc[single["substitute"] != NOTHING, "substitute"].iloc[0]
    counts = _join(single.loc[single["substitute"] != NOTHING, "n_questions"])
    return (
        f"**What carries recall in the trained hybrids?** With attention narrowed to {window} in one layer, recall of "
        f"what stands farther back ({counts} questions) falls: {'. '.join(said)}."
    )
