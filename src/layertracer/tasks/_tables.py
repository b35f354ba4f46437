"""Task files in columns: .csv, .tsv, and the word-pair files of Nguyen et al. (2017)."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from layertracer._errors import TaskFileError
from layertracer.tasks._fields import make_material, recognize_fields
from layertracer.tasks._material import FieldNames, Material, Row, decode_text, hash_content, read_bytes

Line = tuple[int, list[str]]

_UNNAMED = {2: ("word1", "word2"), 3: ("word1", "word2", "label")}
"""What the columns of a file without a header mean."""


def read_csv(path: Path, names: FieldNames) -> Material:
    """A .csv file: a header such as `input,output`, or two columns without a header.

    Raises:
        TaskFileError: If a line has the wrong number of columns; the message names it.
    """
    content = read_bytes(path)
    text = decode_text(content, path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[Line] = []
    try:
        lines.extend((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))
    except csv.Error as error:
        raise TaskFileError(
            f"{path}, line {reader.line_num}: no valid CSV ({error}). Check the quotes on this line."
        ) from None
    rows = _make_rows(lines, names, path=path, separator="commas")
    return make_material(rows, names, source=str(path), sha256=hash_content(content))


def read_tsv(path: Path, names: FieldNames) -> Material:
    """A .tsv file: a header such as `input<TAB>output`, or columns without a header.

    Without a header, two columns are a pair and a third is a label: 1 where the relation holds, 0 where it does not,
    as in the antonym and synonym files of Nguyen et al. (2017). Those separate columns by single spaces in some
    copies, which is read as well.

    Raises:
        TaskFileError: If a line has the wrong number of columns; the message names it.
    """
    content = read_bytes(path)
    texts = decode_text(content, path).split("\n")
    lines = [
        (n, text.rstrip("\r").split("\t") if "\t" in text else text.split())
        for n, text in enumerate(texts, start=1)
        if text.strip()
    ]
    rows = _make_rows(lines, names, path=path, separator="tabs")
    return make_material(rows, names, source=str(path), sha256=hash_content(content))


def _make_rows(lines: list[Line], names: FieldNames, *, path: Path, separator: str) -> list[Row]:
    """Records from lines, by the header or, where there is none, by the number of columns."""
    if not lines:
        return []
    first = lines[0][1]
    # With named fields the first line must be a header, for where else would the names be?
    is_headed = names.prompt is not None or recognize_fields(dict.fromkeys(first), names) is not None
    # Recognised names count in any case: "Word1" and "LABEL" are the same columns. Named fields are taken literally.
    header = tuple(cell.strip() if names.prompt is not None else cell.strip().casefold() for cell in first)
    columns = header if is_headed else _UNNAMED.get(len(first), ())
    if not columns:
        raise TaskFileError(
            f"{path}, line {lines[0][0]}: expected two columns (input and output), or three with a label, separated "
            f"by {separator}, got {len(first)}. Wider files need a header: name its fields with prompt_field= and "
            f"answer_field=."
        )
    return [
        Row(where=f"{path}, line {n}", values=_name_cells(cells, columns, f"{path}, line {n}"))
        for n, cells in lines[1 if is_headed else 0 :]
    ]


def _name_cells(cells: list[str], columns: tuple[str, ...], where: str) -> dict[str, str]:
    """The cells of a line by the names of their columns."""
    if len(cells) != len(columns):
        raise TaskFileError(
            f"{where}: expected {len(columns)} columns ({', '.join(columns)}), got {len(cells)}. "
            f"All lines need the same columns."
        )
    return dict(zip(columns, cells, strict=True))
