"""Where a run is written."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from layertracer.cli._console import say_aside

if TYPE_CHECKING:
    from layertracer.api import Trace
    from layertracer.runs import FolderClaim
else:  # under test, annotations are looked up when a function is called
    Trace = FolderClaim = object

_RUNS = Path("runs")
_MANY = "-9999"
"""The longest number that tells traces of one second apart."""


def default_run_folders(model: str, task: str, *, now: datetime | None = None) -> Iterator[Path]:
    """Folders under `runs` named after the model, the task and the time, numbered from the second on.

    Example:
        >>> next(default_run_folders("Qwen/Qwen3-0.6B", "antonym", now=datetime(2026, 1, 2, 3, 4, 5))).name
        'Qwen3-0.6B-antonym-20260102-030405'
    """
    from layertracer.runs import name_limit, shorten_name

    moment = f"-{now or datetime.now().astimezone():%Y%m%d-%H%M%S}"
    room = name_limit(_RUNS) - len(moment) - len(_MANY)
    name = shorten_name(f"{_short_name(model)}-{_short_name(task)}", room).replace("~", "-") + moment
    yield _RUNS / name
    for number in itertools.count(2):
        yield _RUNS / f"{name}-{number}"


def _short_name(text: str) -> str:
    """The last part of a path or an id, with nothing in it that a shell or a file system minds."""
    last = re.split(r"[/\\]", text.rstrip("/\\"))[-1].removeprefix("text:")
    last = re.sub(r"\.(csv|gguf|jsonl?|tsv|txt)$", "", last)
    return re.sub(r"[^\w.+-]+", "-", last, flags=re.ASCII).strip("-.") or "run"


@contextlib.contextmanager
def reserving(out: Path | None, *, model: str, task: str, overwrite: bool) -> Iterator[Path]:
    """The folder of a run, which nobody else is given within; nothing is left of that where nothing is saved.

    Args:
        out: The folder that was asked for; None for a new one under `runs`.
        model: Name of the model.
        task: Name of the task.
        overwrite: Whether a run that lies there may be replaced.

    Raises:
        RunError: If no run can be saved there, or another trace that runs is going to.
    """
    folder, claim = _reserve(out, model=model, task=task, overwrite=overwrite)
    if claim.note is not None:
        say_aside(f"Note: {claim.note}")
    try:
        yield folder
    finally:
        claim.release()


def _reserve(out: Path | None, *, model: str, task: str, overwrite: bool) -> tuple[Path, FolderClaim]:
    from layertracer import RunError
    from layertracer.runs import claim_folder

    folders = default_run_folders(model, task) if out is None else iter((out,))
    for folder in folders:
        if out is None and folder.exists():
            continue
        claim = claim_folder(folder, overwrite=overwrite)
        if claim is not None:
            return folder, claim
    raise RunError(
        f"Another trace that is running is going to save its run to {out}. Wait until it is done, or give another path."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """Where a run was saved.

    Attributes:
        run: The folder.
        is_as_asked: Whether it lies where it was asked for.
    """

    run: Path
    is_as_asked: bool = True


def save_trace(trace: Trace, folder: Path, *, overwrite: bool, is_asked: bool = True) -> Saved:
    """Save a run; where that fails, beside its folder, here, among temporary files or at home: no work is lost.

    Args:
        trace: The run.
        folder: Where it is to lie.
        overwrite: Whether a run that lies there is replaced.
        is_asked: Whether this very folder was asked for; otherwise any beside it will do.

    Raises:
        RunError: If it can be saved nowhere.
    """
    try:
        return Saved(run=_save_once(trace, folder, overwrite=overwrite))
    except Exception as error:  # whatever keeps it from its place: the next one is tried
        say_aside(f"Warning: {error}")
        run = _rescue(trace, folder)
        if run is None:
            raise
        say_aside(f"The run was saved to {run} instead.")
        return Saved(run=run, is_as_asked=not is_asked and run.parent == folder.parent)


def _save_once(trace: Trace, folder: Path, *, overwrite: bool) -> Path:
    """Save a run, once more where something interrupts it all the same."""
    from layertracer.api import load_run

    try:
        return trace.save(folder, overwrite=overwrite)
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):  # whatever keeps it from being read: it is saved once more
            if load_run(folder) == trace:
                return folder
        return trace.save(folder, overwrite=overwrite)


def _rescue(trace: Trace, folder: Path) -> Path | None:
    """Where a run was saved that could not go where it was to go; None if that is nowhere."""
    for find in _rescue_places(folder):
        # A folder that is gone, a circle of links, a home that nobody knows: each place is tried on its own.
        with contextlib.suppress(Exception):
            return trace.save(find())
    return None


def _rescue_places(folder: Path) -> Iterator[Callable[[], Path]]:
    """What finds the places where a run may go that cannot go where it was to go, the nearest first."""
    yield lambda: _free_place(folder.expanduser().parent, folder.name)
    yield lambda: _free_place(Path.cwd(), folder.name)
    yield lambda: _free_place(_new_temporary_folder(), folder.name)
    yield lambda: _free_place(Path.home(), folder.name)


def _free_place(parent: Path, name: str) -> Path:
    from layertracer.runs import name_limit, shorten_name

    stem = shorten_name(name or "run", name_limit(parent) - len(f"-rescued{_MANY}"))
    names = itertools.chain([f"{stem}-rescued"], (f"{stem}-rescued-{number}" for number in itertools.count(2)))
    return next(parent / one for one in names if not os.path.lexists(parent / one))


def _new_temporary_folder() -> Path:
    """A folder among temporary files, with a name of its own so that it is found."""
    return Path(tempfile.mkdtemp(prefix="layertracer-"))
