"""What the page says of placements inside the running model, and of the trained hybrids."""

from __future__ import annotations

import pandas as pd

from design_study.windows import JUDGED_ROWS, SEARCHED_ROWS
from study.tables import number, share, table

_BEST_SHARE = 0.05
_ADVISED = "all measured"


def describe_windows(windows: pd.DataFrame) -> str:
    """Ranks of what each search advises, by model, window and size."""
    searches = list(dict.fromkeys(windows["search"]))
    rows = []
    for (model, window, size), group in windows.groupby(["model", "window", "n_kept"], sort=False):
        by_search = group.set_index("search")
        kl = [f"{number(float(group[name].iloc[0]), digits=3)}" for name in ("best_kl_nats", "median_kl_nats")]
        cells = [_show_rank(by_search.loc[search]) for search in searches]
        rows.append([f"`{model}`", str(window), f"{size} of 8", *cells, *kl])
    text = (
        f"Layers that are not kept see a window, nothing is trained. Each search saw {SEARCHED_ROWS} documents; all "
        f"placements of the size were then measured on {JUDGED_ROWS} others. Rank of the advised placement among all "
        "of its size, with the placement; a rank in bold is within the best 5 %. *All measured*: the best on the "
        "search's own documents, which is what `design` does where a size has few placements."
    )
    header = ["model", "window", "kept", *searches, "best KL (nats)", "median KL"]
    return f"{text}\n\n{table(header, rows)}"


def summarise_windows(windows: pd.DataFrame) -> str:
    """Of how many cases each search's placement is within the best 5 %."""
    inside = _is_within(windows)
    counts = inside.groupby(windows["search"], sort=False).agg(["sum", "count"])
    said = ", ".join(f"{search} {row['sum']} of {row['count']}" for search, row in counts.iterrows())
    advised = windows[windows["search"] == _ADVISED]
    failed = advised[~_is_within(advised)]
    missed = "; ".join(
        f"`{row['model']}`, window {row['window']}, {row['n_kept']} kept: rank {row['rank']} of {row['n']}, "
        f"{number(row['kl_nats'], digits=3)} nats where the best has {number(row['best_kl_nats'], digits=3)}"
        for _, row in failed.iterrows()
    )
    return (
        f"**Windows inside the running model** ({windows['model'].nunique()} attention miniatures, windows "
        f"{_join(windows['window'])}, {_join(windows['n_kept'])} of 8 layers kept): within the best 5 % of all "
        f"placements of the size, on held-out rows: {said}. "
        + (f"What `design` does where placements are few misses it here: {missed}." if missed else "")
    ).strip()


def _is_within(windows: pd.DataFrame) -> pd.Series:
    return windows["rank"] <= (_BEST_SHARE * windows["n"]).clip(lower=1)


def _show_rank(row: pd.Series) -> str:
    is_best = row["rank"] <= max(1.0, _BEST_SHARE * row["n"])
    rank = f"**{row['rank']}**" if is_best else str(row["rank"])
    return f"{rank} ({row['chosen']})"


def _join(values: pd.Series) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(values))


def describe_recall(recall: pd.DataFrame) -> str:
    """What trained hybrids lose without each of their mixers."""
    rows = []
    for _, row in recall.iterrows():
        what = f"{row['layers']} ({row['mixer']})"
        cells = [share(row["full_recall"]), share(row["recall"]), number(row["kl_nats"])]
        rows.append([f"`{row['model']}`", row["substitute"], what, *cells, str(row["n_questions"])])
    text = (
        "The hybrids of the miniatures, trained from scratch with attention in layers 3 and 7: each layer's mixer "
        "removed by itself, and all of a kind; attention narrowed to a window, on the questions whose answer stands "
        "farther back than that. KL to the whole hybrid, in nats on determined tokens of documents."
    )
    header = ["model", "substitute", "layers", "recall as it is", "with the substitute", "KL (nats)", "questions"]
    return f"{text}\n\n{table(header, rows)}"


def summarise_recall(recall: pd.DataFrame) -> str:
    """Which of the hybrids' mixers carries recall."""
    removed = recall[(recall["substitute"] == "no mixer") & ~recall["layers"].str.contains("+", regex=False)]
    said = []
    for model, group in removed.groupby("model", sort=False):
        lowest = group.sort_values("recall", kind="stable").iloc[0]
        said.append(
            f"`{model}` layer {lowest['layers']} ({lowest['mixer']}; {share(lowest['full_recall'])} falls to "
            f"{share(lowest['recall'])})"
        )
    return f"**What carries recall in the trained hybrids?** Recall falls most without the mixer of: {', '.join(said)}."
