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

from layertracer.runs import _folder, _recovery
from layertracer.runs._folder import write_folder

OLD, NEW = ({"layers.parquet": text, "run.json": text} for text in (b"old", b"new"))
FOREIGN = {"notes.txt": "mine", "figures/curve.svg": "<svg/>"}
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
    _folder.exchange = counted(_folder.exchange if is_exchanged else lambda one, other: False)  # noqa: ARG005


def save_and_be_killed(path: Path, count: int, *, overwrite: bool, is_exchanged: bool) -> bool:
    """Whether the save was killed."""
    child = os.fork()
    if child == 0:
        kill_at(count, is_exchanged=is_exchanged)
        write_folder(path, NEW, overwrite=overwrite)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


def content_of(path: Path) -> str | None:
    """Which run lies at a path, whole: "old" or "new"; None where nothing lies."""
    if not path.exists():
        return None
    contents = {(path / name).read_text() for name in OLD}
    return contents.pop() if len(contents) == 1 else "mixed"


def prepare(path: Path) -> None:
    """An old run, with files of the user's in it."""
    write_folder(path, OLD, overwrite=False)
    for name, text in FOREIGN.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text)


def observe(count: int, *, overwrite: bool, is_exchanged: bool, saves_elsewhere: bool) -> dict[str, Any]:
    """What lies at the path after a kill, what after it is looked for, and what after the next save."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "run"
    if overwrite:
        prepare(path)
    killed = save_and_be_killed(path, count, overwrite=overwrite, is_exchanged=is_exchanged)
    at_once = content_of(path)
    hidden = _recovery.recover_run(path)
    after_look = content_of(path)
    write_folder(folder / "other" if saves_elsewhere else path, OLD, overwrite=True)
    return {
        "killed": killed,
        "at_once": at_once,
        "hidden": hidden,
        "after_look": after_look,
        "at_last": content_of(path),
        "left": sorted(entry.name for entry in folder.iterdir() if entry.name.startswith(".")),
        "foreign": all((path / name).is_file() and (path / name).read_text() == FOREIGN[name] for name in FOREIGN),
    }


def sweep(*, overwrite: bool, is_exchanged: bool) -> list[dict[str, Any]]:
    """What is observed for the first operation, the second one, ... until a save is through."""
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["killed"]:
        count = len(seen) // 2 + 1
        elsewhere = len(seen) % 2 == 0
        seen.append(observe(count, overwrite=overwrite, is_exchanged=is_exchanged, saves_elsewhere=elsewhere))
    return seen


if __name__ == "__main__":
    _overwrite, _is_exchanged = (argument == "yes" for argument in sys.argv[1:])
    sys.stdout.write(json.dumps(sweep(overwrite=_overwrite, is_exchanged=_is_exchanged)))
