"""The recipes of docs/extending.md are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text("utf-8")
RECIPES = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("door", "recipe"), RECIPES, ids=[door for door, _ in RECIPES])
def test_a_recipe_runs(door: str, recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever copies a recipe gets what it says: every block of Python of a door runs, and prints something."""
    blocks = re.findall(r"^```python\n(.*?)^```", recipe, flags=re.MULTILINE | re.DOTALL)
    for block in blocks:
        exec(compile(block, f"docs/extending.md: {door}", "exec", dont_inherit=True), {"__name__": "__main__"})  # noqa: S102 - our own page
    assert bool(blocks) == bool(capsys.readouterr().out)
