"""Where a trace came from: versions, platform, commit, command. No host name, no user's folders."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from layertracer.runs._git import read_commit

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pandas",
    "pyarrow",
    "huggingface-hub",
)
"""Packages whose version can change a number or a file."""


def collect_provenance(*, command: Sequence[str] | None = None, started_at: datetime | None = None) -> dict[str, Any]:
    """Where a trace comes from, in JSON values.

    Nothing is imported to learn a version, and no program is run: the commit is read from Git's files. Whether tracked
    files were altered since cannot be known without `git status`, which runs programs that the folder itself names.
    Absolute paths in the command are cut to their last name.

    Args:
        command: The command line, program first; None where there was none.
        started_at: When the trace began.

    Returns:
        "layertracer", "packages", "python", "platform", "n_cpus", "git_commit" of the working folder (None outside a
        repository), "git_dirty" (always None; runs that were stored earlier may know it), "command", "started_at" and
        "finished_at" (ISO 8601, UTC).
    """
    finished_at = datetime.now(UTC)
    return {
        "layertracer": package_version("layertracer"),
        "packages": {name: version for name in PACKAGES if (version := package_version(name)) is not None},
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.release()}-{platform.machine()}",
        "n_cpus": os.cpu_count(),
        "git_commit": _working_commit(),
        "git_dirty": None,
        "command": None if command is None else [shorten_path(part) for part in command],
        "started_at": _format_time(started_at or finished_at),
        "finished_at": _format_time(finished_at),
    }


@cache
def package_version(name: str) -> str | None:
    """Version of an installed package, without importing it; None where it is not installed. Looked up once."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def shorten_path(argument: str) -> str:
    """A command-line argument whose absolute path, if it is one, is cut to its last name.

    Example:
        >>> shorten_path("--out=/home/ada/runs/first"), shorten_path("--task"), shorten_path("runs/first")
        ('--out=.../first', '--task', 'runs/first')
    """
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(value).is_absolute() or value.startswith("~"):
            name = kind(value).name
            return f"{option}{equals}.../{name}"
    return argument


def _working_commit() -> str | None:
    try:
        return read_commit(Path.cwd())
    except OSError:  # the working folder was removed
        return None


def _format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
