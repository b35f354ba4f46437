"""The commit of a working folder, read from Git's own files. No program is run.

`git` itself runs programs that a folder's `.git/config` names (`core.fsmonitor`, filters, hooks), and the folder may
be somebody else's: an unpacked checkpoint with its `.git`. Here files are read, nothing else, and whatever in them is
not a commit's id is no commit.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from layertracer._types import read_plain_file

_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MOST_REFERENCES = 5
"""How many references may name one another before there is an id; Git allows as many."""

_MOST_BYTES = 4096
"""The longest file that holds an id, a reference or a path."""

_MOST_PACKED_BYTES = 64 * 2**20
_LONGEST_NAME = 1024


def read_commit(folder: Path) -> str | None:
    """The id of the commit at which a folder's repository is.

    Nothing but regular files inside the repository is read, links to files outside of it are not followed. Who owns the
    repository makes no difference: reading does no harm.

    Args:
        folder: A folder in the working tree.

    Returns:
        40 hexadecimal digits, or 64 in a SHA-256 repository; None outside a repository, before its first commit, where
        references are stored in a reftable, and where a file holds anything else than it should.
    """
    try:
        repository = _find_repository(folder)
        return None if repository is None else _resolve(repository, _read(repository, "HEAD"))
    except (OSError, ValueError):
        return None


def _find_repository(folder: Path) -> Path | None:
    """The nearest `.git` upwards, resolved; of a worktree or a submodule the folder that its `.git` file names."""
    ceilings = {Path(path) for path in os.environ.get("GIT_CEILING_DIRECTORIES", "").split(os.pathsep) if path}
    for place in (folder, *folder.parents):
        git = place / ".git"
        if git.is_file():
            named = _read_named_path(git, "gitdir: ")
            git = git if named is None else place / named
        if (git / "HEAD").is_file():
            return git.resolve()
        if place.parent in ceilings:
            return None
    return None


def _read_named_path(path: Path, prefix: str) -> Path | None:
    text = read_plain_file(path, limit=_MOST_BYTES).decode("utf-8").rstrip("\r\n")
    return Path(text.removeprefix(prefix)) if text.startswith(prefix) and "\n" not in text else None


def _common_folder(repository: Path) -> Path:
    """Where the references lie that all worktrees share."""
    pointer = repository / "commondir"
    named = _read_named_path(pointer, "") if pointer.is_file() else None
    return repository if named is None else (repository / named).resolve()


def _resolve(repository: Path, content: str | None) -> str | None:
    """The id that the content of a reference stands for, through at most a few other references."""
    common = _common_folder(repository)
    for _ in range(_MOST_REFERENCES):
        text = (content or "").strip()
        if _ID.fullmatch(text):
            return text
        name = text.removeprefix("ref: ").strip()
        if not (text.startswith("ref: ") and _is_safe_name(name)):
            return None
        content = _read(repository, name) or _read(common, name) or _read_packed(common, name)
    return None


def _is_safe_name(name: str) -> bool:
    """Whether a reference's name is one that Git would make, and so stays below `refs`."""
    parts = name.split("/")
    is_plain = all(part and not part.startswith(".") and ".." not in part for part in parts)
    return (
        is_plain
        and parts[0] == "refs"
        and len(parts) > 1
        and len(name) <= _LONGEST_NAME
        and not re.search(r"[\x00-\x20\x7f\\:?*\[~^]", name)
    )


def _read(folder: Path, name: str) -> str | None:
    """The text of a small file of a repository; None where there is none, or a link leads to another one."""
    path = folder / name
    if not path.is_file() or os.path.realpath(path) != str(path):
        return None
    return read_plain_file(path, limit=_MOST_BYTES).decode("utf-8", "replace")


def _read_packed(common: Path, name: str) -> str | None:
    """The id of a packed reference."""
    path = common / "packed-refs"
    if not path.is_file() or os.path.realpath(path) != str(path):
        return None
    content = read_plain_file(path, limit=_MOST_PACKED_BYTES)
    wanted = b" " + name.encode()
    found = (line.removesuffix(wanted) for line in content.splitlines() if line.endswith(wanted))
    return next((line.decode("ascii", "replace") for line in found), None)
