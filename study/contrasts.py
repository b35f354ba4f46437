"""Whether kinds of mixers differ, between models of one kind and inside hybrids."""

from __future__ import annotations

import math

import pandas as pd

from study.findings import describe_unsolved, sites_of, tasks_of
from study.tables import interval, number, pick, signed, table

_BASE = "attention"
_OTHERS = ("gated-deltanet", "mamba2")

_STACKS = """\
Stacks of one mixer, equally deep and wide (Mamba2's have no MLPs, as its paper builds them), on the same prompts: mean
JS divergence minus that of the attention stack, in bits, paired over prompts (95 % interval), and at how many of the 8
depths the difference lies above or below 0 with an interval that leaves 0 out. {clear} A fifth of a state is a fifth of
the keys and values in attention, and of the recurrent state elsewhere. {unsolved}"""

_KINDS = """\
Recall, by kind of layer: the mean JS divergence over the layers of a kind in bits (95 % interval over prompts and
draws), and what the layers of a kind add to the target's probability, taken together, as the logit lens sees it.
{sentence}"""

_HYBRIDS = """\
All tasks, at equal depth: the ratio of the JS divergence of a layer of one kind to that of a layer of the other kind,
with the p-value of its permutation test ({arrangements}: with two attention layers in eight, p cannot fall below 1/16,
and one hybrid alone shows nothing). Below 1, the other kind, attention, is more vulnerable. {signs}"""


def describe_stacks(findings: pd.DataFrame) -> str:
    """Stacks of Gated DeltaNet or Mamba2 against stacks of attention, by task and site."""
    rows = pick(findings, question="mixer")
    cells = [_stack_line(rows, task, site) for task, site in _combinations(findings)]
    clear = summarise_stacks(findings)
    return "\n\n".join(
        [
            _STACKS.format(clear=clear, unsolved=describe_unsolved(findings, [_BASE, *_OTHERS])),
            table(["task", "site", *(cell for one in _OTHERS for cell in (f"{one} − attention", "depths"))], cells),
        ]
    )


def _stack_line(rows: pd.DataFrame, task: str, site: str) -> list[str]:
    here = rows[(rows["task"] == task) & (rows["site"] == site)]
    cells = [task, f"`{site}`"]
    for other in _OTHERS:
        mean = _difference(here, other)
        cells += (
            ["", ""]
            if mean is None
            else [f"{signed(float(mean['value']), digits=3)} ({interval(mean, digits=3)})", _depths(here, other)]
        )
    return cells


def _difference(here: pd.DataFrame, other: str, base: str = _BASE) -> pd.Series | None:
    """The row of a difference in mean JS divergence; None where the models were not compared."""
    found = here[
        (here["part"] == "difference")
        & (here["quantity"] == "mean_js_bits")
        & (here["model"] == other)
        & (here["other"] == base)
    ]
    return None if found.empty else found.iloc[0]


def _depths(here: pd.DataFrame, other: str) -> str:
    """At how many depths the profile lies surely above and surely below that of attention."""
    profile = here[(here["part"] == "difference_profile") & (here["model"] == other) & (here["other"] == _BASE)]
    above, below = int((profile["low"] > 0).sum()), int((profile["high"] < 0).sum())
    return f"{above} above, {below} below"


def _combinations(findings: pd.DataFrame) -> list[tuple[str, str]]:
    rows = pick(findings, question="mixer")
    return [(task, site) for task in tasks_of(rows) for site in sites_of(findings)]


def summarise_stacks(findings: pd.DataFrame) -> str:
    """How often all three seeds agree, for the pair that has seeds."""
    rows, kinds = pick(findings, question="mixer"), _combinations(findings)
    seeds = ("", "-seed1", "-seed2")
    above = below = 0
    for task, site in kinds:
        here = rows[(rows["task"] == task) & (rows["site"] == site)]
        found = [_difference(here, f"gated-deltanet{seed}", f"attention{seed}") for seed in seeds]
        present = [row for row in found if row is not None]
        above += bool(present) and all(float(row["low"]) > 0 for row in present)
        below += bool(present) and all(float(row["high"]) < 0 for row in present)
    n_seeds = len(set(rows["model"].dropna()) & {f"gated-deltanet{seed}" for seed in seeds})
    return (
        f"Mean JS divergence is higher in Gated DeltaNet than in attention, with intervals that leave 0 out, in each "
        f"of {n_seeds} pairs of models with equal seeds, on {above} of {len(kinds)} combinations of task and site; it "
        f"is lower in each on {below}. (Three pairs agree by chance in one combination of four, and all combinations "
        "rest on the same pairs.)"
    )


def describe_hybrids(findings: pd.DataFrame) -> str:
    """Kinds of mixers inside the hybrids: who carries recall, and the test at equal depth for all tasks."""
    return f"{_describe_recall(findings)}\n\n{_describe_equal_depth(findings)}"


def _describe_recall(findings: pd.DataFrame) -> str:
    """Divergence and gain of each kind's layers on recall."""
    rows = pick(findings, question="hybrid", part="kind", task="recall")
    sites = sites_of(findings)
    cells = []
    for label, kind in rows[["model", "other"]].drop_duplicates().itertuples(index=False):
        here = pick(rows, model=label, other=kind)
        line = [f"`{label}`", f"{kind} ({int(_value(here, 'n_layers', sites[0]))})"]
        for site in sites:
            mean = pick(here, quantity="mean_js_bits", site=site).iloc[0]
            line.append(f"{number(float(mean['value']), digits=3)} ({interval(mean, digits=3)})")
        cells.append([*line, signed(_value(here, "gain_prob", sites[0]))])
    header = ["hybrid", "kind (layers)", *(f"`{site}`" for site in sites), "probability added"]
    return f"{_KINDS.format(sentence=summarise_recall(findings))}\n\n{table(header, cells)}"


def _value(rows: pd.DataFrame, quantity: str, site: str) -> float:
    return float(pick(rows, quantity=quantity, site=site)["value"].iloc[0])


def summarise_recall(findings: pd.DataFrame) -> str:
    """In how many hybrids which kind is surely the more vulnerable, by site; and what both add."""
    rows, sites = pick(findings, question="hybrid", part="kind", task="recall"), sites_of(findings)
    labels = list(dict.fromkeys(rows["model"]))
    parts = []
    for site in sites:
        means = pick(rows, quantity="mean_js_bits", site=site)
        order = [_which_is_above(means[means["model"] == label]) for label in labels]
        parts.append(f"{order.count('attention')} and {order.count('other')} at `{site}`")
    gains = pick(rows, quantity="gain_prob", site=sites[0]).set_index(["model", "other"])["value"]
    attention = gains.xs(_BASE, level="other")
    n_more = int((2 * attention - gains.groupby("model").sum() > 0).sum())
    return (
        "The interval of the mean JS divergence of the attention layers lies above that of the other layers, and below "
        f"it, in so many of {len(labels)} hybrids: {', '.join(parts)}. As the logit lens sees it, the attention layers "
        f"add more probability than the others in {n_more}. Kinds sit at different depths: this is about the "
        "layers as they stand in these models, the last of which is attention."
    )


def _which_is_above(means: pd.DataFrame) -> str:
    """Which of two kinds has the interval above the other's: "attention", "other" or "neither"."""
    attention, other = means[means["other"] == _BASE].iloc[0], means[means["other"] != _BASE].iloc[0]
    if float(attention["low"]) > float(other["high"]):
        return "attention"
    return "other" if float(attention["high"]) < float(other["low"]) else "neither"


def _describe_equal_depth(findings: pd.DataFrame) -> str:
    """Ratios by kind at equal depth, by hybrid, site and task."""
    rows = pick(findings, question="hybrid", part="mixer")
    cells = []
    for label in dict.fromkeys(rows["model"]):
        for site in sites_of(findings):
            here = rows[(rows["model"] == label) & (rows["site"] == site)]
            line = [f"`{label}`", f"`{site}`", str(here["other"].iloc[0])]
            for task in tasks_of(rows):
                row = here[here["task"] == task].iloc[0]
                line.append("" if pd.isna(row["value"]) else f"{_ratio(float(row['value']))} ({_p(row)})")
            cells.append(line)
    arrangements = str(rows["method"].iloc[0])
    signs = summarise_equal_depth(findings)
    return "\n\n".join(
        [
            _HYBRIDS.format(arrangements=arrangements, signs=signs),
            table(["hybrid", "site", "kind", *tasks_of(rows)], cells),
        ]
    )


def summarise_equal_depth(findings: pd.DataFrame) -> str:
    """In how many hybrids attention is the more vulnerable kind on recall, with the two-sided sign test over them."""
    rows = pick(findings, question="hybrid", part="mixer", task="recall")
    parts = []
    for site in sites_of(findings):
        ratios = rows.loc[rows["site"] == site, "value"].dropna()
        n, below = len(ratios), int((ratios < 1).sum())
        p_value = min(1.0, 2 * sum(math.comb(n, k) for k in range(min(below, n - below) + 1)) / 2**n)
        parts.append(f"{below} of {n} at `{site}` (p {number(p_value)})")
    return (
        f"On recall, attention is the more vulnerable kind at equal depth in {', '.join(parts)}; p is that of a "
        "two-sided sign test over the hybrids."
    )


def _ratio(value: float) -> str:
    return "< 0.01" if value < 0.01 else number(value)


def _p(row: pd.Series) -> str:
    return "" if pd.isna(row["p_value"]) else f"p {number(float(row['p_value']))}"
