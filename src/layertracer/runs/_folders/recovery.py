"""What a save that was killed left behind: put in its place, or cleaned up."""

from __future__ import annotations

import contextlib
import itertools
import os
import warnings
from pathlib import Path

from layertracer.runs._folders.full_paths import full_path
from layertracer.runs._folders.kinds import kinds_at
from layertracer.runs._folders.locks import hold, let_go
from layertracer.runs._folders.own_files import is_marked, marked_tokens, remove_own, unmark
from layertracer.runs._folders.replacement import finish, is_meant_for, is_occupied, put_in_place
from layertracer.runs._folders.siblings import (
    CLAIM,
    FILE,
    GONE,
    NEW,
    OLD,
    WHOLE,
    abandoned,
    has_siblings,
    name_limit,
    shorten_name,
    stem_of,
    token_of,
)


def recover_run(path: Path) -> str | None:
    """End the saves to a path that were killed, before a run is read there.

    A new run takes its place where nothing else has; the user's files come out of the run that it replaced. A run that
    was replaced is never put back.

    Args:
        path: The run folder.

    Returns:
        Where nothing is at the path all the same, what a killed save left of it, in words; None where it left nothing.
    """
    path = full_path(path)
    left = None
    tokens = marked_tokens(path)
    with abandoned(path.parent, None if tokens else stem_of(path)) as groups:
        for stem, group in groups:
            token = _token(group)
            if stem != stem_of(path) and token not in tokens:
                continue
            try:
                is_ended = _complete(group, path)
            except OSError:
                is_ended = False
            if not is_ended and left is None:
                left = _describe(group, path)
    for token in tokens:
        if not has_siblings(path.parent, token):
            unmark(path, token)
    return None if os.path.lexists(path) else left


def put_back(path: Path) -> None:
    """End the saves to a path that were killed, before another one begins.

    Raises:
        OSError: If nothing is there and the system refuses to put a new run there that is whole.
    """
    with abandoned(path.parent, stem_of(path)) as groups:
        for _, group in groups:
            try:
                _complete(group, path)
            except OSError:
                if not os.path.lexists(path):
                    raise


def clean_up(folder: Path, path: Path) -> None:
    """Remove what killed saves left in a folder; whole runs are put in their place, or kept under another name.

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


def _remove_abandoned_claim(mark: Path) -> None:
    if mark.is_symlink() or not mark.is_file():
        return
    descriptor = hold(mark)
    if descriptor is not None:
        os.unlink(mark)
        let_go(descriptor)


def _token(group: dict[str, Path]) -> str:
    return token_of(next(iter(group.values())))


def _split(group: dict[str, Path]) -> tuple[Path | None, Path | None]:
    """The new run of a save and the old one that it replaced, as far as they are hidden.

    The name of the one is the other's after an exchange: the marker tells them apart.
    """
    whole = group.get(WHOLE)
    if whole is not None and is_marked(whole, token_of(whole)):
        return whole, group.get(OLD)
    return None, group.get(OLD, whole)


def _complete(group: dict[str, Path], path: Path) -> bool:
    """End one save to a path, and say whether that could be done.

    Raises:
        OSError: If the system refuses.
    """
    new, old = _split(group)
    if new is not None:
        if not is_meant_for(new, path) or (old is not None and is_occupied(path)):
            return False
        if old is not None:  # it had stepped aside: the new one keeps its marker until nothing is left in there
            os.rename(new, path)
            finish(old, path)
        else:
            put_in_place(new, path)
        return True
    if old is None:
        return True
    successor = _find_successor(token_of(old), path)
    if successor is None:
        return False
    finish(old, successor)
    return True


def _find_successor(token: str, path: Path) -> Path | None:
    """The run that the save of a token put at a path, wherever in its folder it lies by now."""
    if is_marked(path, token):
        return path
    with os.scandir(path.parent) as entries:
        folders = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return next((folder for folder in folders if is_marked(folder, token)), None)


def _describe(group: dict[str, Path], path: Path) -> str | None:
    new, old = _split(group)
    if new is not None:
        return f"a save that was killed left it at {new}. Rename it to {path}."
    if old is not None:
        return (
            f"a save replaced it, was killed, and the new run was moved away since. The one that was replaced lies at "
            f"{old}, with what else was in it."
        )
    return None


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
    new, old = _split(group)
    if new is not None and not is_known:
        return
    if _complete(group, path):
        return
    if new is not None:
        _keep_beside(new, old, path)
    elif old is not None and is_known and any(kinds_at(path)):
        finish(old, path)
    elif old is not None:
        remove_own(old)


def _keep_beside(new: Path, old: Path | None, path: Path) -> None:
    """Give a new run a name that is seen, where another one has taken its place; and say so."""
    stem = shorten_name(path.name, name_limit(path.parent) - len("-rescued-9999"))
    names = itertools.chain([f"{stem}-rescued"], (f"{stem}-rescued-{number}" for number in itertools.count(2)))
    kept = next(path.parent / name for name in names if not os.path.lexists(path.parent / name))
    os.rename(new, kept)
    if old is not None:
        finish(old, kept)
    unmark(kept, token_of(new))
    warnings.warn(
        f"A save to {path} was killed when its run was whole, and something else lies there by now. It was kept as "
        f"{kept}.",
        stacklevel=2,
    )
