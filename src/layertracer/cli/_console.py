"""What is printed, and on which kind of terminal."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import click

from layertracer._errors import printable

_DRAWING = "█▁·×–"


@runtime_checkable
class TextStream(Protocol):
    """Standard output or standard error, or what stands in for them."""

    @property
    def encoding(self) -> str:
        """Name of the encoding."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terminal:
    """What standard output can show.

    Attributes:
        width: Columns; 80 in a pipe, unless COLUMNS says otherwise.
        color: Whether colours may be used.
        ascii_only: Whether its encoding has no block characters.
    """

    width: int
    color: bool
    ascii_only: bool


def describe_terminal() -> Terminal:
    """What standard output can show."""
    return Terminal(
        width=shutil.get_terminal_size().columns,
        color=is_interactive(sys.stdout) and not os.environ.get("NO_COLOR"),
        ascii_only=not can_show(sys.stdout, _DRAWING),
    )


def is_interactive(stream: TextStream | None) -> bool:
    """Whether a stream is a terminal that understands control sequences."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def can_show(stream: TextStream | None, text: str) -> bool:
    """Whether a stream's encoding has the characters of a text."""
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def say(text: str = "") -> None:
    """Print a line on standard output, its control characters as escapes."""
    say_drawn(printable(text))


def say_drawn(text: str) -> None:
    """Print what was drawn for a terminal, with its colours; what the encoding cannot show becomes "?"."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    click.echo(text.encode(encoding, "replace").decode(encoding))


def say_aside(text: str) -> None:
    """Print a line on standard error, where it can be read, its control characters as escapes."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(printable(text), err=True)


def say_json(value: object) -> None:
    """Print one JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def say_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table: columns as wide as their content, numbers to the right, text cut at the terminal's edge."""
    cells = [[*header], *([printable(str(cell)).replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    is_number = [
        bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in range(len(header))
    ]
    limit = describe_terminal().width
    for row in cells:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ]
        line = "  ".join(padded).rstrip()
        say(line if len(line) <= limit or not sys.stdout.isatty() else line[: limit - 1] + "…")


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send to standard error what libraries print within: standard output is for the answer."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
