"""Task files in JSON, one array or one object a line."""

from __future__ import annotations

import json
from pathlib import Path

from layertracer._errors import TaskFileError
from layertracer.tasks._fields import make_material
from layertracer.tasks._material import FieldNames, Material, Row, decode_text, hash_content, read_bytes

_SPACES = " \t\r\n"


def read_json(path: Path, names: FieldNames) -> Material:
    """A .json file: an array of objects such as {"input": "hot", "output": "cold"}.

    Raises:
        TaskFileError: If the file is no array of objects; the message names the line.
    """
    content = read_bytes(path)
    text = decode_text(content, path)
    if not isinstance(_parse(text, path, first_line=1), list):
        raise TaskFileError(
            f'{path}, line 1: expected an array of objects, as in [{{"input": "hot", "output": "cold"}}]. '
            f"Put the records into one array, or write one object a line and call the file .jsonl."
        )
    rows = [_make_row(value, path, line) for line, value in _split_array(text)]
    return make_material(rows, names, source=str(path), sha256=hash_content(content))


def read_jsonl(path: Path, names: FieldNames) -> Material:
    """A .jsonl file: one JSON object a line; empty lines are skipped.

    Raises:
        TaskFileError: If a line holds no object; the message names it.
    """
    content = read_bytes(path)
    # Not splitlines(): JSON strings may hold other line separators, such as U+2028.
    lines = enumerate(decode_text(content, path).split("\n"), start=1)
    rows = [_make_row(_parse(line, path, first_line=n), path, n) for n, line in lines if line.strip()]
    return make_material(rows, names, source=str(path), sha256=hash_content(content))


def _parse(text: str, path: Path, *, first_line: int) -> object:
    """The JSON value of a text that begins at `first_line` of the file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise TaskFileError(
            f"{path}, line {first_line + error.lineno - 1}, column {error.colno}: no valid JSON ({error.msg}). "
            f"Correct this line."
        ) from None
    except (RecursionError, ValueError):
        raise TaskFileError(
            f"{path}, line {first_line}: the JSON is nested too deep or holds a number of thousands of digits. "
            f"Expected flat records."
        ) from None


def _split_array(text: str) -> list[tuple[int, object]]:
    """The entries of a valid JSON array, each with the line on which it begins."""
    decoder = json.JSONDecoder()
    entries: list[tuple[int, object]] = []
    position, line = text.index("[") + 1, 1
    counted = 0
    while True:
        while text[position] in _SPACES + ",":
            position += 1
        if text[position] == "]":
            return entries
        line += text.count("\n", counted, position)
        counted = position
        value, position = decoder.raw_decode(text, position)
        entries.append((line, value))


def _make_row(value: object, path: Path, line: int) -> Row:
    """One record of the file."""
    where = f"{path}, line {line}"
    if not isinstance(value, dict):
        raise TaskFileError(
            f"{where}: expected an object with named fields, got {type(value).__name__}. "
            f'Write it as {{"input": "hot", "output": "cold"}}.'
        )
    return Row(where=where, values=value)
