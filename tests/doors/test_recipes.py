"""The recipes of `docs/extending.md`, run as they stand."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)


def test_all_recipes_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program of the page runs, one after the other in one namespace, and what it asserts holds."""
    monkeypatch.chdir(tmp_path)
    module = ModuleType("recipes")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclasses look for it
    assert len(BLOCKS) >= 7
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"{PAGE.name}, program {number}", "exec"), vars(module))  # noqa: S102 - the page's own programs
