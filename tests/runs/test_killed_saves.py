"""A save that is killed at any operation: nothing finished is lost, and nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from layertracer import RunError
from layertracer.runs import read_run
from layertracer.runs._folders.own_files import marker_of
from layertracer.runs._folders.recovery import recover_run
from layertracer.runs._folders.siblings import WHOLE, sibling_of
from layertracer.runs._folders.whole_folders import write_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def _sweep(tmp_path: Path, *, before: str, is_exchanged: bool) -> list[dict[str, Any]]:
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.runs.killed_saves", before, "yes" if is_exchanged else "no"],
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
    """Killed before each operation of an overwrite: a whole new run is never lost, a replaced one never comes back.

    Every file of the user's goes where the run is, also where that was moved away, and nothing is left after the next
    save. Where the system lets folders change places, the path itself is never empty.
    """
    seen = _sweep(tmp_path, before="run", is_exchanged=is_exchanged)
    for one in seen:
        assert one["at_once"] in ({"old", "new"} if is_exchanged else {"old", "new", None}), one
        newest = "new" if one["was_whole"] else "old"
        if one["moved"] is None:
            assert one["after"] == ("next" if one["then"] == "save" else newest), one
        else:  # a new run that had not come to its place takes it now; one that was replaced does not
            assert one["moved"] == one["at_once"], one
            assert one["after"] == ("new" if one["was_whole"] and one["moved"] == "old" else None), one
        assert one["foreign"], one
        assert (one["hidden"], one["left"]) == (None, []), one
    assert {one["was_whole"] for one in seen} == {True, False}
    assert {one["moved"] for one in seen} == {"old", "new", None}
    assert any(one["at_once"] is None for one in seen) is not is_exchanged


def test_a_new_run_is_whole_or_not_there(tmp_path: Path) -> None:
    """Killed before each operation of a first save: the whole run or none, and another save goes through."""
    seen = _sweep(tmp_path, before="nothing", is_exchanged=True)
    for one in seen:
        assert one["at_once"] in {"new", None}, one
        if one["moved"] is None:
            expected = "next" if one["then"] == "save" else "new" if one["was_whole"] else None
            assert one["after"] == expected, one
        assert (one["hidden"], one["left"]) == (None, []), one
    assert {one["was_whole"] for one in seen} == {True, False}


@pytest.mark.parametrize("is_exchanged", [True, False], ids=["exchange", "two renames"])
def test_parts_are_there_until_the_run_is(tmp_path: Path, is_exchanged: bool) -> None:
    """Killed before each operation of the save of a run whose parts lie there: the parts, or the run without them.

    A whole new run comes to its place with the next load or save; parts are nowhere then, and lost nowhere before.
    """
    seen = _sweep(tmp_path, before="parts", is_exchanged=is_exchanged)
    for one in seen:
        assert one["at_once"] in ({"parts", "new"} if is_exchanged else {"parts", "new", None}), one
        newest = "new" if one["was_whole"] else "parts"
        if one["moved"] is None:
            assert one["after"] == ("next" if one["then"] == "save" else newest), one
        else:
            assert one["after"] == ("new" if one["was_whole"] and one["moved"] == "parts" else None), one
        kept = {"moved"} if one["moved"] == "parts" else {"run"} if one["after"] == "parts" else set()
        assert set(one["parts"]) == kept, one
        assert (one["hidden"], one["left"]) == (None, []), one
    assert {one["was_whole"] for one in seen} == {True, False}


def test_a_whole_run_whose_place_was_taken_is_kept_and_said(tmp_path: Path) -> None:
    """Where another run lies than the one it was to replace, a new one is kept beside it; a load touches neither."""
    path, token = tmp_path / "run", "0123456789abcdef"
    write_folder(path, {"run.json": b"another"}, overwrite=False)
    whole = sibling_of(path, WHOLE, token=token)
    whole.mkdir()
    (whole / "run.json").write_bytes(b"new")
    (whole / marker_of(token)).write_text(hashlib.sha256(b"old").hexdigest())
    assert recover_run(path) is None
    assert ((path / "run.json").read_bytes(), whole.exists()) == (b"another", True)
    with pytest.warns(UserWarning, match=r"killed when its run was whole.*kept as .*run-rescued"):
        write_folder(tmp_path / "other", {"run.json": b"other"}, overwrite=False)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["other", "run", "run-rescued"]
    assert [entry.name for entry in (tmp_path / "run-rescued").iterdir()] == ["run.json"]


def test_a_replaced_run_is_never_read_in_place_of_the_new_one(tmp_path: Path) -> None:
    """Where the new run was moved out of reach, what it replaced is named, with the user's files, and not returned."""
    path = tmp_path / "run"
    old = sibling_of(path, WHOLE)
    old.mkdir()
    for name in ("run.json", "notes.txt"):
        (old / name).write_text("{}")
    with pytest.raises(RunError, match=r"There is no run at .*run: a save replaced it.*lies at .*\.whole, with what"):
        read_run(path)
    write_folder(tmp_path / "other", {"run.json": b"other"}, overwrite=False)
    assert (old / "notes.txt").exists()
    write_folder(path, {"run.json": b"newer"}, overwrite=False)
    assert ((path / "notes.txt").read_text(), old.exists()) == ("{}", False)
