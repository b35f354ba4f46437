"""What the data say of the two claims."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from study.findings import describe_unsolved, miniature_labels, sites_of, tasks_of, unsolved
from study.lenses import N_POSITIONS
from study.plan import PARTICLE_SITE
from study.tables import interval, number, pick, share, signed, table
from training import SCALED

_CLAIM_DEPTH, _CLAIM_SIZE = "deep_particles", "larger_is_more_robust"
_SPAN = 10.0
"""Ratio of parameters for which a slope is put into words."""

_DEPTH = """\
*Deep* is deeper than half of a model: 0.5 itself, layer 4 of 8, is not. With the default criterion the claim is
{counts} of {n_tasks} tasks (models that solve less than a quarter of a task's prompts do not count). {changes}
Verdict by criterion and task, with the least deep particle among the models that count (`ratio` is the paper's own
criterion; `abs_ratio` answers to falls as well as to rises):"""

_DEPTHS = """\
Relative depth of the task particle of each model (default criterion, all prompts; in brackets the share of prompts on
which one is found; a dagger where the model does not count):"""

_LENSES = """\
**Lenses.** The linear lens translates what leaves a layer, by least squares over {n_positions} positions of documents
that no training saw, into what leaves the last layer, and then reads it as the logit lens does (after Din et al.
2023, arXiv 2303.09435). It reads what a matrix can make of a layer, in another basis than the last one's; where a
matrix can do a step of the task, it reads ahead of the model. The {n_models} miniatures through both lenses: of {n}
pairs of model and task that count, the linear lens finds the particle (default criterion) at an earlier layer in
{earlier}, at a later one in {later} and at the same in {same}; in {one} only one of the lenses finds any. {changes}
Verdicts, logit lens / linear lens, without SmolLM2, so that they can differ from those above:"""

_SIZE = """\
{n_models} models: attention, Gated DeltaNet and the hybrid of both in three sizes each, the middle one from three
seeds. The claim is {counts} of {n} pairs of task and site. The slope is that of the logarithm of the mean JS
divergence over that of the number of parameters, within families (95 % interval over prompts, and over seeds where
there are several): below 0, larger models are more robust. p is that of the exact test of Kendall's tau over sizes
within families; with three families of three sizes it cannot fall below 2 / (3!)³ = 0.009. The claim asks the mean
and the largest JS divergence to agree. {unsolved}"""


def summarise_claims(findings: pd.DataFrame) -> list[str]:
    """The two claims in a few sentences each, with what changes the answer."""
    rows = pick(findings, question="depth")
    verdicts = _verdicts_on_depth(rows)
    default, *others = dict.fromkeys(verdicts["criterion"])
    counts = {criterion: _count(_outcomes(verdicts, criterion)) for criterion in (default, *others)}
    differing = [f"`{criterion}` ({counts[criterion]})" for criterion in _differing(verdicts, [default, *others])]
    also = f"Other answers by {', '.join(differing)}." if differing else "No other criterion changes that."
    read = _lens_changes(pick(findings, question="lens"))
    deep = f"With the default criterion, `{default}`: {counts[default]} of {len(tasks_of(rows))} tasks. {also} {read}"
    return [f"**Particles lie deep?** {deep}", f"**Larger models are more robust?** {_summarise_sizes(findings)}"]


def _summarise_sizes(findings: pd.DataFrame) -> str:
    rows = pick(findings, question="size")
    headlines = _headlines_on_size(rows)
    slopes = pick(rows, part="trend", site=PARTICLE_SITE, quantity="slope of mean_js_bits")
    factors, low, high = (_SPAN ** slopes[column] for column in ("value", "low", "high"))
    return (
        f"{_count(headlines['method']).capitalize()} of {len(headlines)} pairs of task and site. Where the stream is "
        f"masked, the slope makes of ten times as many parameters, the whole range from S to L, "
        f"{number(factors.min(), digits=3)} to {number(factors.max(), digits=3)} times the mean JS divergence, by task "
        f"(95 % intervals between {number(low.min(), digits=3)} and {number(high.max(), digits=3)}). Larger models are "
        "also better trained and surer of their answers, which alone lowers it."
    )


def describe_depth_claim(findings: pd.DataFrame) -> str:
    """Claim 1: verdicts by task and criterion, and where each model's particle lies."""
    rows = pick(findings, question="depth")
    verdicts = _verdicts_on_depth(rows)
    headlines = verdicts[verdicts["part"] == "headline"]
    criteria = list(dict.fromkeys(verdicts["criterion"]))
    tasks = tasks_of(rows)
    cells = [[f"`{criterion}`", *(_outcome(verdicts, task, criterion) for task in tasks)] for criterion in criteria]
    differing = _differing(verdicts, criteria)
    changes = f"Criteria that change the answer on some task: {_name(differing)}." if differing else ""
    return "\n\n".join(
        [
            _DEPTH.format(counts=_count(headlines["method"]), n_tasks=len(tasks), changes=changes),
            table(["criterion", *tasks], cells),
            "Reasons, with the default criterion:",
            "\n".join(f"- **{row.task}**: {row.note}" for row in headlines.itertuples()),
            _DEPTHS,
            _tabulate_particles(findings, rows),
            _describe_lenses(findings),
        ]
    )


def _verdicts_on_depth(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["part"].isin(["headline", "verdict"]) & rows["quantity"].str.startswith(_CLAIM_DEPTH)]


def _outcomes(verdicts: pd.DataFrame, criterion: str) -> list[str]:
    """The outcome on each task, by one criterion."""
    return list(verdicts.loc[verdicts["criterion"] == criterion].drop_duplicates("task")["method"])


def _differing(verdicts: pd.DataFrame, criteria: Sequence[str]) -> list[str]:
    """Criteria whose verdicts differ from the first's on some task."""
    default = _outcomes(verdicts, criteria[0])
    return [criterion for criterion in criteria[1:] if _outcomes(verdicts, criterion) != default]


def _count(outcomes: Sequence[str] | pd.Series) -> str:
    return ", ".join(f"{outcome} on {n}" for outcome, n in Counter(outcomes).most_common())


def _name(criteria: Sequence[str]) -> str:
    return ", ".join(f"`{one}`" for one in criteria)


def _outcome(verdicts: pd.DataFrame, task: str, criterion: str) -> str:
    row = pick(verdicts, task=task, criterion=criterion).iloc[0]
    least = "" if pd.isna(row["value"]) else f" ({number(float(row['value']))}; n = {int(row['n_models'])})"
    return f"{row['method']}{least}"


def _tabulate_particles(findings: pd.DataFrame, rows: pd.DataFrame) -> str:
    found = rows[(rows["part"] == "model") & rows["quantity"].isin(["particle_depth", "particle_share_found"])]
    found = found[found["criterion"] == found["criterion"].iloc[0]]
    cells = []
    for label in dict.fromkeys(found["model"]):
        line = [f"`{label}`"]
        for task in tasks_of(rows):
            of_task = found[(found["model"] == label) & (found["task"] == task)].set_index("quantity")["value"]
            depth = float(of_task["particle_depth"])
            where = "none" if math.isnan(depth) else number(depth)
            dagger = " †" if unsolved(findings, [str(label)], task) else ""
            line.append(f"{where} ({share(float(of_task['particle_share_found']))}){dagger}")
        cells.append(line)
    return table(["model", *tasks_of(rows)], cells)


def _describe_lenses(findings: pd.DataFrame) -> str:
    """Claim 1 through another lens: verdicts by task and criterion, and how many particles move."""
    rows = pick(findings, question="lens")
    logit, linear = _by_lens(rows)
    criteria, tasks = list(dict.fromkeys(logit["criterion"])), tasks_of(rows)
    both = {one: zip(_outcomes(logit, one), _outcomes(linear, one), strict=True) for one in criteria}
    cells = [[f"`{criterion}`", *(" / ".join(pair) for pair in pairs)] for criterion, pairs in both.items()]
    moved = _count_moved(findings, rows, criteria[0])
    text = _LENSES.format(
        n_positions=f"{N_POSITIONS:,}",
        n_models=rows["model"].nunique(),
        n=sum(moved.values()),
        changes=_lens_changes(rows),
        **{name: moved[name] for name in ("earlier", "later", "same", "one")},
    )
    return f"{text}\n\n{table(['criterion', *tasks], cells)}"


def _by_lens(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    verdicts = _verdicts_on_depth(rows)
    return pick(verdicts, lens="logit"), pick(verdicts, lens="linear")


def _lens_changes(rows: pd.DataFrame) -> str:
    """Names the criteria whose verdict on some task is another one through the linear lens."""
    logit, linear = _by_lens(rows)
    criteria = dict.fromkeys(logit["criterion"])
    differing = [criterion for criterion in criteria if _outcomes(logit, criterion) != _outcomes(linear, criterion)]
    return (
        f"The linear lens changes verdicts by {_name(differing)}."
        if differing
        else "The linear lens changes no verdict."
    )


def _count_moved(findings: pd.DataFrame, rows: pd.DataFrame, criterion: str) -> Counter[str]:
    """How often the linear lens finds the particle earlier, later or nowhere else, where the task is solved at all."""
    depths = pick(rows, part="model", quantity="particle_depth", criterion=criterion)
    logit, linear = (pick(depths, lens=lens).set_index(["model", "task"])["value"] for lens in ("logit", "linear"))
    moved: Counter[str] = Counter()
    for model, task in logit.index:
        if not unsolved(findings, [model], task):
            moved[_movement(float(logit[model, task]), float(linear[model, task]))] += 1
    return moved


def _movement(logit: float, linear: float) -> str:
    """What becomes of a depth through the other lens."""
    if math.isnan(logit) or math.isnan(linear):
        return "neither" if math.isnan(logit) and math.isnan(linear) else "one"
    if math.isclose(logit, linear):
        return "same"
    return "earlier" if linear < logit else "later"


def describe_size_claim(findings: pd.DataFrame) -> str:
    """Claim 2: slopes and tests by task and site."""
    rows = pick(findings, question="size")
    headlines = _headlines_on_size(rows)
    cells = [_size_line(rows, headlines, task, site) for task in tasks_of(rows) for site in sites_of(findings)]
    scaled = [
        label
        for label in miniature_labels(findings)
        if label.split("-seed")[0].removesuffix("-s").removesuffix("-l") in SCALED
    ]
    text = _SIZE.format(
        n_models=int(headlines["n_models"].max()),
        counts=_count(headlines["method"]),
        n=len(headlines),
        unsolved=describe_unsolved(findings, scaled),
    )
    header = ["task", "site", "slope, mean JS", "p", "slope, largest JS", "p", "verdict"]
    return f"{text}\n\n{table(header, cells)}"


def _headlines_on_size(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["part"] == "headline") & rows["quantity"].str.startswith(_CLAIM_SIZE)]


def _size_line(rows: pd.DataFrame, headlines: pd.DataFrame, task: str, site: str) -> list[str]:
    here = pick(rows, task=task, site=site, part="trend")
    cells = [task, f"`{site}`"]
    for quantity in ("mean_js_bits", "max_js_bits"):
        slope, tau = (pick(here, quantity=f"{kind} of {quantity}").iloc[0] for kind in ("slope", "tau"))
        cells += [f"{signed(float(slope['value']))} ({interval(slope)})", number(float(tau["p_value"]), digits=3)]
    return [*cells, str(pick(headlines, task=task, site=site)["method"].iloc[0])]
