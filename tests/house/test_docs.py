"""The documentation follows the code, and the examples run."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NEED_SMOLLM2 = {"quickstart.py"}


@pytest.fixture(scope="module")
def make_docs() -> ModuleType:
    """The script that writes the generated pages."""
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(make_docs: ModuleType) -> None:
    """The pages in docs/ are what the script writes."""
    stale = [name for name, text in make_docs.pages().items() if (ROOT / "docs" / name).read_text("utf-8") != text]
    assert stale == [], "run `make docs`"


def test_stale_page_is_noticed(make_docs: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A page that differs by one character fails the check and is named; writing it heals it."""
    assert make_docs.main(["--folder", str(tmp_path)]) == 0
    page = tmp_path / "errors.md"
    page.write_text(page.read_text("utf-8") + "x", "utf-8")
    assert make_docs.main(["--check", "--folder", str(tmp_path)]) == 1
    assert "Stale: errors.md." in capsys.readouterr().err
    assert make_docs.main(["--folder", str(tmp_path)]) == 0
    assert make_docs.main(["--check", "--folder", str(tmp_path)]) == 0


def test_every_error_has_a_remedy(make_docs: ModuleType) -> None:
    """Each error class has a remedy, each remedy a class, and each class a line in the tree that is drawn."""
    names = [error.__name__ for error, _ in make_docs.error_classes()]
    assert sorted(names) == sorted(make_docs.REMEDIES)
    drawn = make_docs.errors_page().partition("```")[2].partition("```")[0]
    assert [name for name in names if f"{name} " not in drawn] == []


def test_every_command_is_documented(make_docs: ModuleType) -> None:
    """The command line's page shows the help of each command."""
    from layertracer.cli import main

    page = make_docs.command_line_page()
    assert [name for name in main.commands if f"## layertracer {name}\n" not in page] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(
    example: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each example runs from an empty folder and prints what it found."""
    if example.name in NEED_SMOLLM2:
        request.getfixturevalue("smollm2")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.strip()
