"""The sizes of the house: folders that can be read from the tree, functions that can be read in one go."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

SRC = Path(__file__).parents[2] / "src" / "layertracer"
MODULES = sorted(SRC.rglob("*.py"))
MOST_MODULES, LONG_FUNCTION = 20, 50


def test_no_folder_holds_more_modules_than_can_be_taken_in() -> None:
    """No folder of the package has more than 20 modules, `__init__` aside."""
    counts = Counter(path.parent.relative_to(SRC) for path in MODULES if path.name != "__init__.py")
    assert not {folder: count for folder, count in counts.items() if count > MOST_MODULES}


def test_functions_over_50_lines_are_one_in_a_hundred_at_most() -> None:
    """Of all functions, 1 % at most have more than 50 lines, docstrings included."""
    lengths = {
        f"{path.relative_to(SRC)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = [name for name, length in lengths.items() if length > LONG_FUNCTION]
    assert len(long) <= 0.01 * len(lengths), sorted(long)
