"""How many files of the source know a method that is in the tree: as few as its door promises."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "layertracer"
ASKED_IN = ("__init__.py", "api", "cli", "reports/_values/reproduce.py")
"""Where users' words for what is built in become objects; something that is registered needs none of it."""

EXPERIMENTS = (
    *("validation", "tracing/_patching", "tracing/_lens_fitting", "tracing/_certify.py"),
    *("reports/_causal", "reports/_evidence"),
)
"""Experiments that are about particular methods, and so name them: users of the doors, as callers are."""


def names_in(path: Path) -> set[str]:
    """Every identifier and every string of a file, its docstrings and comments aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias | ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            found.add(node.value)
    return found


def files_naming(*names: str, aside: tuple[str, ...] = ()) -> list[str]:
    """The files, of which some are left aside, that name one of these."""
    return [
        relative
        for path in sorted(SOURCE.rglob("*.py"))
        if not (relative := path.relative_to(SOURCE).as_posix()).startswith(aside) and names_in(path) & {*names}
    ]


@pytest.mark.parametrize(
    ("names", "aside", "most"),
    [
        pytest.param(("LinearLens",), EXPERIMENTS, 2, id="a lens"),
        pytest.param(("BLOCK_INFLUENCE", "block_influence"), EXPERIMENTS, 2, id="a layer measure"),
        pytest.param(("ANGULAR_DISTANCE", "angular_distance"), EXPERIMENTS, 2, id="another layer measure"),
        pytest.param(("TargetLogProb",), (), 2, id="a row measure"),
        pytest.param(("Skip", "SkipPerturber"), (*ASKED_IN, *EXPERIMENTS), 3, id="a perturbation"),
        pytest.param(("mlp_output",), EXPERIMENTS, 3, id="a site"),
    ],
)
def test_a_method_is_known_to_few_files(names: tuple[str, ...], aside: tuple[str, ...], most: int) -> None:
    """Re-exports are counted; where built-in perturbations are spelled out for users is not."""
    found = files_naming(*names, aside=aside)
    assert 1 <= len(found) <= most, found
