"""Where a trace came from: versions, platform, commit, command. No host name, no user's folders."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

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

_GIT_TIMEOUT_S = 2.0


def collect_provenance(*, command: Sequence[str] | None = None, started_at: datetime | None = None) -> dict[str, Any]:
    """Where a trace comes from, in JSON values.

    Nothing is imported to learn a version. Absolute paths in the command are cut to their last name.

    Args:
        command: The command line, program first; None where there was none.
        started_at: When the trace began.

    Returns:
        "layertracer", "packages", "python", "platform", "n_cpus", "git_commit" and "git_dirty" of the
        working folder (None outside a repository), "command", "started_at" and "finished_at" (ISO 8601, UTC).
    """
    commit, is_dirty = _read_commit()
    finished_at = datetime.now(UTC)
    return {
        "layertracer": package_version("layertracer"),
        "packages": {name: version for name in PACKAGES if (version := package_version(name)) is not None},
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.release()}-{platform.machine()}",
        "n_cpus": os.cpu_count(),
        "git_commit": commit,
        "git_dirty": is_dirty,
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


def without_home(text: str) -> str:
    """The text with the user's home folder written as `~`."""
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def _read_commit() -> tuple[str | None, bool | None]:
    commit = _run_git("rev-parse", "HEAD")
    if not commit:
        return None, None
    status = _run_git("status", "--porcelain", "--untracked-files=no")
    return commit, None if status is None else bool(status)


def _run_git(*arguments: str) -> str | None:
    """What git prints in the working folder; None without git, outside a repository, or when it takes too long."""
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            check=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=_GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(sys.getfilesystemencoding(), "replace").strip()


def _format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
