"""Hidden siblings of a run or a file: what is being written beside it, and what a killed process left there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from layertracer.runs._folders.locks import hold, let_go

NEW, WHOLE, OLD, GONE, FILE = "new", "whole", "old", "gone", "tmp"
"""A run that is being written; one that is written; one that stepped aside; one to be removed; a file being written."""

CLAIM = ".layertracer-claim"
"""Suffix of the file that is locked while a run is made."""

_FORM = re.compile(
    r"\.(?P<stem>.+)\.layertracer-(?P<token>[0-9a-f]{16})\.(?P<purpose>new|whole|old|gone|tmp)", re.DOTALL
)
_N_AROUND = len(f"..layertracer-{'0' * 16}.{WHOLE}")
_N_HASH = 8
_FORGOTTEN_S = 86_400.0
"""Age at which a sibling counts as left behind where the file system knows no locks."""


def name_limit(folder: Path) -> int:
    """Bytes that a name may have in a folder, which need not exist yet."""
    try:
        nearest = next(parent for parent in (folder, *folder.absolute().parents) if os.path.exists(parent))
        return os.pathconf(nearest, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows; a file system that does not say; no current folder
        return 255


def shorten_name(name: str, limit: int) -> str:
    """A name of at most that many bytes, cut between characters; a hash of the whole keeps those that are cut apart.

    Example:
        >>> shorten_name("a" * 12, 12), shorten_name("a" * 13, 12)
        ('aaaaaaaaaaaa', 'aaa~a689d786')
    """
    if len(os.fsencode(name)) <= limit:
        return name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:_N_HASH]
    while len(os.fsencode(name)) > limit - _N_HASH - 1:
        name = name[:-1]
    return f"{name}~{digest}"


def stem_of(path: Path) -> str:
    """What the names of a path's siblings have in common."""
    return shorten_name(path.name, name_limit(path.parent) - _N_AROUND)


def sibling_of(path: Path, purpose: str, *, token: str | None = None) -> Path:
    """A name beside `path` that nobody else uses; on the same disk, so that renaming is atomic."""
    return path.parent / f".{stem_of(path)}.layertracer-{token or secrets.token_hex(8)}.{purpose}"


def claim_of(path: Path) -> Path:
    """The file beside `path` that is locked while a run for it is made."""
    return path.parent / f".{stem_of(path)}{CLAIM}"


def token_of(sibling: Path) -> str:
    """What siblings of one save have in common."""
    return sibling.name.split(".")[-2].removeprefix("layertracer-")


def with_purpose(sibling: Path, purpose: str) -> Path:
    """The same sibling by its name for another purpose."""
    return sibling.with_name(f"{sibling.name.rpartition('.')[0]}.{purpose}")


@contextlib.contextmanager
def abandoned(folder: Path, stem: str | None = None) -> Iterator[list[tuple[str, dict[str, Path]]]]:
    """What killed processes left in a folder, as (stem, sibling by purpose) for each save, the latest first.

    They are held within, so that nobody else takes care of them at the same time. Those of living processes are left
    out, and so is whatever is not of our form: links, files where folders should be, other names.

    Args:
        folder: The folder.
        stem: The stem that is asked for; None for all.
    """
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for entry in _entries(folder):
        form = _FORM.fullmatch(entry.name)
        if form and stem in {None, form["stem"]} and _is_of_its_kind(entry, form["purpose"]):
            found.setdefault((form["stem"], form["token"]), {})[form["purpose"]] = Path(entry.path)
    with contextlib.ExitStack() as holds:
        groups = [(key[0], group) for key, group in found.items() if _take(group, holds)]
        groups.sort(key=lambda one: max(_age_s(path) for path in one[1].values()))
        yield groups


def has_siblings(folder: Path, token: str) -> bool:
    """Whether anything of a save lies hidden in a folder, of a living process or not."""
    forms = (_FORM.fullmatch(entry.name) for entry in _entries(folder))
    return any(form is not None and form["token"] == token for form in forms)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _is_of_its_kind(entry: os.DirEntry[str], purpose: str) -> bool:
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) if purpose == FILE else stat.S_ISDIR(mode)


def _take(group: dict[str, Path], holds: contextlib.ExitStack) -> bool:
    """Hold all of a save's siblings; False where their writer lives, or may."""
    for path in group.values():
        try:
            descriptor = hold(path)
        except (BlockingIOError, FileNotFoundError):
            return False
        if descriptor is None and _age_s(path) < _FORGOTTEN_S:
            return False
        holds.callback(let_go, descriptor)
    return True


def _age_s(path: Path) -> float:
    try:
        return time.time() - os.lstat(path).st_mtime
    except OSError:
        return 0.0
