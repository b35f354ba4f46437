"""Files that are written beside what is printed: one that fails keeps nobody from the numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Written = TypeVar("Written")


class Writing:
    """Files written one after the other; the first error is raised when everything else is done."""

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._paths: list[Path] = []

    def attempt(self, write: Callable[[Path], Written], path: Path | None) -> Written | None:
        """Write a file, or several into a folder.

        Args:
            write: Writes to the path.
            path: Where to; None where nobody asks.

        Returns:
            What `write` returns; None where it failed, or nobody asks.
        """
        if path is None:
            return None
        try:
            written = write(path)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised as soon as the numbers are printed
            self._error = self._error or error
            return None
        self._paths.append(path)
        return written

    def describe(self) -> str:
        """What was written."""
        paths = ", ".join(str(path) for path in self._paths)
        return f"what was written is whole: {paths}." if paths else "nothing was written."

    def end(self) -> None:
        """Raise what went wrong."""
        if self._error is not None:
            raise self._error
