"""The study's part of docs/design.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from layertracer._errors import UsageError

from design_study import results
from design_study.__main__ import main
from design_study.figures import draw_figures
from design_study.findings import as_choices, collect_findings
from design_study.page import BEGIN, END, PAGE, put_in_place, write_study
from design_study.plan import PARENTS, ROOT, Job, all_placements, show_placement
from design_study.results import TABLES, read_table, write_table
from design_study.trained import train_students
from design_study.trained_tables import describe_scores, describe_students, show_p, summarise_scores
from tests.design_study.test_students import RECIPE


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """The stored results."""
    return {name: read_table(name) for name in TABLES}


def test_stored_page_is_what_the_stored_results_say(tables: dict[str, pd.DataFrame]) -> None:
    """docs/design.md holds what is written from design_study/results; otherwise: python -m design_study --part page."""
    stored = PAGE.read_text(encoding="utf-8")
    assert put_in_place(stored, write_study(tables)) == stored
    assert "nan" not in write_study(tables)


def test_stored_findings_are_those_of_the_stored_tables(tables: dict[str, pd.DataFrame]) -> None:
    """Ranks and correlations of a score, computed anew from students and scores."""
    is_joint = tables["scores"]["score"] == "joint JS, word pairs"
    scores = pd.concat([tables["scores"][is_joint], as_choices(tables["advice"])])
    again = collect_findings(tables["students"], scores, tables["alignment"])
    stored = tables["findings"].merge(again, on=["n_kept", "score", "window", "parent"], suffixes=("", "_again"))
    assert len(stored) == len(again) > 0
    for column in ("rank", "correlation", "low", "high", "p", "kl_nats"):
        assert stored[column].to_numpy() == pytest.approx(stored[f"{column}_again"].to_numpy(), nan_ok=True)


def test_figures_repeat_themselves(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    """The same at every call, each shown on the page and there."""
    first, second = (draw_figures(tables, tmp_path / name) for name in ("first", "second"))
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes()
        assert f"images/{path.name}" in PAGE.read_text(encoding="utf-8")
        assert (ROOT / "docs" / "images" / path.name).is_file()


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    """What others wrote before and after stays; a page without the marks is refused."""
    written = put_in_place(f"before\n\n{BEGIN}\n\nold\n\n{END}\nafter\n", "new\n")
    assert written == f"before\n\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert put_in_place(written, "new\n") == written
    with pytest.raises(UsageError, match="two marks once each"):
        put_in_place("before", "new")


def test_students_are_shown_by_rank() -> None:
    """Of planted results, 0+1 is the best and 6+7 the worst; a parent that is not whole is not shown."""
    kept = [show_placement(one) for one in all_placements(2)]
    students = pd.DataFrame({"kept": kept, "kl_nats": np.arange(28) / 10, "recall": 0.5}).assign(
        parent=PARENTS[0], n_kept=2, seed=0, cpu_s=1.0, kl_std_error=0.01
    )
    other = students.iloc[:5].assign(parent=PARENTS[1])
    shown = describe_students(pd.concat([students, other]))
    assert (
        "| `attention` | 0+1: 0.00, 50 % | 0+2: 0.10, 50 % | 0+3: 0.20, 50 % | 1.35, 50 % | 6+7: 2.70, 50 % |" in shown
    )
    assert PARENTS[1] not in shown


def test_nothing_is_said_of_what_is_not_there() -> None:
    """Without a parent whose placements are all trained, the page says so."""
    empty = pd.DataFrame(columns=["n_kept", "score", "window", "parent", "rank", "correlation", "p_holm"])
    assert "No parent" in describe_scores(empty)
    assert "No parent" in summarise_scores(empty)
    assert (show_p(0.0004), show_p(0.25), show_p(float("nan"))) == ("< 0.001", "0.250", "")


def test_tables_are_made_part_by_part(
    tables: dict[str, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--part students --minutes 0` trains nothing and stores what is there; a table that is missing is named."""
    scores = tables["scores"]
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("design_study.__main__.Recipe", lambda: RECIPE)
    assert len(list(train_students([Job(parent="attention", seed=0, kept=(0, 4))], tmp_path, RECIPE))) == 1
    run = CliRunner().invoke(main, ["--part", "students", "--minutes", "0", "--state", str(tmp_path)])
    assert run.exit_code == 1
    assert "python -m design_study --part scores" in run.output
    write_table(results.table_file("scores"), scores)
    run = CliRunner().invoke(main, ["--part", "students", "--minutes", "0", "--state", str(tmp_path)])
    assert run.exit_code == 0
    assert read_table("students")["kept"].tolist() == ["0+4"]
