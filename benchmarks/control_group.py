"""A memory control group of the kernel, in which a process that takes more than its limit is killed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ROOTS = ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max"))
"""Where groups are made, of version 1 and of version 2, and which of their files holds the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlGroup:
    """A group that this program made.

    Attributes:
        folder: Where the kernel shows it.
        limit_file: Name of the file that holds its limit.
    """

    folder: Path
    limit_file: str

    def join(self, pid: int) -> None:
        """Take a process in: what it takes from now on is counted here."""
        (self.folder / "cgroup.procs").write_text(str(pid), encoding="ascii")

    def limit(self, more_bytes: int) -> int:
        """Allow what is resident now, files that were read and are not mapped left out, and that much more."""
        stat = dict(line.split() for line in (self.folder / "memory.stat").read_text("ascii").splitlines())
        resident = int(stat.get("rss", stat.get("anon", 0))) + int(stat.get("mapped_file", stat.get("file_mapped", 0)))
        limit = resident + more_bytes
        (self.folder / self.limit_file).write_text(str(limit), encoding="ascii")
        return limit


@contextmanager
def control_group(name: str) -> Iterator[ControlGroup | None]:
    """A group for the length of the block; None where the system gives none to this user."""
    group = _make(name)
    try:
        yield group
    finally:
        for _ in range(50 if group else 0):
            with contextlib.suppress(OSError):
                group.folder.rmdir()  # type: ignore[union-attr]  # there is one
                break
            time.sleep(0.1)  # the kernel takes a moment to forget the last process


def _make(name: str) -> ControlGroup | None:
    for root, limit_file in _ROOTS:
        folder = root / name
        with contextlib.suppress(OSError):
            folder.mkdir()
            if (folder / limit_file).exists():
                return ControlGroup(folder=folder, limit_file=limit_file)
            folder.rmdir()
    return None
