"""docs/miniatures.md, written from the findings: every number that was measured is looked up, none is typed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from layertracer._errors import UsageError

from study.claims import describe_depth_claim, describe_size_claim, summarise_claims
from study.contrasts import describe_hybrids, describe_stacks, summarise_equal_depth, summarise_recall, summarise_stacks
from study.findings import is_twin, miniature_labels, sites_of, tasks_of, trained_labels
from study.plan import Plan
from study.subjects import LONGER, TWIN, find_checkpoints
from study.tables import at_most, number, pick, share, table, wrap
from training import EMBEDDED, Score, make_tokenizer, share_solved

_LISTS = frozenset({"copy", "first", "last"})
"""Relations of which words and not pairs are held out."""

_PAGE = """\
# The miniatures, and two claims put to the test on them

<!-- Written by `python -m study`; do not edit. -->

The paper behind LayerTracer (arXiv 2604.20556) claims that task particles lie deep whatever the size and the mixer,
and that larger models are more robust. {n_models} models were trained for this page, all on the same words and one
corpus, so that mixers and sizes can be compared with little else in between (Mamba2's stack has no MLPs; sliding
attention, the mixture of experts and Mamba2's hybrid are other blocks; every seed sees documents of its own).
SmolLM2-135M stands beside them. `make study` makes the page again from the checkpoints: {n_runs} traces, then the
comparisons of [compare.md](compare.md).

Each trace: {n_prompts} prompts with {n_shot} demonstrations (recall: 2 to 6 keys with values), the same for all
models; masks of 20 % of the dimensions, partitioned, {n_draws} draws; through the logit lens where no other is named.
The tables are from [`study/results/findings.parquet`](../study/results/findings.parquet).

## What these data say

{summary}

## The models

{models}

Shares of held-out prompts that are solved ({n_questions} of a kind): *prompts* over nine relations; *pairs*:
antonyms, synonyms, capitals, past tenses and plurals of pairs that training never showed in a prompt; *words*:
copies, first and last of lists with words that it never used so; *templates*: that it never showed; *recall* of known
words. The last loss is in nats a token. Training: {recipe}. The corpus is described in [its
card](../miniatures/README.md), each model in its own. {n_embedded} are part of the package (`mini/attention`, …), the
others lie in `miniatures/`.

Shares of the study's own prompts that are solved. They are drawn from all pairs of a task, most of which training
showed in other prompts:

{solved}

### Where Mamba2 falls short

{longer}

## Claim 1: task particles lie deep

{depth_claim}

![The target's probability over relative depth](images/miniatures-particles.svg)

Dotted: size S; dashed: size L; here and in the next figure.

## Claim 2: larger models are more robust

{size_claim}

![JS divergence over relative depth, by site and task](images/miniatures-vulnerability.svg)

## Do mixers differ at equal depth?

{stacks}

## Which kind carries recall in a hybrid?

{hybrids}

## Where nothing was learnt

Each model beside the weights that its training began with ("untrained"): {twin_sentence}. Means over the tasks, the
stream masked:

{twins}

![Trained and untrained models](images/miniatures-twins.svg)

The first task, size M, the first seed. Dotted: untrained.

## What these data cannot say

- Models of a quarter of a million to 2.6 million parameters in 8 layers, on {n_words} words, are not language models
  as people use them. What holds here may fail there; what fails here is not a law.
- A lens sees what a matrix or the tail can read off a layer. What is there in another form, neither of the two sees.
- Three sizes of a family have six orders: no single family can show a trend at p ≤ 0.05. The tests here rest on three
  families together.
- Only size M has several seeds; sizes S and L are one training each.
- Tasks and sites of one model are not independent pieces of evidence. Tests of many kinds stand side by side without
  adjustment: of twenty intervals, one is expected to miss.
"""


def write_page(findings: pd.DataFrame, plan: Plan) -> str:
    """The page as Markdown.

    Args:
        findings: The table of `collect_findings`.
        plan: What was asked.
    """
    records = _read_records(miniature_labels(findings))
    recipe = _shared_recipe(records)
    page = _PAGE.format(
        n_models=len(records),
        n_runs=_count_subjects(findings) * len(tasks_of(findings)) * len(sites_of(findings)),
        n_prompts=plan.n_prompts,
        n_shot=plan.n_shot,
        n_draws=plan.n_draws,
        summary=_summarise(findings),
        models=_tabulate_models(records),
        n_questions=next(iter(records.values()))["scores"][0]["n"],
        recipe=f"{recipe['n_steps']:,} steps of {recipe['n_documents']} documents of {recipe['n_tokens']} tokens",
        n_embedded=len(EMBEDDED),
        longer=_describe_longer(records["mamba2"]),
        solved=_tabulate_solved(findings),
        depth_claim=describe_depth_claim(findings),
        size_claim=describe_size_claim(findings),
        stacks=describe_stacks(findings),
        hybrids=describe_hybrids(findings),
        twin_sentence=_summarise_twins(findings),
        twins=_tabulate_twins(findings),
        n_words=f"{len(make_tokenizer()):,}",
    )
    return wrap(page)


def _summarise(findings: pd.DataFrame) -> str:
    """The answers, an item each."""
    items = [
        *summarise_claims(findings),
        f"**Mixers at equal depth?** {summarise_stacks(findings)}",
        f"**Recall in hybrids?** {summarise_recall(findings)} {summarise_equal_depth(findings)}",
        f"**Untrained models:** {_summarise_twins(findings)}.",
    ]
    return "\n".join(f"- {item}" for item in items)


def _count_subjects(findings: pd.DataFrame) -> int:
    return int(pick(findings, question="twin")["model"].nunique())


def _read_records(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The record of each miniature's training, by name."""
    folders = {one.name: folder for one, folder in find_checkpoints().items()}
    return {name: _read_record(folders[name]) for name in names}


def _shared_recipe(records: dict[str, dict[str, Any]]) -> dict[str, int]:
    """The recipe of all miniatures; what was trained otherwise cannot be compared with the rest."""
    recipe: dict[str, int] = next(iter(records.values()))["recipe"]
    other = [name for name, record in records.items() if record["recipe"] != recipe]
    if other:
        raise UsageError(
            f"{', '.join(other)} were trained by another recipe than {next(iter(records))} ({recipe}). Train them "
            "again with `make miniatures`."
        )
    return recipe


def _read_record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return record


def _tabulate_models(records: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, record in records.items():
        answered = [Score(**score) for score in record["scores"]]
        of_pairs = [[score for score in answered if (score.task in _LISTS) == is_list] for is_list in (False, True)]
        scores = [
            share_solved(answered, "prompts"),
            *(share_solved(some, "pairs") for some in of_pairs),
            share_solved(answered, "templates"),
        ]
        loss = record["losses"][-1]["loss_nats"]
        rows.append(
            [
                f"`{name}`",
                record["description"],
                f"{record['n_parameters']:,}",
                *(share(one) for one in scores),
                share(_solved_by_task(answered)["recall"]),
                f"{loss:.2f}",
            ]
        )
    header = ["model", "layers", "parameters", "prompts", "pairs", "words", "templates", "recall", "last loss"]
    return table(header, rows)


_LONGER = """\
It knows relations, and hardly recalls or chooses the first or last of a list, with a loss that still falls at the end.
(Some of the other models do not learn to choose from a list either; their cards say so.) The same model, from the same
weights, trained for {n_steps:,} steps with new documents in each (`{command} --out build/longer`; its record is
[`study/results/mamba2-longer.json`](../study/results/mamba2-longer.json)), recalls more with a lower loss, so that
steps are part of what it lacks; it does not choose better. Shares of new prompts solved:"""


def _describe_longer(base: dict[str, Any]) -> str:
    """Mamba2 by the common recipe, and trained for longer."""
    longer = json.loads(LONGER.read_text(encoding="utf-8"))
    tasks = ("copy", "first", "last", "recall")
    rows = []
    for record in (base, longer):
        answered = [Score(**score) for score in record["scores"]]
        by_task = _solved_by_task(answered)
        rows.append(
            [
                f"{record['recipe']['n_steps']:,}",
                share(share_solved(answered, "prompts")),
                *(share(by_task[task]) for task in tasks),
                f"{record['losses'][-1]['loss_nats']:.2f}",
            ]
        )
    text = _LONGER.format(n_steps=longer["recipe"]["n_steps"], command=longer["command"])
    return f"{text}\n\n{table(['steps', 'nine relations', *tasks, 'last loss'], rows)}"


def _solved_by_task(answered: Sequence[Score]) -> dict[str, float]:
    """Share of new prompts that are solved, by task."""
    return {score.task: score.n_right / score.n for score in answered if score.novelty == "prompts"}


def _tabulate_solved(findings: pd.DataFrame) -> str:
    tasks = tasks_of(findings)
    rows = [
        [f"`{label}`", *(share(_of_run(findings, label, task, "solved_share")) for task in tasks)]
        for label in trained_labels(findings)
    ]
    return table(["model", *tasks], rows)


def _tabulate_twins(findings: pd.DataFrame) -> str:
    """Trained and untrained, mean over the tasks."""
    rows = []
    for label in miniature_labels(findings):
        cells = []
        for quantity, show in (("solved_share", share), ("particle_share_found", share), ("max_js_bits", number)):
            for name in (label, label + TWIN):
                values = [_of_run(findings, name, task, quantity) for task in tasks_of(findings)]
                cells.append(show(sum(values) / len(values)))
        rows.append([f"`{label}`", *cells])
    header = ["model", "solved", "untrained", "particle found", "untrained", "largest JS (bits)", "untrained"]
    return table(header, rows)


def _summarise_twins(findings: pd.DataFrame) -> str:
    """What the untrained models show, in one sentence."""
    rows = pick(findings, question="twin", part="model", site="block_output")
    rows = rows[rows["model"].map(is_twin)]
    solved = rows.loc[rows["quantity"] == "solved_share", "value"].max()
    found = rows.loc[rows["quantity"] == "particle_share_found", "value"].max()
    largest = rows.loc[rows["quantity"] == "max_js_bits", "value"].max()
    particles = "no particle is found" if found == 0 else f"a particle is found on at most {at_most(found)} of them"
    return (
        f"over all tasks they solve at most {at_most(solved)} of the prompts, {particles}, and masking the stream "
        f"after any layer moves their output by at most {number(largest, digits=3)} bits on average, since it is close "
        "to uniform whatever is done"
    )


def _of_run(findings: pd.DataFrame, label: str, task: str, quantity: str) -> float:
    rows = pick(findings, question="twin", part="model", site="block_output", task=task)
    return float(rows.loc[(rows["model"] == label) & (rows["quantity"] == quantity), "value"].iloc[0])
