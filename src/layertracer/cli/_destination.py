"""Where a run is written."""

from __future__ import annotations

import contextlib
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from layertracer.cli._console import say_aside

if TYPE_CHECKING:
    from layertracer.api import Trace
else:  # under test, annotations are looked up when a function is called
    Trace = object


def default_run_folder(model: str, task: str, *, now: datetime | None = None) -> Path:
    """A folder under `runs` named after the model, the task and the time; one that does not exist yet.

    Example:
        >>> default_run_folder("Qwen/Qwen3-0.6B", "antonym", now=datetime(2026, 1, 2, 3, 4, 5)).name
        'Qwen3-0.6B-antonym-20260102-030405'
    """
    moment = now or datetime.now().astimezone()
    name = f"{_short_name(model)}-{_short_name(task)}-{moment:%Y%m%d-%H%M%S}"
    folder, count = Path("runs") / name, 1
    while folder.exists():
        count += 1
        folder = Path("runs") / f"{name}-{count}"
    return folder


def _short_name(text: str) -> str:
    """The last part of a path or an id, with nothing in it that a shell or a file system minds."""
    last = re.split(r"[/\\]", text.rstrip("/\\"))[-1].removeprefix("text:")
    last = re.sub(r"\.(csv|gguf|jsonl?|tsv|txt)$", "", last)
    return re.sub(r"[^\w.+-]+", "-", last, flags=re.ASCII).strip("-.") or "run"


def save_trace(trace: Trace, folder: Path, *, overwrite: bool) -> Path:
    """Save a run; where that fails, in a folder for temporary files, so that the work is not lost.

    Raises:
        RunError: If it can be saved nowhere.
    """
    from layertracer import RunError

    with ignoring_interrupts():
        try:
            return trace.save(folder, overwrite=overwrite)
        except RunError as error:
            rescue = Path(tempfile.mkdtemp(prefix="layertracer-")) / folder.name
            saved = trace.save(rescue)
            say_aside(f"Warning: {error}\nThe run was saved to {saved} instead.")
            return saved


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C within, which takes a moment: a second one must not lose what the first one wanted kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
