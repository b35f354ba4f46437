"""Files that are written beside what is printed: one that fails keeps nobody from the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from layertracer.cli._console import describe_terminal, say, say_drawn, say_json

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a command made, as it is shown.

    Attributes:
        name: What it is called, in a JSON document and, capitalised, on a terminal.
        as_json: Makes its JSON document.
        as_text: What is said of it on a terminal.
        write_page: Writes its page.
        write_table: Writes its table.
        steps: What to do next.
    """

    name: str
    as_json: Callable[[], Mapping[str, Any]]
    as_text: Callable[..., str]
    write_page: Callable[[Path], Path]
    write_table: Callable[[Path], Path]
    steps: Iterable[str] = ()


def show_made(made: Shown, out: Path, settings: Mapping[str, Any]) -> None:
    """Write page and table, and print the answers; a file that cannot be written keeps nobody from the numbers."""
    from layertracer.runs import REPORT_FILE

    writing = Writing()
    report = writing.attempt(
        made.write_page, None if settings["no_report"] else settings["report"] or out / REPORT_FILE
    )
    table = writing.attempt(made.write_table, settings["csv_file"])
    if settings["as_json"]:
        written = {"report": None if report is None else str(report), "csv": None if table is None else str(table)}
        say_json({**made.as_json(), made.name: str(out), **written})
        writing.end()
        return
    terminal = describe_terminal()
    say_drawn(made.as_text(width=terminal.width, color=terminal.color, ascii_only=terminal.ascii_only))
    width = max(len(made.name), len("Report"))
    for label, told in ((made.name.capitalize(), out), ("Report", report), ("Table", table)):
        if told is not None:
            say(f"{label:<{width}}  {told}")
    for step in made.steps:
        say(f"{'Next':<{width}}  {step}")
    writing.end()
