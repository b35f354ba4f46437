"""What the data say of the two claims."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from layertracer.comparisons import ComparisonSettings

from study.findings import sites_of, tasks_of
from study.lenses import N_POSITIONS
from study.plan import PARTICLE_SITE
from study.tables import interval, number, pick, share, signed, table

_CLAIM_DEPTH, _CLAIM_SIZE = "deep_particles", "larger_is_more_robust"

_DEPTH = """\
*Deep* is the second half of a model. With the default criterion the claim is {counts} of {n_tasks} tasks (models that
solve less than a quarter of a task's prompts do not count). {changes} Verdict by criterion and task, with the least
deep particle among the models that count:"""

_DEPTHS = """\
Relative depth of the task particle of each model (default criterion, all prompts; in brackets the share of prompts on
which one is found):"""

_LENSES = """\
**Lenses.** The linear lens translates what leaves a layer, by least squares over {n_positions} positions of documents
that no training saw, into what leaves the last layer, and then reads it as the logit lens does (Din et al. 2023,
arXiv 2303.09435): it sees what lies there in another basis. The {n_models} miniatures through both lenses: with the
default criterion the linear lens finds the particle at an earlier layer in {earlier} of {n} pairs of model and task
that count, at a later one in {later}, and at the same in {same}. {changes} Verdicts, logit lens / linear lens:"""

_SIZE = """\
{n_models} models: attention, Gated DeltaNet and the hybrid of both in three sizes each, the middle one from three
seeds. The claim is {counts} of {n} pairs of task and site. The slope is that of the logarithm of the mean JS
divergence over that of the number of parameters, within families: below 0, larger models are more robust. The claim
asks the mean and the largest JS divergence to agree."""


def describe_depth_claim(findings: pd.DataFrame) -> str:
    """Claim 1: verdicts by task and criterion, and where each model's particle lies."""
    rows = pick(findings, question="depth")
    verdicts = rows[rows["part"].isin(["headline", "verdict"]) & rows["quantity"].str.startswith(_CLAIM_DEPTH)]
    headlines = verdicts[verdicts["part"] == "headline"]
    criteria = list(dict.fromkeys(verdicts["criterion"]))
    tasks = tasks_of(rows)
    cells = [[f"`{criterion}`", *(_outcome(verdicts, task, criterion) for task in tasks)] for criterion in criteria]
    counts = Counter(headlines["method"])
    differing = _differing(verdicts, criteria)
    return "\n\n".join(
        [
            _DEPTH.format(counts=_count(counts), n_tasks=len(tasks), changes=_changes(differing)),
            table(["criterion", *tasks], cells),
            f"Reasons, with the default criterion:\n\n{_reasons(headlines)}",
            _DEPTHS,
            _tabulate_particles(rows),
            _describe_lenses(findings),
        ]
    )


def summarise_claims(findings: pd.DataFrame) -> list[str]:
    """The two claims in a sentence each, with what changes the answer."""
    rows = pick(findings, question="depth")
    verdicts = rows[rows["part"].isin(["headline", "verdict"]) & rows["quantity"].str.startswith(_CLAIM_DEPTH)]
    by_criterion = {
        str(criterion): Counter(of_one.drop_duplicates("task")["method"])
        for criterion, of_one in verdicts.groupby("criterion", sort=False)
    }
    (default, counts), *others = by_criterion.items()
    differing = [f"`{criterion}` ({_count(one)})" for criterion, one in others if one != counts]
    also = f"; by other criteria: {', '.join(differing)}" if differing else ", whatever the criterion"
    sizes = pick(findings, question="size", part="headline")
    robust = sizes[sizes["quantity"].str.startswith(_CLAIM_SIZE)]
    slopes = pick(findings, question="size", part="trend", quantity="slope of mean_js_bits", site=PARTICLE_SITE)[
        "value"
    ]
    deep = f"With the default criterion, `{default}`: {_count(counts)} of {len(tasks_of(rows))} tasks{also}."
    larger = (
        f"{_count(Counter(robust['method'])).capitalize()} of {len(robust)} pairs of task and site. Where the stream "
        f"is masked, ten times as many parameters multiply the mean JS divergence by {_factor(slopes.min())} to "
        f"{_factor(slopes.max())}, by task."
    )
    return [f"**Particles lie deep?** {deep}", f"**Larger models are more robust?** {larger}"]


def _factor(slope: float) -> str:
    return number(float(10**slope), digits=3 if slope < -1 else 2)


def _describe_lenses(findings: pd.DataFrame) -> str:
    """Claim 1 through another lens: verdicts by task and criterion, and how many particles move."""
    rows = pick(findings, question="lens")
    verdicts = rows[rows["part"].isin(["headline", "verdict"]) & rows["quantity"].str.startswith(_CLAIM_DEPTH)]
    criteria = list(dict.fromkeys(verdicts["criterion"]))
    by_lens = {lens: pick(verdicts, lens=lens) for lens in ("logit", "linear")}
    tasks = tasks_of(rows)
    cells, differing = [], []
    for criterion in criteria:
        line = [[_outcome(by_lens[lens], task, criterion) for lens in by_lens] for task in tasks]
        outcomes = [[one.split(" ")[0] for one in pair] for pair in line]
        differing += [criterion] if any(one != other for one, other in outcomes) else []
        cells.append([f"`{criterion}`", *(" / ".join(pair) for pair in outcomes)])
    moved = _count_moved(findings, rows, criteria[0])
    changes = (
        f"On some task the lens changes the verdict of {', '.join(f'`{one}`' for one in differing)}."
        if differing
        else "The lens changes no verdict."
    )
    text = _LENSES.format(
        n_positions=f"{N_POSITIONS:,}",
        n_models=rows["model"].nunique(),
        n=sum(moved.values()),
        changes=changes,
        **{name: moved[name] for name in ("earlier", "later", "same")},
    )
    return f"{text}\n\n{table(['criterion', *tasks], cells)}"


def _count_moved(findings: pd.DataFrame, rows: pd.DataFrame, criterion: str) -> Counter[str]:
    """How often the linear lens puts the particle earlier, later or nowhere else, where the task is solved at all."""
    depths = pick(rows, part="model", quantity="particle_depth", criterion=criterion)
    by_lens = depths.pivot_table(index=["model", "task"], columns="lens", values="value")
    found = by_lens.reindex(columns=["logit", "linear"]).dropna()
    solved = pick(findings, question="twin", part="model", quantity="solved_share", site=PARTICLE_SITE)
    shares = solved.set_index(["model", "task"])["value"]
    counting = found[shares.reindex(found.index) >= ComparisonSettings().min_solved]
    moved = (counting["linear"] - counting["logit"]).round(6)
    return Counter(earlier=int((moved < 0).sum()), later=int((moved > 0).sum()), same=int((moved == 0).sum()))


def _outcome(verdicts: pd.DataFrame, task: str, criterion: str) -> str:
    row = verdicts[(verdicts["task"] == task) & (verdicts["criterion"] == criterion)].iloc[0]
    least = "" if pd.isna(row["value"]) else f" ({number(float(row['value']))}; n = {int(row['n_models'])})"
    return f"{row['method']}{least}"


def _differing(verdicts: pd.DataFrame, criteria: list[str]) -> list[str]:
    """Criteria whose verdicts differ from the first's on some task."""
    by_criterion = {
        criterion: tuple(verdicts.loc[verdicts["criterion"] == criterion].drop_duplicates("task")["method"])
        for criterion in criteria
    }
    first = by_criterion[criteria[0]]
    return [criterion for criterion in criteria[1:] if by_criterion[criterion] != first]


def _changes(differing: list[str]) -> str:
    if not differing:
        return "No other criterion changes that."
    return f"Criteria that change the answer on some task: {', '.join(f'`{one}`' for one in differing)}."


def _count(counts: Counter[str]) -> str:
    return ", ".join(f"{outcome} on {n}" for outcome, n in counts.most_common())


def _reasons(headlines: pd.DataFrame) -> str:
    return "\n".join(f"- **{row.task}**: {row.note}" for row in headlines.itertuples())


def _tabulate_particles(rows: pd.DataFrame) -> str:
    found = rows[(rows["part"] == "model") & rows["quantity"].isin(["particle_depth", "particle_share_found"])]
    criterion = found["criterion"].iloc[0]
    found = found[found["criterion"] == criterion]
    cells = []
    for label in dict.fromkeys(found["model"]):
        line = [f"`{label}`"]
        for task in tasks_of(rows):
            of_task = found[(found["model"] == label) & (found["task"] == task)]
            depth = of_task[of_task["quantity"] == "particle_depth"].iloc[0]
            of_prompts = of_task[of_task["quantity"] == "particle_share_found"]["value"].iloc[0]
            where = "none" if pd.isna(depth["value"]) else number(float(depth["value"]))
            line.append(f"{where} ({share(float(of_prompts))})")
        cells.append(line)
    return table(["model", *tasks_of(rows)], cells)


def describe_size_claim(findings: pd.DataFrame) -> str:
    """Claim 2: slopes and tests by task and site."""
    rows = pick(findings, question="size")
    headlines = rows[(rows["part"] == "headline") & rows["quantity"].str.startswith(_CLAIM_SIZE)]
    counts = Counter(headlines["method"])
    cells = [_size_line(rows, headlines, task, site) for task in tasks_of(rows) for site in sites_of(findings)]
    n_models = int(headlines["n_models"].max())
    return "\n\n".join(
        [
            _SIZE.format(n_models=n_models, counts=_count(counts), n=len(headlines)),
            table(["task", "site", "slope, mean JS", "p", "slope, largest JS", "p", "verdict"], cells),
        ]
    )


def _size_line(rows: pd.DataFrame, headlines: pd.DataFrame, task: str, site: str) -> list[str]:
    here = rows[(rows["task"] == task) & (rows["site"] == site) & (rows["part"] == "trend")]
    cells = [task, f"`{site}`"]
    for quantity in ("mean_js_bits", "max_js_bits"):
        slope = here[here["quantity"] == f"slope of {quantity}"].iloc[0]
        tau = here[here["quantity"] == f"tau of {quantity}"].iloc[0]
        cells += [f"{signed(float(slope['value']))} ({interval(slope)})", number(float(tau["p_value"]), digits=3)]
    verdict = headlines[(headlines["task"] == task) & (headlines["site"] == site)].iloc[0]
    return [*cells, str(verdict["method"])]
