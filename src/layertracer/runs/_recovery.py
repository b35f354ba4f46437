"""What a save that was killed left behind: put in its place, or cleaned up."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from layertracer.runs._full_paths import full_path
from layertracer.runs._locks import hold, let_go
from layertracer.runs._schema import OWN_FILES, REPORT_FILE
from layertracer.runs._siblings import (
    CLAIM,
    FILE,
    GONE,
    NEW,
    OLD,
    WHOLE,
    abandoned,
    name_limit,
    shorten_name,
    stem_of,
    token_of,
    with_purpose,
)

_UNFINISHED_REPORT = re.compile(rf"\.{re.escape(REPORT_FILE)}\.layertracer-[0-9a-f]{{16}}\.{FILE}")


def recover_run(path: Path) -> Path | None:
    """Put back a run that a killed save left beside its place, where nothing is there.

    Args:
        path: The run folder.

    Returns:
        Where the run lies if it could not be put back; None if it could, or if there is none.
    """
    path = full_path(path)
    if os.path.lexists(path) or not path.parent.is_dir():
        return None
    with abandoned(path.parent, stem_of(path)) as groups:
        for _, group in groups:
            whole = group.get(WHOLE) or group.get(OLD)
            if whole is None:
                continue
            try:
                _put_back(group, path)
            except OSError:
                return whole
            return None
    return None


def put_back_old(path: Path) -> None:
    """Put back a run that had stepped aside for another one when the process was killed.

    Raises:
        OSError: If the system refuses.
    """
    if os.path.lexists(path):
        return
    with abandoned(path.parent, stem_of(path)) as groups:
        for _, group in groups:
            if OLD in group:
                _put_back(group, path)
                return


def clean_up(folder: Path, path: Path) -> None:
    """Remove what killed saves left in a folder; whole runs whose place is empty are put there.

    Args:
        folder: The folder.
        path: The run in it that was just saved.
    """
    with abandoned(folder) as groups:
        for stem, group in groups:
            target = path if stem == stem_of(path) else folder / stem
            with contextlib.suppress(OSError):  # cleaning up is a courtesy: the run is saved
                _settle(group, target, is_known="~" not in stem or target == path)
    for mark in folder.glob(f".*{CLAIM}"):
        with contextlib.suppress(OSError):
            _remove_abandoned_claim(mark)


def clean_up_files(path: Path) -> None:
    """Remove what killed processes left of a file that they were writing."""
    with abandoned(path.parent, stem_of(path)) as groups:
        for _, group in groups:
            if FILE in group:
                with contextlib.suppress(OSError):
                    os.unlink(group[FILE])


def remove_own(folder: Path) -> None:
    """Remove a folder in which nothing is but LayerTracer's own files; one that holds anything else stays."""
    entries = sorted(os.listdir(folder))
    if all(_is_own(folder, name) for name in entries):
        for name in entries:
            os.unlink(folder / name)
        os.rmdir(folder)


def hand_over(source: Path, path: Path) -> None:
    """Move what LayerTracer did not write out of an old run into the new one.

    Args:
        source: The old run, hidden.
        path: The new one.

    Raises:
        OSError: If one cannot be moved; those before it are moved back.
    """
    moved: list[tuple[Path, Path]] = []
    try:
        for name in sorted(os.listdir(source)):
            if _is_own(source, name):
                continue
            target = path / name
            if os.path.lexists(target):
                target = path / shorten_name(f"{name}.{token_of(source)}", name_limit(path))
            os.rename(source / name, target)
            moved.append((source / name, target))
    except BaseException:
        for origin, target in reversed(moved):
            os.rename(target, origin)
        raise


def discard(folder: Path) -> None:
    """Remove a hidden run, by a name that says that it is no run any more."""
    gone = with_purpose(folder, GONE)
    os.rename(folder, gone)
    remove_own(gone)


def _remove_abandoned_claim(mark: Path) -> None:
    if mark.is_symlink() or not mark.is_file():
        return
    descriptor = hold(mark)
    if descriptor is not None:
        os.unlink(mark)
        let_go(descriptor)


def _is_own(folder: Path, name: str) -> bool:
    is_named_so = name in OWN_FILES or name == REPORT_FILE or _UNFINISHED_REPORT.fullmatch(name)
    return bool(is_named_so) and (not (folder / name).is_dir() or (folder / name).is_symlink())


def _put_back(group: dict[str, Path], path: Path) -> None:
    """The new run where it is whole, with what its predecessor held of the user's; else the old one."""
    if WHOLE in group:
        os.rename(group[WHOLE], path)
    elif OLD in group:
        os.rename(group[OLD], path)
        return
    if OLD in group:
        hand_over(group[OLD], path)
        discard(group[OLD])


def _settle(group: dict[str, Path], path: Path, *, is_known: bool) -> None:
    """What to do about the remains of one save, nobody of whom lives.

    Args:
        group: Its siblings.
        path: Where it was to save, as far as that is known.
        is_known: Whether it is: names that were cut do not tell.
    """
    if FILE in group:
        os.unlink(group[FILE])
    for purpose in (NEW, GONE):
        if purpose in group:
            remove_own(group[purpose])
    if not is_known:
        return
    if not os.path.lexists(path):
        _put_back(group, path)
        return
    for purpose in (WHOLE, OLD):
        if purpose in group and path.is_dir():
            hand_over(group[purpose], path)
            discard(group[purpose])
