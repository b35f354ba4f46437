"""What in a run folder is LayerTracer's own, and how the rest gets from an old run into a new one."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from layertracer.runs._folders.kinds import own_names
from layertracer.runs._folders.siblings import FILE, GONE, name_limit, shorten_name, token_of, with_purpose
from layertracer.runs._parts import PARTS_FOLDER, holds_only_parts, remove_parts
from layertracer.runs._schema import REPORT_FILE

_UNFINISHED_REPORT = re.compile(rf"\.{re.escape(REPORT_FILE)}\.layertracer-[0-9a-f]{{16}}\.{FILE}")
_MARKER = re.compile(r"\.layertracer-(?P<token>[0-9a-f]{16})\.placing")


def marker_of(token: str) -> str:
    """Name of the file in a new run that says that its save has not ended.

    It goes with the folder, whatever the folder is called. So a hidden sibling that has it is a new run that never came
    to its place; one that has not is an old run that was replaced; and a run that has it is the one that replaced it.
    """
    return f".layertracer-{token}.placing"


def is_marked(folder: Path, token: str) -> bool:
    """Whether a folder is the new run of the save of that token."""
    return os.path.lexists(folder / marker_of(token))


def marked_tokens(folder: Path) -> list[str]:
    """Tokens of the saves that put a folder where it is and have not ended."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [form["token"] for name in names if (form := _MARKER.fullmatch(name))]


def unmark(folder: Path, token: str) -> None:
    """Say that a save has ended."""
    with contextlib.suppress(OSError):  # what stays says something of a sibling that is not there
        os.unlink(folder / marker_of(token))


def remove_own(folder: Path) -> None:
    """Remove a folder in which nothing is but LayerTracer's own files; one that holds anything else stays."""
    entries, own = sorted(os.listdir(folder)), own_names(folder)
    if all(_is_own(folder, name, own) for name in entries):
        remove_parts(folder)
        for name in entries:
            if name != PARTS_FOLDER:
                os.unlink(folder / name)
        os.rmdir(folder)


def holds_more_than_parts(path: Path) -> bool:
    """Whether anything is in a folder but parts of a run that is not finished."""
    names = os.listdir(path)
    return bool(names) and not (names == [PARTS_FOLDER] and holds_only_parts(path / PARTS_FOLDER))


def hand_over(source: Path, path: Path) -> None:
    """Move what LayerTracer did not write out of an old run into the new one.

    Args:
        source: The old run, hidden.
        path: The new one.

    Raises:
        OSError: If one cannot be moved; those before it are moved back.
    """
    moved: list[tuple[Path, Path]] = []
    own = own_names(source)
    try:
        for name in sorted(os.listdir(source)):
            if _is_own(source, name, own):
                continue
            target = path / name
            if os.path.lexists(target):
                target = path / shorten_name(f"{name}.{token_of(source)}", name_limit(path))
            os.rename(source / name, target)
            moved.append((source / name, target))
    except BaseException:  # an interruption too: all is put back, and it goes on
        for origin, target in reversed(moved):
            os.rename(target, origin)
        raise


def discard(folder: Path) -> None:
    """Remove a hidden run, by a name that says that it is no run any more."""
    gone = with_purpose(folder, GONE)
    os.rename(folder, gone)
    remove_own(gone)


def _is_own(folder: Path, name: str, own: frozenset[str]) -> bool:
    if name == PARTS_FOLDER:
        return holds_only_parts(folder / name)
    is_named_so = name in own or name == REPORT_FILE or _UNFINISHED_REPORT.fullmatch(name) or _MARKER.fullmatch(name)
    return bool(is_named_so) and (not (folder / name).is_dir() or (folder / name).is_symlink())
