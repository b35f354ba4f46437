"""Task files in JSON: arrays, lines, and the shapes in which pandas and others write tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from layertracer._errors import TaskFileError
from layertracer.tasks._files.content import Content, decode_text
from layertracer.tasks._files.frames import find_frame
from layertracer.tasks._files.material import FieldNames, Records, Row
from layertracer.tasks._files.values import MissingMark, WrittenNumber, shortened

_SPACES = " \t\r\n"


class _TwinKeysError(ValueError):
    """An object that has one key twice."""


def read_json(content: Content, names: FieldNames) -> Records:
    """A .json file: an array of objects such as {"input": "hot", "output": "cold"}, or a table as pandas writes it.

    Files of this name with one object a line, or objects one behind the other, are read as well.

    Raises:
        TaskFileError: If the file holds no records; the message names the line.
    """
    path = content.path
    text, _ = decode_text(content)
    if text.lstrip(_SPACES).startswith("["):
        _check(text, path)
        return _make_records(content, list(_decode_all(text, text.index("[") + 1, path=path, end="]")))
    try:
        value = _load(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise _explain(error, path, line=1) from None
        return _make_records(content, list(_decode_all(text, 0, path=path, end="")))
    except (RecursionError, ValueError) as error:
        raise _explain(error, path, line=1) from None
    frame = find_frame(value, names)
    if frame is None:
        raise TaskFileError(
            f'{path}, line 1: expected an array of objects, as in [{{"input": "hot", "output": "cold"}}]. '
            f"Put the records into one array, or write one object a line and call the file .jsonl."
        )
    rows = tuple(Row(source=str(path), place=f"record {n}", values=record) for n, record in enumerate(frame.records))
    return Records(
        source=str(path),
        sha256=content.sha256,
        rows=rows,
        part=frame.part,
        notes=frame.notes,
        is_named=frame.is_named,
        relation=frame.relation,
    )


def read_jsonl(content: Content, names: FieldNames) -> Records:
    """A .jsonl file: one JSON object a line; empty lines are skipped. An array of objects is read as well.

    Raises:
        TaskFileError: If a line holds no object; the message names it.
    """
    path = content.path
    text, _ = decode_text(content)
    # Not splitlines(): JSON strings may hold other line separators, such as U+2028.
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if _is_spread(lines):
        return read_json(content, names)
    return _make_records(content, [(n, _parse(line, path, line=n)) for n, line in lines])


def _is_spread(lines: Sequence[tuple[int, str]]) -> bool:
    """Whether values go over several lines: the first line is no value by itself, or the whole array."""
    if not lines:
        return False
    try:
        value = _load(lines[0][1])
    except (RecursionError, ValueError):
        return lines[0][1].strip() in ("{", "[") or lines[0][1].lstrip().startswith("[")
    return len(lines) == 1 and isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value)


def _load(text: str) -> object:
    """The JSON value of a text: numbers as they are written, NaN and its kin as marks of what is missing."""
    return _DECODER.decode(text)


def _make_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object, in which each key stands once."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twin = next(key for key in keys if keys.count(key) > 1)
        raise _TwinKeysError(f"an object has the key {shortened(repr(twin))} twice, and which is meant cannot be told")
    return made


_DECODER = json.JSONDecoder(parse_float=WrittenNumber, parse_constant=MissingMark, object_pairs_hook=_make_object)


def _check(text: str, path: Path) -> None:
    """Refuse a text that is no JSON array as a whole.

    Raises:
        TaskFileError: If it is none.
    """
    try:
        json.loads(text)
    except (RecursionError, ValueError) as error:
        raise _explain(error, path, line=1) from None


def _parse(text: str, path: Path, *, line: int) -> object:
    """The JSON value of a text that begins at this line of the file."""
    try:
        return _load(text)
    except (RecursionError, ValueError) as error:
        raise _explain(error, path, line=line) from None


def _explain(error: Exception, path: Path, *, line: int, is_whole: bool = False) -> TaskFileError:
    """The error for a text that is no JSON, or none that is taken; `is_whole` where it knows the whole file's lines."""
    if isinstance(error, json.JSONDecodeError):
        at = error.lineno if is_whole else line + error.lineno - 1
        return TaskFileError(
            f"{path}, line {at}, column {error.colno}: no valid JSON ({error.msg}). Correct this line."
        )
    if isinstance(error, _TwinKeysError):
        return TaskFileError(f"{path}, line {line}: {error}. Rename one.")
    return TaskFileError(
        f"{path}, line {line}: the JSON is nested too deep or holds a number of thousands of digits. "
        f"Expected flat records."
    )


def _decode_all(text: str, position: int, *, path: Path, end: str) -> Iterator[tuple[int, object]]:
    """Values one behind the other, each with its line.

    Raises:
        TaskFileError: If one of them is not valid.
    """
    line, counted = 1, 0
    skipped = _SPACES + ("," if end else "")
    while True:
        while position < len(text) and text[position] in skipped:
            position += 1
        if position == len(text) or text[position] == end:
            return
        line += text.count("\n", counted, position)
        counted = position
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (RecursionError, ValueError) as error:
            raise _explain(error, path, line=line, is_whole=True) from None
        yield line, value


def _make_records(content: Content, entries: Sequence[tuple[int, object]]) -> Records:
    """Records of objects, or of lists of equal length, whose parts have no names."""
    path = content.path
    is_named = not (entries and isinstance(entries[0][1], list))
    width = 0 if is_named else len(_as_list(entries[0][1]))
    rows = [_make_row(value, path, line, width=width) for line, value in entries]
    return Records(
        source=str(path),
        sha256=content.sha256,
        rows=tuple(rows),
        part="field" if is_named else "column",
        is_named=is_named,
    )


def _as_list(value: object) -> list[object]:
    """A value that is a list."""
    assert isinstance(value, list)
    return value


def _make_row(value: object, path: Path, line: int, *, width: int) -> Row:
    """One record of the file; `width` is that of the first, where they are lists."""
    place = f"line {line}"
    where = f"{path}, {place}"
    if width and isinstance(value, list) and len(value) == width and width > 1:
        return Row(source=str(path), place=place, values={str(n): cell for n, cell in enumerate(value, start=1)})
    if not isinstance(value, dict):
        raise TaskFileError(
            f"{where}: expected an object with named fields, got {type(value).__name__}. "
            f'Write it as {{"input": "hot", "output": "cold"}}.'
        )
    return Row(source=str(path), place=place, values=value)
