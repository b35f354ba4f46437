"""What is defined in the package is used."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import layertracer

ROOT = Path(__file__).parents[2]
PROGRAMS = ("benchmarks", "design_study", "evidence_study", "examples", "scripts", "study", "training")

USED_ELSEWHERE = {
    "list_commands": "click calls it",
    "format_options": "likewise",
    "to_pandas": "users call it",
    "editor_range": "users call it on a causal trace",
    "fidelity_intervals": "users call it on measures of importance",
    "relation_faithfulness": "users call it on samples of one relation",
    "cka": "users read it off a profile of layers",
    "read_parts": "for traces that go on after a kill",
    "write_part": "likewise",
    "run_variants": "for causal tracing and for placing substitutes",
}
"""Names that nothing here mentions, and why they stay."""


def _trees(*folders: Path) -> dict[Path, ast.Module]:
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    return {path: ast.parse(path.read_text("utf-8")) for path in paths if ".venvs" not in path.parts}


def _names_of(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Assign(targets=targets):
            return [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
    return []


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """What a module defines at its top, and the methods of its classes; without Python's own names."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    methods = [node for one in classes for node in one.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in (*tree.body, *methods):
        yield from ((name, node) for name in _names_of(node) if not re.fullmatch(r"__\w+__", name))


def _mentions(tree: ast.AST) -> Counter[str]:
    """How often names are read: as they stand, as attributes, and as text; exporting and importing is no reading."""
    body = tree.body if isinstance(tree, ast.Module) else []
    ignored = {id(one) for node in body if _names_of(node) == ["__all__"] for one in ast.walk(node)}
    found: Counter[str] = Counter()
    for one in ast.walk(tree):
        if isinstance(one, ast.Attribute):
            found[one.attr] += 1
        elif isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load):
            found[one.id] += 1
        elif isinstance(one, ast.Constant) and isinstance(one.value, str) and id(one) not in ignored:
            found[one.value] += 1
    return found


def _dead(source: Path, *programs: Path) -> list[str]:
    """Names that a folder of source defines and that neither it nor a program reads; of private ones, their module."""
    trees = _trees(source)
    in_module = {path: _mentions(tree) for path, tree in trees.items()}
    everywhere: Counter[str] = Counter()
    for mentions in (*in_module.values(), *map(_mentions, _trees(*programs).values())):
        everywhere.update(mentions)
    for template in source.rglob("*.html*"):
        everywhere.update(re.findall(r"\w+", template.read_text("utf-8")))
    dead = set()
    for path, tree in trees.items():
        for name, node in _definitions(tree):
            is_private = name.startswith("_") and node in tree.body
            n_scored = (in_module[path] if is_private else everywhere)[name]
            if n_scored == _mentions(node)[name]:
                dead.add(name)
    return sorted(dead)


def test_nothing_is_dead() -> None:
    """What the package defines, methods too, is read in it or in a program, or is a public name."""
    dead = _dead(ROOT / "src", *(ROOT / name for name in PROGRAMS))
    assert set(dead) - set(layertracer.__all__) - set(USED_ELSEWHERE) == set()


def test_dead_code_is_noticed(tmp_path: Path) -> None:
    """What is only defined, exported, imported or called by itself is dead; what is read in any way is not."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "one.py").write_text(
        "def used(): return _inner(), getattr(2, 'by_text')\n"
        "def _inner(): return LIMIT\ndef dead(): return dead()\nLIMIT, _SPARE = 3, 4\n_LIMIT: int = 5\n"
        "class Kept:\n    def by_text(self): ...\n    def by_program(self): ...\n    def lost(self): ...\n"
        "    def in_page(self): ...\n    def __len__(self): return 0\n",
        "utf-8",
    )
    (tmp_path / "src" / "two.py").write_text(
        "from one import used, dead\n__all__ = ['dead']\nKept, used()\n_SPARE", "utf-8"
    )
    (tmp_path / "src" / "page.html.j2").write_text("{{ kept.in_page }}", "utf-8")
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "run.py").write_text("x.by_program()", "utf-8")
    assert _dead(tmp_path / "src", tmp_path / "program") == ["_LIMIT", "_SPARE", "dead", "lost"]
