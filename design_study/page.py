"""The study's part of docs/design.md, written from the stored results: every number is looked up, none is typed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from layertracer._errors import UsageError
from layertracer._files import write_whole

from design_study.distillation import MATRIX_RATE, RATE
from design_study.figures import draw_figures
from design_study.inside_tables import describe_recall, describe_windows, summarise_recall, summarise_windows
from design_study.plan import PARENTS, ROOT, Recipe
from design_study.results import TABLES, read_table
from design_study.scores import N_ROWS
from design_study.trained_tables import (
    describe_larger,
    describe_repeats,
    describe_scores,
    describe_students,
    summarise_choices,
    summarise_default,
    summarise_scores,
)
from study.tables import wrap

PAGE = ROOT / "docs" / "design.md"
BEGIN = "<!-- What follows, to the end mark, is written by `python -m design_study`; do not edit. -->"
END = "<!-- End of what `python -m design_study` writes. -->"

_STUDY = """\
## The trained proof

Does a number that costs no training foretell which layers a *trained* hybrid should keep as attention? Students were
made of {n_parents} attention miniatures (8 layers, 0.84 million parameters): some layers stay attention, the others
get a Gated DeltaNet mixer with fresh weights, everything else is copied. Each fresh mixer first learns, by itself,
what its parent's attention adds on the parent's own inputs ({n_alignment} steps); then the whole student is distilled
from its parent, KL(parent ‖ student) on {n_documents} documents of {n_tokens} tokens a step, {n_steps} steps, the same
documents and the same budget for all placements. {n_students} students were trained. They are judged on {n_held_out}
other documents, on tokens that what precedes them determines, and on {n_questions} recall questions; scores saw
neither. `make design-study` makes all of it again; the tables are in
[`design_study/results`](../design_study/results).

### What these data say

{summary}

### The students

{students}

### Which score foretells them

A score is a number a layer, and a placement has the sum over the layers that it keeps; "the placement itself" and
"pairs" are numbers of placements. *Rank*: where the score's first choice stands among all placements as they were
trained, 1 is the best; chance is the middle. *By recall*: its rank by the share of recall questions that the student
answers, which need not agree with KL. *Correlation*: Spearman's, between the score and minus the trained KL,
over all placements. Windows in tokens; KL on {n_rows} documents of their own. JS divergences are those of the traces
of [the miniatures](miniatures.md), 48 prompts a task.

{scores}

![Rank correlation of each score with the trained result, by parent](images/design-scores.svg)

Intervals draw the eight layers again, with replacement, since placements share layers; with eight this is coarse, and
it says nothing of other models. p is exact for one parent: the share of all 40,320 numberings of its layers under
which the score correlates as well; of the parents together: the same of the mean correlation, numberings drawn
independently. Holm over all lines of the table.

### Other seeds

{repeats}

{larger}

### Windows inside the running model

{windows}

### What carries recall in the trained hybrids

{recall}

### What this study cannot say

- Three parents of one size and one family, one corpus, one kind of linear mixer, a short budget ({n_steps} steps):
  which placement is best after a long training may be another one.
- The rates of learning ({matrix_rate} for matrices by Muon, {rate} for the rest) were chosen on two placements of the
  first parent, 0+4 and 3+6, on the same held-out documents, before any other placement was trained.
- Unless said otherwise each placement was trained once: ranks of placements that are close together are partly chance.
- A placement's kept layers are whole layers. Where heads differ within a layer, a finer choice may be better.
- Documents have {n_tokens} tokens. What is carried over longer distances does not occur in them.
"""


def write_pages() -> tuple[Path, ...]:
    """Writes the page and its figures.

    Returns:
        Their files.
    """
    tables = {name: read_table(name) for name in TABLES}
    figures = draw_figures(tables, ROOT / "docs" / "images")
    write_whole(PAGE, put_in_place(PAGE.read_text(encoding="utf-8"), write_study(tables)).encode())
    return (PAGE, *figures.values())


def write_study(tables: Mapping[str, pd.DataFrame]) -> str:
    """The study's part of the page as Markdown.

    Args:
        tables: The stored results by name.
    """
    students, scores, findings = (tables[name] for name in ("students", "scores", "findings"))
    recipe = Recipe()
    return wrap(
        _STUDY.format(
            n_parents=len(PARENTS),
            n_students=len(students),
            n_alignment=recipe.n_alignment_steps,
            n_documents=recipe.n_documents,
            n_tokens=recipe.n_tokens,
            n_steps=recipe.n_steps,
            n_held_out=recipe.n_held_out,
            n_questions=recipe.n_questions,
            n_rows=N_ROWS,
            summary=_summarise(tables),
            students=describe_students(students),
            scores=describe_scores(findings),
            repeats=describe_repeats(students, scores),
            larger=describe_larger(findings),
            windows=describe_windows(tables["windows"], tables["advice"]),
            recall=describe_recall(tables["recall"]),
            matrix_rate=MATRIX_RATE,
            rate=RATE,
        )
    )


def put_in_place(page: str, study: str) -> str:
    """The page with the study's part between its marks.

    Raises:
        UsageError: If the page does not have the marks.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise UsageError(f"{PAGE} must have the two marks once each, between which the study writes: {BEGIN} and {END}")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{study}\n{END}{rest.partition(END)[2]}"


def _summarise(tables: Mapping[str, pd.DataFrame]) -> str:
    """The answers, an item each."""
    findings = tables["findings"]
    items = [
        summarise_scores(findings),
        summarise_choices(findings),
        summarise_default(findings),
        summarise_windows(tables["windows"], tables["advice"]),
        summarise_recall(tables["recall"]),
    ]
    return "\n".join(f"- {item}" for item in items)
