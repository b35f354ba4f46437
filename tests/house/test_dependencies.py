"""What is imported is declared."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("benchmarks", "design_study", "evidence_study", "examples", "scripts", "study", "training")
OWN = {"layertracer", "tests", *PROGRAMS}
NOT_INSTALLED = {
    # Peers, each in an environment of its own (benchmarks/requirements-*.txt).
    "benchmarks": {"nnsight", "nnterp", "transformer-lens"},
    # Libraries of quantised weights: where one is missing, its test is skipped.
    "tests": {"awq", "compressed-tensors", "gptqmodel"},
}


def _distribution_name(requirement: str) -> str:
    """The name that a requirement begins with, spelt as indexes do."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~ \[;]", requirement)[0]).lower()


def _declared() -> tuple[set[str], set[str], set[str]]:
    """What pyproject.toml declares: needed by the package, by its extras for users, by development."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {
        extra: {_distribution_name(one) for one in named} for extra, named in project["optional-dependencies"].items()
    }
    development = extras.pop("dev")
    return {_distribution_name(one) for one in project["dependencies"]}, set().union(*extras.values()), development


def _imports(tree: ast.AST) -> Iterator[str]:
    """Top-level names of what import statements, wherever they stand, and `import_module` with a literal import."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]
            case ast.Call(func=ast.Name(id="import_module") | ast.Attribute(attr="import_module")):
                if isinstance(node.args[0], ast.Constant):
                    yield str(node.args[0].value).partition(".")[0]


def _undeclared(folder: Path, declared: set[str]) -> list[str]:
    """Imports of other packages than those declared, as `file: name`."""
    known = packages_distributions()
    found = set()
    for path in folder.rglob("*.py"):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):  # environments of the peers
            continue
        for name in {*_imports(ast.parse(path.read_text("utf-8")))} - OWN - sys.stdlib_module_names:
            if not {_distribution_name(one) for one in known.get(name, [name])} & declared:
                found.add(f"{path.relative_to(folder.parent)}: {name}")
    return sorted(found)


def test_package_imports_what_it_declares() -> None:
    """Everything that the package imports is a dependency, or in an extra for users."""
    needed, extras, _ = _declared()
    assert _undeclared(ROOT / "src", needed | extras) == []


@pytest.mark.parametrize("folder", ["tests", *PROGRAMS])
def test_tests_and_programs_import_what_is_declared(folder: str) -> None:
    """Everything that tests and the programs of the repository import is a dependency or in the extra `dev`."""
    needed, _, development = _declared()
    assert _undeclared(ROOT / folder, needed | development | NOT_INSTALLED.get(folder, set())) == []


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_demo_installs_no_tools() -> None:
    """`make demo` installs the package alone, and `make test` what its tests need as well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    asked = {
        target: subprocess.run(
            ["make", "--dry-run", "--always-make", target],
            cwd=ROOT,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for target in ("demo", "test")
    }
    assert {target: "[dev]" in commands for target, commands in asked.items()} == {"demo": False, "test": True}


def test_undeclared_import_is_noticed(tmp_path: Path) -> None:
    """Imports are found in functions, of submodules and by `import_module`; relative ones and Python's own are none."""
    (tmp_path / "one.py").write_text(
        "import os.path\nfrom . import two\nimport numpy\n"
        "def late():\n    import yaml\n    from pluggy.hooks import x\n    importlib.import_module('click.core')\n",
        "utf-8",
    )
    found = [line.partition(": ")[2] for line in _undeclared(tmp_path, {"numpy"})]
    assert found == ["click", "pluggy", "yaml"]
    assert _undeclared(tmp_path, {"numpy", "click", "pluggy", "pyyaml"}) == []
