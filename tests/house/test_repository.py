"""What holds for every file of the repository."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GENERATED = {".cache", ".git", ".hypothesis", ".venv", ".venvs", "__pycache__"}
GENERATED_AT_ROOT = {"build", "dist", "runs"}  # further down, these are names of packages
MARKDOWN_LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")

# Written so that this file does not contain them.
FOREIGN = {
    # In examples, Ada is everybody.
    "a path of somebody's machine": re.compile(r"(?<![\w.])/(?:root|work|(?:home|Users)(?!/ada\b)|tmp/dev)/[\w.]"),
    "an address of a registry": re.compile(r"pypi\.(?:org|python)|python[h]osted|registry\.npmjs|deb\.debian"),
    "a build of one machine": re.compile(r"==[\w.]+\+cpu|@[ ]file:"),
}
MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 400


def _repository_files(*suffixes: str) -> list[Path]:
    """Files of the repository, without what was built or cached, whose name ends in one of `suffixes` if given."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        generated = GENERATED | (GENERATED_AT_ROOT if Path(folder) == ROOT else set())
        folders[:] = [name for name in folders if name not in generated and not name.endswith("_cache")]
        found += [Path(folder, name) for name in files if not suffixes or name.endswith(suffixes)]
    return sorted(found)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _python_files(*folders: str) -> list[Path]:
    return [path for path in _repository_files(".py") if path.relative_to(ROOT).parts[0] in folders]


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _n_lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from its `def` to its end, without its docstring."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


def _anchors(markdown: str) -> set[str]:
    """Names of the headings of a page, as they appear in links."""
    headings = re.findall(r"^#+ (.*)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", _repository_files(".md"), ids=_name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Each relative link of each page leads to a file, and to a heading in it where it names one."""
    for link in MARKDOWN_LINK.findall(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{_name(page)}: no file {link}"
        assert target.is_relative_to(ROOT), f"{_name(page)}: {link} leaves the repository"
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target.read_text("utf-8")), f"{_name(page)}: no heading {link}"


@pytest.mark.parametrize("what", FOREIGN)
def test_no_file_belongs_to_one_machine(what: str) -> None:
    """No file carries a path of somebody's machine, an address of a registry or a build of one machine."""
    guilty = []
    for path in _repository_files():
        text = path.read_bytes().decode("utf-8", "replace")
        guilty += [f"{_name(path)}: {match.group()}" for match in FOREIGN[what].finditer(text)]
    assert guilty == []


def test_functions_are_short() -> None:
    """No function of the package is longer than 50 lines, its docstring aside."""
    long = [
        f"{_name(path)}:{function.lineno} {function.name}: {_n_lines_of_code(function)} lines"
        for path in _python_files("src", "scripts", "training")
        for function in _functions(path)
        if _n_lines_of_code(function) > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_files_are_short() -> None:
    """No file of the package is longer than 400 lines."""
    lengths = {
        _name(path): len(path.read_text("utf-8").splitlines()) for path in _python_files("src", "scripts", "training")
    }
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_every_test_says_its_rule() -> None:
    """Every test has a docstring: the rule in words."""
    silent = [
        f"{_name(path)}: {function.name}"
        for path in _python_files("tests")
        for function in _functions(path)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert silent == []


def test_every_expected_error_says_its_message() -> None:
    """Every `pytest.raises` in the tests has a `match`, except of a KeyboardInterrupt, which says nothing."""
    silent = [
        f"{_name(path)}:{node.lineno}"
        for path in _python_files("tests")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("pytest.raises", "raises")
        and all(keyword.arg != "match" for keyword in node.keywords)
        and ast.unparse(node.args[0]) != "KeyboardInterrupt"
    ]
    assert silent == []


def test_constraints_are_exact_and_complete() -> None:
    """constraints.txt pins one version of each package, every one that pyproject.toml names among them."""
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line) for line in lines)
    pinned = [line.partition("==")[0] for line in lines]
    assert pinned == sorted(set(pinned))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = project["dependencies"] + [one for extra in project["optional-dependencies"].values() for one in extra]
    assert {re.split(r"[<>=]", one)[0].replace("_", "-").lower() for one in named} <= set(pinned)


def test_citation_names_the_paper_and_the_version() -> None:
    """CITATION.cff cites the paper as the source of the method, and this version of the software."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    (paper,) = citation["references"]
    assert paper["identifiers"] == [{"type": "other", "value": "arXiv:2604.20556"}]
    assert [author["family-names"] for author in paper["authors"]] == ["Wu", "Liu", "Zhao", "Chong"]


def test_changelog_knows_this_version() -> None:
    """CHANGELOG.md has a section for what is unreleased or for the version of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## Unreleased" in changelog or f"## {project['version']}" in changelog
