"""Runs altered by somebody who makes their checksums anew, as an attacker or a faulty program can."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from layertracer.runs import HEADER_FILE
from layertracer.runs._header import encode_header

Files = dict[str, bytes]


def contents(folder: Path) -> Files:
    """The files of a run."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def write_files(files: Mapping[str, bytes], folder: Path) -> Path:
    """A folder of files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def with_header(
    files: Mapping[str, bytes], change: Callable[[dict[str, Any]], object], *, name: str = HEADER_FILE
) -> Files:
    """The run with fields of `run.json`, or of another header, changed in place and its checksum made anew."""
    header = json.loads(files[name])
    change(header)
    return {**files, name: seal(header)}


def seal(header: Mapping[str, Any]) -> bytes:
    """The bytes of a `run.json` with a checksum that fits."""
    return encode_header({**header, "sha256": "0" * 64})


def seal_text(text: str) -> bytes:
    """The bytes of a `run.json` given as text, in which `"sha256": "000…"` stands on its line, with a checksum."""
    blank = text.encode("utf-8", "surrogatepass")
    return blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode(), 1)


def with_table_bytes(
    files: Mapping[str, bytes], name: str, content: bytes, *, n_rows: int | None = None, header_name: str = HEADER_FILE
) -> Files:
    """The run with other bytes for a table, all checksums made anew."""

    def change(header: dict[str, Any]) -> None:
        entry = header["files"][name]
        entry |= {"sha256": hashlib.sha256(content).hexdigest(), "n_bytes": len(content)}
        entry |= {} if n_rows is None else {"n_rows": n_rows}

    return with_header({**files, name: content}, change, name=header_name)


def with_column(
    files: Mapping[str, bytes],
    name: str,
    column: str,
    change: Callable[[list[Any]], object],
    *,
    header_name: str = HEADER_FILE,
) -> Files:
    """The run with values of a column changed in place, all checksums made anew."""
    table = pq.read_table(io.BytesIO(files[name]))
    values = table[column].to_pylist()
    change(values)
    index, field = table.schema.get_field_index(column), table.schema.field(column)
    altered = table.set_column(index, field, pa.array(values, type=field.type))
    return with_table_bytes(files, name, parquet_bytes(altered), header_name=header_name)


def parquet_bytes(table: pa.Table, **settings: Any) -> bytes:
    """A table as the bytes of a file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **settings)
    return sink.getvalue()


VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 10**40, -1e308, 0.5, "", "x", "\x1b[31m", "<script>", "a" * 5000, "\ud800",
    [], {}, [1], ["x"], {"x": 1}, {"$float": "nan"}, {"$float": "-inf"}, [[[]]], {"kind": "rise"}, {"\0": None},
)  # fmt: skip


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from _places(item, (*place, key))


def alter_header(header: dict[str, Any], choose: random.Random) -> None:
    """Change one value to one of another type, leave it out, repeat it, or put something beside it."""
    places = [place for place in _places(header) if place != ("sha256",)]
    first = choose.choice(sorted({place[0] for place in places}))
    *way, last = choose.choice([place for place in places if place[0] == first])
    parent: Any = header
    for step in way:
        parent = parent[step]
    how = choose.choice(("replace", "replace", "replace", "leave out", "add"))
    if how == "leave out":
        del parent[last]
    elif how == "add" and isinstance(parent, dict):
        parent[choose.choice(("x", "\x1b", "kind"))] = copy.deepcopy(choose.choice(VALUES))
    else:
        parent[last] = copy.deepcopy(choose.choice(VALUES))


def with_altered_header(files: Mapping[str, bytes], seed: int) -> Files:
    """The run with one field of `run.json` altered, which one and how by the seed; its checksum made anew."""
    return with_header(files, lambda header: alter_header(header, random.Random(seed)))
