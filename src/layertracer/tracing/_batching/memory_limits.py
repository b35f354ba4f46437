"""Memory limits: how much this process may still take, by what the machine has free and its limits leave.

In a container or under a scheduler the machine's free memory is not the process's: a control group sets a limit, of
its own or through one of the groups that it is in, and beyond it the kernel ends the process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_PROCESS = Path("/proc/self")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """The files of a control group.

    Attributes:
        limits: Hold a limit each; "max", or a number beyond any memory, is none.
        usage: What its processes take, files that were read included.
        inactive: Name of what the kernel gives up first, in `memory.stat`.
    """

    limits: tuple[str, ...]
    usage: str
    inactive: str


_FILES: Mapping[str, _Files] = {
    "cgroup": _Files(limits=("memory.limit_in_bytes",), usage="memory.usage_in_bytes", inactive="total_inactive_file"),
    # Beyond `memory.high` nothing is killed, but everything stands still while memory is looked for.
    "cgroup2": _Files(limits=("memory.max", "memory.high"), usage="memory.current", inactive="inactive_file"),
}
"""By the type of the file system that shows the groups: those of version 1 and of version 2."""
_NO_LIMIT = 2**60


def free_bytes() -> int:
    """What this process may still take: the least of what is free and of what every limit leaves."""
    available: int = psutil.virtual_memory().available
    return min([available, *rooms_in_groups(), *_rooms_of_process()])


def rooms_in_groups(process: Path = _PROCESS) -> list[int]:
    """What the memory control groups of a process leave it, one number for each that has a limit.

    Args:
        process: The kernel's account of the process.
    """
    rooms = []
    for folder, top, files in _groups(process):
        for one in (folder, *folder.parents):
            rooms += _rooms(one, files)
            if one == top:
                break
    return rooms


def _groups(process: Path) -> Iterator[tuple[Path, Path, _Files]]:
    """The folder of each group that the process is in, and the topmost one that can be seen."""
    paths = dict(_paths(process))
    for line in _lines(process / "mountinfo"):
        fields, _, rest = line.partition(" - ")
        mounted, system = fields.split(), rest.split()
        if len(mounted) < 5 or not system or system[0] not in _FILES or system[0] not in paths:
            continue
        if system[0] == "cgroup" and "memory" not in system[-1].split(","):
            continue
        root, top = mounted[3], Path(mounted[4])
        inside = paths[system[0]].removeprefix(root if root != "/" else "").lstrip("/")
        folder = top / inside
        # Where a container sees its own group alone, that is the topmost one.
        yield (folder if ".." not in inside and folder.is_dir() else top), top, _FILES[system[0]]


def _paths(process: Path) -> Iterator[tuple[str, str]]:
    """The path of the process's memory group, by the type of file system."""
    for line in _lines(process / "cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield "cgroup2", path
        elif "memory" in controllers.split(","):
            yield "cgroup", path


def _rooms(folder: Path, files: _Files) -> list[int]:
    """What each limit of a group leaves; nothing where there is none."""
    usage = _number(folder / files.usage)
    if usage is None:
        return []
    stat = dict(line.split()[:2] for line in _lines(folder / "memory.stat") if len(line.split()) >= 2)
    inactive = stat.get(files.inactive, "0")
    taken = usage - (int(inactive) if inactive.isdecimal() else 0)
    limits = (_number(folder / name) for name in files.limits)
    return [max(0, limit - taken) for limit in limits if limit is not None and limit < _NO_LIMIT]


def _rooms_of_process() -> list[int]:
    """What the limits of the process itself leave: of its addresses, and of its data."""
    if sys.platform != "linux":
        return []
    taken = psutil.Process().memory_info()
    rooms = []
    for kind, used in ((psutil.RLIMIT_AS, taken.vms), (psutil.RLIMIT_DATA, taken.data)):
        limit = psutil.Process().rlimit(kind)[0]
        if limit != psutil.RLIM_INFINITY:
            rooms.append(max(0, limit - used))
    return rooms


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no such file, or something else is in it."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None


def _lines(path: Path) -> list[str]:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text("utf-8").splitlines()
    return []
