"""What docstrings name is there: after a word of the code has changed, its docstring speaks the new one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SRC = Path(__file__).parents[2] / "src" / "layertracer"
NODES = [
    (path.relative_to(SRC), node)
    for path in sorted(SRC.rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.ClassDef | ast.FunctionDef)
]

CLASSES = {node.name: node for _, node in NODES if isinstance(node, ast.ClassDef)}


def named(node: ast.ClassDef | ast.FunctionDef, section: str) -> set[str]:
    """The names that a section of a docstring explains."""
    found = re.search(rf"^{section}:\n((?:    .*\n?|\n)+)", ast.get_docstring(node) or "", re.MULTILINE)
    return set(re.findall(r"^    (\w+):", found[1], re.MULTILINE)) if found else set()


def attributes(node: ast.ClassDef) -> Iterator[str]:
    """The fields and properties of a class and its bases, and what their methods set on themselves."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            yield part.attr
        if isinstance(part, ast.FunctionDef):
            yield part.name
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in CLASSES:
            yield from attributes(CLASSES[base.id])


def test_attributes_that_docstrings_name_exist() -> None:
    """Every name under "Attributes:" is an attribute of the class."""
    stale = {
        f"{path} {node.name}": missing
        for path, node in NODES
        if isinstance(node, ast.ClassDef) and (missing := named(node, "Attributes") - set(attributes(node)))
    }
    assert not stale


def test_arguments_that_docstrings_name_exist() -> None:
    """Every name under "Args:" is a parameter of the function."""
    stale = {}
    for path, node in NODES:
        if isinstance(node, ast.FunctionDef):
            own = node.args
            parameters = {
                one.arg for one in [*own.posonlyargs, *own.args, *own.kwonlyargs, own.vararg, own.kwarg] if one
            }
            if missing := named(node, "Args") - parameters:
                stale[f"{path} {node.name}"] = missing
    assert not stale
