"""Sweep of converted copies that nobody will use again, when something new is written beside them."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from layertracer.models._converted.copies import remove_entry

logger = logging.getLogger("layertracer")

_DAY_S = 86_400.0
_COPY = re.compile(r"(?P<source>[0-9a-f]{64}-converter)(?P<version>\d{1,9})(?P<library>-transformers\d{1,9})")
_LOCK = re.compile(rf"(?P<entry>{_COPY.pattern})\.lock")
_UNFINISHED = re.compile(r"\.([0-9a-f]{16}|removed)-[a-z0-9_]{8}\.part")


def sweep_copies(entry: Path) -> None:
    """Remove beside a converted copy what is never used again, by our own names only, and say so.

    That is: copies of the same file by earlier converters for the same transformers; locks that nobody holds of copies
    that are gone; and what was left unfinished more than a day ago. What fails stays. Links are never followed.

    Args:
        entry: The copy that was just made.
    """
    removed = [path.name for path in (*_older(entry), *_left_over(entry)) if _is_removed(path)]
    # Last, and beginning with the locks of what was just removed.
    removed += [path.name for path in _named(entry.parent, _LOCK) if path.name[:-5] != entry.name and _unlocked(path)]
    if removed:
        logger.info("Removed from %s what is not used any more: %s.", entry.parent, ", ".join(removed))


def _older(entry: Path) -> Iterator[Path]:
    own = _COPY.fullmatch(entry.name)
    for path in _named(entry.parent, _COPY):
        other = _COPY.fullmatch(path.name)
        if own is None or other is None:
            continue
        is_alike = all(own[part] == other[part] for part in ("source", "library"))
        if is_alike and int(other["version"]) < int(own["version"]):
            yield path


def _left_over(entry: Path) -> Iterator[Path]:
    for path in _named(entry.parent, _UNFINISHED):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > _DAY_S:
                yield path


def _named(folder: Path, form: re.Pattern[str]) -> list[Path]:
    with contextlib.suppress(OSError):
        return [folder / name for name in sorted(os.listdir(folder)) if form.fullmatch(name)]
    return []


def _is_removed(path: Path) -> bool:
    """Remove a folder of ours; a link or a file in its place is not ours."""
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            if path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
            else:
                remove_entry(path)
            return not os.path.lexists(path)
    return False


def _unlocked(path: Path) -> bool:
    """Remove the lock of a copy that is gone, unless somebody holds it."""
    with contextlib.suppress(OSError, Timeout, NotImplementedError):  # the last: a file system without locks
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_size == 0 and not os.path.lexists(path.with_suffix("")):
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
            return True
    return False
