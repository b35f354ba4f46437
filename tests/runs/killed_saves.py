"""A program that is killed at every operation on files of a save, one after the other, and says what is left.

It is a program of its own, since only a process with a single thread can be forked safely.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from layertracer.runs._folders import recovery as _recovery
from layertracer.runs._folders import replacement as _replacement
from layertracer.runs._folders.whole_folders import write_folder
from layertracer.runs._parts import PARTS_FOLDER, read_parts, write_part

OLD, NEW, NEXT = ({"layers.parquet": text, "run.json": text} for text in (b"old", b"new", b"next"))
FOREIGN = {"notes.txt": "mine", "figures/curve.svg": "<svg/>"}
THEN = ("load", "save", "elsewhere", "moved")
OPERATIONS = ("mkdir", "rename", "replace", "unlink", "rmdir", "open", "fsync")
KILLED = 9


def kill_at(count: int, *, is_exchanged: bool) -> None:
    """End this process hard before its operation of that number; or let folders not be exchanged."""
    done = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done == count:
                os._exit(KILLED)
            return real(*arguments, **named)

        return call

    for name in OPERATIONS:
        setattr(os, name, counted(getattr(os, name)))
    _replacement.exchange = counted(_replacement.exchange if is_exchanged else lambda one, other: False)  # noqa: ARG005


def save_and_be_killed(path: Path, count: int, *, overwrite: bool, is_exchanged: bool) -> bool:
    """Whether the save was killed."""
    child = os.fork()
    if child == 0:
        kill_at(count, is_exchanged=is_exchanged)
        write_folder(path, NEW, overwrite=overwrite)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


def content_of(path: Path) -> str | None:
    """Which run lies at a path, whole: "old" or "new"; "parts" of one alone; None where nothing lies."""
    if not path.exists():
        return None
    if os.listdir(path) == [PARTS_FOLDER]:
        return "parts" if read_parts(path).whole == {0: b"0", 1: b"1"} else "mixed"
    contents = {(path / name).read_text() for name in OLD}
    return contents.pop() if len(contents) == 1 else "mixed"


def prepare(path: Path) -> None:
    """An old run, with files of the user's in it."""
    write_folder(path, OLD, overwrite=False)
    for name, text in FOREIGN.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text)


def is_whole(folder: Path) -> bool:
    """Whether the new run was whole when its save was killed: at its place, or hidden by the name that says so."""
    hidden = [entry for entry in folder.iterdir() if entry.name.endswith(".whole")]
    return any(content_of(one) == "new" for one in (folder / "run", *hidden))


def has_foreign(path: Path) -> bool:
    """Whether all of the user's own files are in a folder."""
    return all((path / name).is_file() and (path / name).read_text() == FOREIGN[name] for name in FOREIGN)


def prepare_parts(path: Path) -> None:
    """Parts of the run that is to be saved."""
    for number in (0, 1):
        write_part(path, number, str(number).encode())


def observe(count: int, then: str, *, before: str, is_exchanged: bool) -> dict[str, Any]:
    """What lies where after a kill, and after what is done then.

    Args:
        count: The operation that the process does not live to do.
        then: "load" the run, "save" another one there, save one "elsewhere" in the folder, or have the run "moved" away
            and load the name that it had.
        before: What lies there: "nothing", a "run", or "parts".
        is_exchanged: Whether the system can exchange folders.
    """
    folder = Path(tempfile.mkdtemp())
    path, moved = folder / "run", folder / "moved"
    {"nothing": lambda _: None, "run": prepare, "parts": prepare_parts}[before](path)
    is_killed = save_and_be_killed(path, count, overwrite=before == "run", is_exchanged=is_exchanged)
    seen: dict[str, Any] = {"killed": is_killed}
    seen |= {"then": then, "at_once": content_of(path), "was_whole": is_whole(folder)}
    if then == "moved" and path.exists():
        path.rename(moved)
    seen["hidden"] = _recovery.recover_run(path) if then in {"load", "moved"} else None
    if then in {"save", "elsewhere"}:
        write_folder(path if then == "save" else folder / "other", NEXT, overwrite=True)
    seen |= {"after": content_of(path), "moved": content_of(moved)}
    seen["foreign"] = has_foreign(moved if moved.exists() else path)
    seen["parts"] = [one.name for one in (path, moved) if (one / PARTS_FOLDER).exists()]
    write_folder(folder / "last", NEXT, overwrite=True)
    seen["left"] = sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("."))
    seen["names"] = sorted(entry.name for entry in folder.iterdir())
    return seen


def sweep(*, before: str, is_exchanged: bool) -> list[dict[str, Any]]:
    """What is observed for the first operation, the second one, ... until a save is through."""
    seen: list[dict[str, Any]] = []
    count = 0
    while not seen or seen[-1]["killed"]:
        count += 1
        seen += [observe(count, then, before=before, is_exchanged=is_exchanged) for then in THEN]
    return seen


if __name__ == "__main__":
    os.fsync = lambda descriptor: None  # noqa: ARG005 - what is written outlives a process
    sys.stdout.write(json.dumps(sweep(before=sys.argv[1], is_exchanged=sys.argv[2] == "yes")))
