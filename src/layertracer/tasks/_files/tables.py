"""Task files in columns: .csv, .tsv, and the word-pair files of Nguyen et al. (2017)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from layertracer._errors import TaskFileError
from layertracer.tasks._files.cells import Line, MalformedQuotesError, Quoting, split_cells
from layertracer.tasks._files.content import Content, decode_text
from layertracer.tasks._files.header import is_headed
from layertracer.tasks._files.material import FieldNames, Records, Row
from layertracer.tasks._files.recognize import NAMING, is_read, plain_name, recognize_fields
from layertracer.tasks._files.values import DOUBTFUL, MissingMark, shortened

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars", " ": "spaces"}
_USUAL = (",", "\t", ";", "|")
_EXCEL_HINT = re.compile(r'"?sep=(.)"?(\r\n|\n|\r)', re.IGNORECASE)
"""A first line by which Excel is told the separator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """The lines of a file, split in one way.

    Attributes:
        separator: What stands between the cells.
        lines: The records.
        notes: What is to be said about it.
    """

    separator: str
    lines: list[Line]
    notes: tuple[str, ...] = ()


def read_csv(content: Content, names: FieldNames) -> Records:
    """A .csv file: a header such as `input,output`, or two columns without a header.

    Raises:
        TaskFileError: If a line has the wrong number of columns; the message names it.
    """
    return _read_table(content, names, usual=",")


def read_tsv(content: Content, names: FieldNames) -> Records:
    """A .tsv file: a header such as `input<TAB>output`, or columns without a header.

    Without a header, two columns are a pair and a third is a label: 1 where the relation holds, 0 where it does not,
    as in the antonym and synonym files of Nguyen et al. (2017). Those separate columns by single spaces in some
    copies, which is read as well.

    Raises:
        TaskFileError: If a line has the wrong number of columns; the message names it.
    """
    return _read_table(content, names, usual="\t")


def read_spaced(content: Content, names: FieldNames) -> Records:
    """A table with spaces between its columns and quotes around its texts, as R writes it.

    Raises:
        TaskFileError: If a line has the wrong number of columns; the message names it.
    """
    return _read_table(content, names, usual=" ")


def _read_table(content: Content, names: FieldNames, *, usual: str) -> Records:
    """The records of a table; `usual` is the separator that its name promises."""
    text, notes = decode_text(content, western=True)
    table = _split(text, names, path=str(content.path), usual=usual)
    rows, head = _make_rows(table, names, path=str(content.path))
    return Records(
        source=str(content.path),
        sha256=content.sha256,
        rows=tuple(rows),
        part="column",
        notes=(*notes, *table.notes, *_say_unnamed(rows, names, head=head)),
        is_named=bool(head),
        head=head,
    )


def _say_unnamed(rows: Sequence[Row], names: FieldNames, *, head: str) -> tuple[str, ...]:
    """What is said where nobody told that the first line is a row."""
    if head or not rows or names.header is not None:
        return ()
    cells = ", ".join(repr(shortened(str(cell), 30)) for cell in list(rows[0].values.values())[:4])
    note = (
        f"{rows[0].place} ({cells}) was taken as a pair, not as the names of the columns; header=True (--header) says"
    )
    return (f"{note} otherwise",)


def _split(text: str, names: FieldNames, *, path: str, usual: str) -> _Table:
    """The table, its cells separated as the file does it.

    Raises:
        TaskFileError: If two separators fit as well.
    """
    told = _EXCEL_HINT.match(text)
    if told is not None:
        return _split_by(text[told.end() :], told.group(1), path=path, first_line=2)
    opening = text.lstrip().partition("\n")[0]
    others = [separator for separator in _USUAL if separator != usual and separator in opening]
    tables = [table for table in (_try_split(text, separator, path=path) for separator in others) if table]
    own = _split_by(text, usual, path=path) if not tables else _try_split(text, usual, path=path)
    tables = ([own] if own is not None else []) + tables
    ranks = [_rank(table, names) for table in tables]
    best = max(ranks)
    fitting = [table for table, rank in zip(tables, ranks, strict=True) if rank == best]
    if best == _IS_PAIR and len(fitting) > 1:
        named = " and ".join(_SEPARATORS[table.separator] for table in fitting)
        raise TaskFileError(
            f"{path}, line {fitting[0].lines[0].number}: {named} both part the lines into two columns. Put cells that "
            f"hold one of them into quotes, or say which is meant in a first line such as sep={fitting[0].separator}"
        )
    if usual == "\t" and best < _IS_PAIR:
        return _split_at_spaces(fitting[0])
    return fitting[0]


_IS_PAIR = 2


def _rank(table: _Table, names: FieldNames) -> int:
    """How well a separator fits: 3 with known columns, 2 with two, 1 with more, 0 where lines differ."""
    widths = {len(line.cells) for line in table.lines}
    first = table.lines[0].cells if table.lines else []
    fields = recognize_fields(first, names)
    if fields is not None and is_read(fields, first):
        return 3
    if len(widths) != 1 or widths == {1}:
        return 0
    return _IS_PAIR if widths == {2} else 1


def _try_split(text: str, separator: str, *, path: str) -> _Table | None:
    """The table with this separator; None where its quotes do not fit."""
    try:
        return _split_by(text, separator, path=path)
    except TaskFileError:
        return None


def _split_by(text: str, separator: str, *, path: str, first_line: int = 1) -> _Table:
    """The table with this separator, in the first way of quoting that fits.

    Quotes are doubled inside quoted cells, as spreadsheets do it, or follow a backslash. In tables with tabs they may
    enclose nothing, at the beginning of a cell too.

    Raises:
        TaskFileError: If none fits.
    """
    ways: tuple[Quoting, ...] = ("doubled", "none") if separator == "\t" else ("doubled", "backslash")
    problem: MalformedQuotesError | None = None
    for quoting in ways:
        try:
            lines = split_cells(text, separator, quoting, first_line=first_line)
        except MalformedQuotesError as error:
            problem = problem or error
            continue
        if quoting == "doubled" and separator == "\t" and not _quotes_enclose(lines, text):
            continue
        return _Table(separator=separator, lines=lines, notes=_NOTES[quoting])
    assert problem is not None
    raise TaskFileError(
        f"{path}, line {problem.line}: no valid CSV ({problem}). Check the quotes on this line."
    ) from None


_NOTES: dict[Quoting, tuple[str, ...]] = {
    "doubled": (),
    "backslash": ("quotes behind a backslash were read as part of their cell",),
    "none": (),
}


def _quotes_enclose(lines: Sequence[Line], text: str) -> bool:
    """Whether the quotes of a table with tabs enclose cells, as spreadsheets write them, or are part of the text.

    They enclose cells where each quoted one needs it (spreadsheets quote cells with commas too), or all text is
    quoted, the header first. They join lines and cells only where without them the lines differ in length.
    """
    quoted = [cell for line in lines for cell, is_quoted in zip(line.cells, line.quoted, strict=True) if is_quoted]
    if any(_JOINS.search(cell) for cell in quoted):
        as_they_stand = split_cells(text, "\t", "none")
        if _differ(lines) or not _differ(as_they_stand):
            return False
    if all(_NEEDS_QUOTES.search(cell) for cell in quoted):
        return True
    bare = [cell for line in lines for cell, is_quoted in zip(line.cells, line.quoted, strict=True) if not is_quoted]
    return all(lines[0].quoted) and all(_NUMBER.fullmatch(cell) or cell in DOUBTFUL for cell in bare)


def _differ(lines: Sequence[Line]) -> bool:
    """Whether lines have different numbers of cells."""
    return len({len(line.cells) for line in lines}) > 1


_JOINS = re.compile(r"[\t\r\n]")
_NEEDS_QUOTES = re.compile(r"[\",\t\r\n]")
_NUMBER = re.compile(r"[-+]?\d*[.,]?\d*")


def _split_at_spaces(table: _Table) -> _Table:
    """The table with lines that have no separator parted at spaces."""
    lines = [
        Line(line.number, line.cells[0].split(), []) if len(line.cells) == 1 and not line.quoted[0] else line
        for line in table.lines
    ]
    return _Table(separator="\t", lines=lines, notes=table.notes)


def _make_rows(table: _Table, names: FieldNames, *, path: str) -> tuple[list[Row], str]:
    """Records from lines, and where the header stands; without one, columns are named by their numbers."""
    lines = _trim(table.lines)
    if not lines:
        return [], ""
    first = lines[0]
    where = f"{path}, line {first.number}"
    headed = is_headed([line.cells for line in lines], names, where=where)
    header = [cell.strip() for cell in first.cells]
    if headed and _have_row_names(lines[1:], width=len(header)):
        header = ["", *header]
    if not headed:
        _check_unnamed(first.cells, names, where=where, separator=table.separator)
        header = [str(number) for number, _ in enumerate(first.cells, start=1)]
    else:
        _refuse_same_names(header, names, where=where)
    is_strict = headed and _marks_missing_by_quotes(first, lines[1:])
    rows = [_make_row(line, header, path=path, is_strict=is_strict) for line in lines[1 if headed else 0 :]]
    return rows, f"line {first.number}" if headed else ""


def _have_row_names(lines: Sequence[Line], *, width: int) -> bool:
    """Whether each line has one cell more than the header, its name: R writes them so, quoted or as 1, 2, 3, …."""
    if not lines or any(len(line.cells) != width + 1 for line in lines):
        return False
    are_counted = all(line.cells[0] == str(n) for n, line in enumerate(lines, start=1))
    return are_counted or all(line.quoted and line.quoted[0] for line in lines)


def _trim(lines: list[Line]) -> list[Line]:
    """The lines without columns at their end that are blank throughout, as spreadsheets leave them."""
    width = max((_filled_width(line.cells) for line in lines), default=0)
    if all(len(line.cells) <= width for line in lines):
        return lines
    return [Line(line.number, line.cells[:width], line.quoted[:width]) for line in lines]


def _filled_width(cells: Sequence[str]) -> int:
    """The number of cells up to the last that is not blank."""
    width = len(cells)
    while width and not cells[width - 1].strip():
        width -= 1
    return width


def _check_unnamed(cells: Sequence[str], names: FieldNames, *, where: str, separator: str) -> None:
    """Refuse columns without names of which it is not known what they are.

    Raises:
        TaskFileError: If there are not two, nor three with a label.
    """
    if len(cells) in (2, 3) or names.prompt is not None:
        return
    raise TaskFileError(
        f"{where}: expected two columns (input and output), or three with a label, separated "
        f"by {_SEPARATORS.get(separator, repr(separator))}, got {len(cells)}. Wider files need a header: name its "
        f"fields with {NAMING}; without one, columns are named by their numbers, with header=False (--no-header)."
    )


def _refuse_same_names(header: Sequence[str], names: FieldNames, *, where: str) -> None:
    """Refuse two columns of the very same name, if it is one that is read.

    Raises:
        TaskFileError: If there are such.
    """
    fields = recognize_fields(header, names)
    read = {plain_name(name) for name in (fields.prompt, fields.answer) if name is not None} if fields else set()
    for name in header:
        if header.count(name) > 1 and name and (plain_name(name) in read or not read):
            raise TaskFileError(
                f"{where}: {header.count(name)} columns are called {name!r}, and which is meant cannot be told. Rename "
                f"all but one."
            )


def _marks_missing_by_quotes(header: Line, lines: Sequence[Line]) -> bool:
    """Whether all text is quoted, as R does it, so that NA without quotes is no word but a missing value."""
    return (
        all(header.quoted)
        and bool(header.quoted)
        and not any(
            cell in DOUBTFUL and quoted for line in lines for cell, quoted in zip(line.cells, line.quoted, strict=False)
        )
    )


def _make_row(line: Line, header: Sequence[str], *, path: str, is_strict: bool) -> Row:
    """The cells of a line by the names of their columns."""
    place = f"line {line.number}"
    if len(line.cells) != len(header):
        more = " Cells that hold the separator need quotes." if len(line.cells) > len(header) else ""
        raise TaskFileError(
            f"{path}, {place}: expected {len(header)} columns ({', '.join(header)}), got {len(line.cells)}. "
            f"All lines need the same columns.{more}"
        )
    quoted = line.quoted or [False] * len(header)
    values = [
        _read_cell(cell, is_quoted=is_quoted, is_strict=is_strict)
        for cell, is_quoted in zip(line.cells, quoted, strict=True)
    ]
    return Row(source=path, place=place, values=dict(zip(header, values, strict=True)))


def _read_cell(cell: str, *, is_quoted: bool, is_strict: bool) -> str:
    """A cell's value: nothing where it is blank, a mark where it says that there is none."""
    if is_strict and not is_quoted and cell in DOUBTFUL:
        return MissingMark(cell)
    return cell if cell.strip() else ""
