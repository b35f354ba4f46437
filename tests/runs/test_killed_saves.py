"""A save that is killed at any operation: nothing finished is lost, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def _sweep(tmp_path: Path, *, overwrite: bool, is_exchanged: bool) -> list[dict[str, Any]]:
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.runs.killed_saves", *("yes" if on else "no" for on in (overwrite, is_exchanged))],
        cwd=root,
        env=os.environ | {"PYTHONPATH": paths, "TMPDIR": str(tmp_path)},
        check=True,
        capture_output=True,
        timeout=120,
    )
    seen: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(seen) > 20
    return seen


@pytest.mark.parametrize("is_exchanged", [True, False], ids=["exchange", "two renames"])
def test_an_overwritten_run_is_the_old_one_or_the_new_one(tmp_path: Path, is_exchanged: bool) -> None:
    """Killed before each operation of an overwrite: a whole run, every file of the user's, no remains at the next save.

    Where the system lets folders change places, the path itself is never empty.
    """
    seen = _sweep(tmp_path, overwrite=True, is_exchanged=is_exchanged)
    for one in seen:
        assert one["after_look"] in {"old", "new"}, one
        assert one["at_once"] in ({"old", "new"} if is_exchanged else {"old", "new", None}), one
        assert one["at_last"] in {"old", "new"}
        assert one["foreign"], one
        assert (one["hidden"], one["left"]) == (None, []), one
    assert {one["after_look"] for one in seen} == {"old", "new"}
    assert any(one["at_once"] is None for one in seen) is not is_exchanged


def test_a_new_run_is_whole_or_not_there(tmp_path: Path) -> None:
    """Killed before each operation of a first save: the whole run or none, and the same save goes through again."""
    seen = _sweep(tmp_path, overwrite=False, is_exchanged=True)
    for one in seen:
        assert one["at_once"] in {"new", None}, one
        assert (one["hidden"], one["left"]) == (None, []), one
    assert {one["after_look"] for one in seen} == {"new", None}
