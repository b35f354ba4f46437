"""A new run that takes the place of an old one."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from layertracer._types import read_plain_file
from layertracer.runs._folders.exchange import exchange
from layertracer.runs._folders.kinds import RUN, kinds_at
from layertracer.runs._folders.locks import hold, let_go
from layertracer.runs._folders.own_files import discard, hand_over, holds_more_than_parts, marker_of, unmark
from layertracer.runs._folders.siblings import OLD, sibling_of, token_of
from layertracer.runs._schema import LARGEST_HEADER_BYTES


def put_in_place(whole: Path, path: Path) -> None:
    """Rename; an old run changes places with the new one, or steps aside where the system cannot do that at once.

    What is the user's in the old run goes into the new one.

    Raises:
        OSError: If the system refuses; the old run is at its place then.
    """
    if not is_occupied(path):
        if os.name != "posix" and path.exists():
            path.rmdir()
        os.rename(whole, path)  # in place of an empty folder, too
    else:
        with _held(path):  # by its other name it must not be taken for abandoned
            if exchange(whole, path):
                _replace_at_once(whole, path)
            else:
                _replace_in_two_steps(whole, path)
    unmark(path, token_of(whole))


def finish(old: Path, path: Path) -> None:
    """End a save: what is the user's in the old run goes into the new one, the rest away.

    Raises:
        OSError: If something cannot be moved; nothing is then.
    """
    hand_over(old, path)
    _end(old, path)


def identify(path: Path) -> str:
    """What tells the run at a path from any other; "" where none can be read."""
    header = next(kinds_at(path), RUN).header
    try:
        return hashlib.sha256(read_plain_file(path / header, limit=LARGEST_HEADER_BYTES)).hexdigest()
    except OSError:
        return ""


def is_meant_for(whole: Path, path: Path) -> bool:
    """Whether a new run may still take the place that its save was to give it.

    That is so where nothing is there, the very run that was there then, or parts of one that was not finished. Another
    user's never takes the place of any: where anybody may write, anybody may leave one.
    """
    if not os.path.lexists(path):
        return True
    if not path.is_dir():
        return False
    if not is_occupied(path):
        return True
    try:
        replaced = read_plain_file(whole / marker_of(token_of(whole)), limit=64).decode("ascii", "replace")
        is_of_same_user = os.lstat(whole).st_uid == os.lstat(path).st_uid
    except OSError:
        return False
    is_what_was_there = replaced == identify(path) and (bool(replaced) or not holds_more_than_parts(path))
    return is_of_same_user and is_what_was_there


def is_occupied(path: Path) -> bool:
    """Whether more than an empty folder is at a path."""
    return path.exists() and any(path.iterdir())


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    try:
        descriptor = hold(path)
    except BlockingIOError:  # somebody else replaces it at the same time: whoever is last is there
        descriptor = None
    try:
        yield
    finally:
        let_go(descriptor)


def _replace_at_once(old: Path, path: Path) -> None:
    """After the exchange, by which the hidden name is the old run's."""
    try:
        hand_over(old, path)
    except BaseException:  # an interruption too: the old run is put back, and it goes on
        exchange(old, path)
        raise
    _end(old, path)


def _replace_in_two_steps(whole: Path, path: Path) -> None:
    old = sibling_of(path, OLD, token=token_of(whole))
    os.rename(path, old)
    try:
        os.rename(whole, path)
        hand_over(old, path)
    except BaseException:  # likewise
        if path.exists():
            os.rename(path, whole)
        os.rename(old, path)
        raise
    _end(old, path)


def _end(old: Path, path: Path) -> None:
    """Remove an old run in which nothing of the user's is left, and say that the save has ended."""
    with contextlib.suppress(OSError):  # the run is saved: the next save removes what is left of the old one
        discard(old)
    unmark(path, token_of(old))
