"""Cells of a table written as text.

Python's csv module is not used: it does not say whether a cell was quoted, which tells a missing value from a word;
and its limit on a cell's length is one setting for the whole program.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Quoting = Literal["doubled", "backslash", "none"]
"""How a quote inside a quoted cell is written; "none" where quotes are characters like any other."""

_BREAK = re.compile(r"\r\n|\n|\r")
_INSIDE = {"doubled": r'(?:[^"]++|"")*+', "backslash": r'(?:[^"\\]++|\\.)*+'}


class MalformedQuotesError(Exception):
    """A quoted cell that does not end, or goes on behind its quote."""

    def __init__(self, line: int) -> None:
        super().__init__("a quoted cell does not end, or goes on behind its quote")
        self.line = line


@dataclass(frozen=True, slots=True)
class Line:
    """One record of a table.

    Attributes:
        number: The line of the file on which it begins.
        cells: Its cells.
        quoted: Whether each was quoted.
    """

    number: int
    cells: list[str]
    quoted: list[bool]


def split_cells(text: str, separator: str, quoting: Quoting = "doubled", *, first_line: int = 1) -> list[Line]:
    """The records of a table, without those that are blank.

    Lines end in LF, CR LF or CR; quoted cells may hold line breaks, separators and quotes.

    Args:
        text: The table.
        separator: The character between cells.
        quoting: How quotes are written.
        first_line: The number of the first line.

    Raises:
        MalformedQuotesError: If quotes do not fit; the error has the line.
    """
    lines: list[Line] = []
    reader = _Reader(text, separator, quoting)
    place, number = 0, first_line
    while place < len(text):
        line = Line(number, [], [])
        place, number = reader.fill(line, place)
        if any(cell.strip() for cell in line.cells):
            lines.append(line)
    return lines


class _Reader:
    """The text of a table, and how its cells look."""

    def __init__(self, text: str, separator: str, quoting: Quoting) -> None:
        end = re.escape(separator)
        self._text = text
        self._separator = separator
        self._quoting = quoting
        self._plain = re.compile(rf"[^{end}\r\n]*+")
        around = "" if separator == " " else " *+"
        inside = _INSIDE.get(quoting, "(?!)")
        self._quoted = re.compile(rf'{around}"({inside})"{around}(?=[{end}\r\n]|\Z)', re.DOTALL)

    def fill(self, line: Line, place: int) -> tuple[int, int]:
        """Fill in one record; where the next one begins, and on which line."""
        number = line.number
        while True:
            text, is_quoted, place = self._read_cell(place, number)
            line.cells.append(text)
            line.quoted.append(is_quoted)
            if is_quoted:
                number += len(_BREAK.findall(text))
            if not self._text.startswith(self._separator, place):
                break
            place += 1
        ending = _BREAK.match(self._text, place)
        return (place, number) if ending is None else (ending.end(), number + 1)

    def _read_cell(self, place: int, number: int) -> tuple[str, bool, int]:
        """A cell's text, whether it was quoted, and where it ends."""
        plain = self._plain.match(self._text, place)
        end = place if plain is None else plain.end()
        if self._quoting == "none" or not self._text[place:end].lstrip(" ").startswith('"'):
            return self._text[place:end], False, end
        quoted = self._quoted.match(self._text, place)
        if quoted is None:
            raise MalformedQuotesError(number)
        inside = quoted.group(1)
        unescaped = inside.replace('""', '"') if self._quoting == "doubled" else re.sub(r'\\(["\\])', r"\1", inside)
        return unescaped, True, quoted.end()
