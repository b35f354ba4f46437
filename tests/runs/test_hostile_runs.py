"""Folders that somebody made in order to be read: nothing hangs, fills the memory, or opens what is not the run's."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layertracer import DamagedRunError, LayerTracerError
from layertracer.runs import HEADER_FILE, TABLES, read_run, save_run
from layertracer.runs._schema import LAYERS, PERTURBATIONS, PROMPTS, TOKENS
from layertracer.runs._tables import arrow_schema

from tests.runs.alterations import Files, contents, parquet_bytes, with_header, with_table_bytes, write_files
from tests.support.records.sample_records import make_record

FILES = [HEADER_FILE, *(table.file for table in TABLES)]
RECORD = make_record(n_prompts=2, n_layers=3, n_draws=2, top_k=2)
MEMORY_BYTES = 3 * 2**30
"""Address space of a process that reads a hostile run; libraries alone take about half of it."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a small run."""
    return contents(save_run(RECORD, tmp_path_factory.mktemp("runs") / "run"))


_OPENED: list[list[str]] = []


def _note_opened(event: str, given: tuple[Any, ...]) -> None:
    if _OPENED and event == "open" and str(given[0]).startswith("/"):
        _OPENED[-1].append(str(given[0]))


sys.addaudithook(_note_opened)  # which cannot be removed again; it does nothing where no list wants it


@contextlib.contextmanager
def watching_files() -> Iterator[list[str]]:
    """The paths that are opened within."""
    _OPENED.append([])
    try:
        yield _OPENED[-1]
    finally:
        _OPENED.pop()


PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
from layertracer import LayerTracerError
from layertracer.runs import read_run
for folder in sys.argv[2:]:
    try:
        print("read", read_run(folder).n_prompts)
    except LayerTracerError as error:
        print(type(error).__name__, error)
"""


# ---------------------------------------------------------------- what lies at the paths


def _make_pipe(path: Path) -> None:
    os.mkfifo(path)


def _make_folder(path: Path) -> None:
    path.mkdir()


def _make_link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _make_link_to_pipe(path: Path) -> None:
    os.mkfifo(path.parent.parent / f"pipe-of-{path.name}")
    path.symlink_to(path.parent.parent / f"pipe-of-{path.name}")


def _make_socket(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path.name)


def _make_circle(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [_make_pipe, _make_folder, _make_link_to_zeros, _make_link_to_pipe, _make_socket])
def test_only_regular_files_are_opened(make: Callable[[Path], None], name: str, run: Files, tmp_path: Path) -> None:
    """A pipe, a folder, a device or a socket in a file's place is refused at once, and not waited for."""
    folder = write_files(run, tmp_path / "run")
    (folder / name).unlink()
    make(folder / name)
    with pytest.raises(DamagedRunError, match=rf"{name} cannot be used, it is not a regular file"):
        read_run(folder)


def test_a_link_in_a_circle_is_one_message(run: Files, tmp_path: Path) -> None:
    """A link to itself is refused with the system's reason."""
    folder = write_files(run, tmp_path / "run")
    (folder / "layers.parquet").unlink()
    _make_circle(folder / "layers.parquet")
    with pytest.raises(LayerTracerError, match=r"layers\.parquet could not be read: Too many levels of symbolic links"):
        read_run(folder)


def test_a_file_of_the_system_that_says_it_is_empty(run: Files, tmp_path: Path) -> None:
    """A file that never ends, though it says that it has no bytes, is read no further than it may be."""
    folder = write_files(run, tmp_path / "run")
    (folder / HEADER_FILE).unlink()
    (folder / HEADER_FILE).symlink_to("/proc/self/status")
    with pytest.raises(DamagedRunError, match=r"run\.json cannot be used"):
        read_run(folder)


def test_links_to_the_files_and_the_folder_are_followed(run: Files, tmp_path: Path) -> None:
    """Files that lie elsewhere, as DVC and git-annex keep them, are read through their links, and so is the folder."""
    real = write_files(run, tmp_path / "store")
    (linked := tmp_path / "run").mkdir()
    for name in FILES:
        (linked / name).symlink_to(real / name)
    (tmp_path / "latest").symlink_to(linked)
    assert read_run(tmp_path / "latest") == RECORD


OTHER_NAMES = ("../secret", "/etc/passwd", "layers.parquet/../../secret", "sub/layers.parquet", "run.json", "", "\0")


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_no_other_file_is_opened(name: str, run: Files, tmp_path: Path) -> None:
    """Where `files` names anything but the tables, the run is refused, and what it names is never opened."""
    entry = {"sha256": "0" * 64, "n_bytes": 5, "n_rows": 1}
    files = with_header(run, lambda header: header["files"].update({name: entry}))
    (tmp_path / "secret").write_text("12345")
    folder = write_files(files, tmp_path / "run")
    with (
        watching_files() as opened,
        pytest.raises(DamagedRunError, match=r"run\.json .* files has .*, which is no field"),
    ):
        read_run(folder)
    assert opened == [str(folder / HEADER_FILE)]


def test_no_more_is_opened_than_the_files_of_the_format(run: Files, tmp_path: Path) -> None:
    """Of all that lies in a folder, `run.json` and the tables are opened, once each."""
    folder = write_files(
        {**run, "report.html": b"<script>", "extra.parquet": b"PAR1", "._run.json": b"{}"}, tmp_path / "run"
    )
    with watching_files() as opened:
        read_run(folder)
    assert sorted(opened) == sorted(str(folder / name) for name in FILES)


def test_a_large_file_is_not_read(run: Files, tmp_path: Path) -> None:
    """A file larger than it was written, or a `run.json` of more than 32 MiB, is refused by its size."""
    folder = write_files(run, tmp_path / "run")
    os.truncate(folder / "layers.parquet", 2**34)
    with pytest.raises(DamagedRunError, match=r"layers\.parquet .* its content \(17179869184 bytes, \d+ were written"):
        read_run(folder)
    os.truncate(folder / HEADER_FILE, 2**34)
    with pytest.raises(DamagedRunError, match=r"run\.json cannot be used, it has 17179869184 bytes"):
        read_run(folder)


# ---------------------------------------------------------------- tables that are small on the disk alone


def _with_shape(files: Files, **sizes: int) -> Files:
    """The run with other sizes, of which the rows of its tables follow."""

    def change(header: dict[str, Any]) -> None:
        header["shape"] |= sizes
        header["n_requested"] = max(header["n_requested"], header["shape"]["n_prompts"])
        header["spec"]["perturbation"]["draws"] = header["shape"]["n_draws"]
        header["demonstration_sets"] = None
        for table in TABLES:
            if table.axes:
                rows = [header["shape"][f"n_{axis}s"] for axis in table.axes]
                header["files"][table.file]["n_rows"] = int(np.prod(rows, dtype=object))

    return with_header(files, change)


def _constant(table: Any, n_rows: int, **columns: pa.Array) -> bytes:
    """A table of so many equal rows: a few kilobytes, whatever their number."""
    schema = arrow_schema(table)
    arrays = [
        columns.get(name, pa.array(np.zeros(n_rows, kind.to_pandas_dtype())))
        for name, kind in zip(schema.names, schema.types, strict=True)
    ]
    return parquet_bytes(pa.Table.from_arrays(arrays, schema=schema), row_group_size=2**26)


def _many_rows(run: Files) -> Files:
    n_rows = 2 * 6_000_000 * 3
    files = _with_shape(run, n_draws=6_000_000)
    return with_table_bytes(files, PERTURBATIONS.file, _constant(PERTURBATIONS, n_rows))


def _long_texts(run: Files) -> Files:
    """A million times the same megabyte."""
    kind = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema(
        [pa.field(name, one, nullable=False) for name, one in (("token_id", pa.int64()), ("text", kind))]
    )
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**6, np.int32)), pa.array(["x" * 2**20]))
    table = pa.Table.from_arrays([pa.array(np.arange(10**6)), texts], schema=schema)
    content = parquet_bytes(table, dictionary_pagesize_limit=2**30, store_schema=False)
    assert pq.read_schema(pa.BufferReader(content)).equals(arrow_schema(TOKENS))
    return with_table_bytes(run, TOKENS.file, content, n_rows=10**6)


def _long_list(run: Files) -> Files:
    """One list of 35 million equal ids."""
    table = pq.read_table(pa.BufferReader(run[PROMPTS.file]))
    field = table.schema.field("prompt_ids")
    long = pa.ListArray.from_arrays([0, 35 * 10**6, 35 * 10**6 + 1], pa.array(np.zeros(35 * 10**6 + 1, np.int64)))
    content = parquet_bytes(table.set_column(table.schema.names.index("prompt_ids"), field, long.cast(field.type)))
    assert len(content) < 2**17
    return with_table_bytes(run, PROMPTS.file, content)


def _many_top(run: Files) -> Files:
    """Sizes whose product no machine has room for."""
    return _with_shape(run, n_prompts=2**31 - 1, n_layers=3)


def _other_columns(run: Files) -> Files:
    return with_table_bytes(run, LAYERS.file, parquet_bytes(pa.table({f"c{index}": [1] for index in range(500)})))


def _nested(run: Files) -> Files:
    kind: pa.DataType = pa.int32()
    for _ in range(60):
        kind = pa.list_(kind)
    return with_table_bytes(run, LAYERS.file, parquet_bytes(pa.table({"prompt": pa.array([None], type=kind)})))


BOMBS: dict[str, tuple[Callable[[Files], Files], str]] = {
    "36 million equal rows": (_many_rows, r"perturbations\.parquet .*its rows would take more than \d+ bytes"),
    "a terabyte of text": (_long_texts, r"tokens\.parquet .*its rows take more than \d+ bytes"),
    "a list of 35 million": (_long_list, r"prompts\.parquet .*its rows would take more than \d+ bytes"),
    "2 thousand million prompts": (_many_top, r"layers\.parquet .*it has 6 rows and must have 6442450941"),
    "500 columns": (_other_columns, r"layers\.parquet .*it has the columns 'c0', 'c1'"),
    "60 lists deep": (_nested, r"layers\.parquet cannot be used"),
}


@pytest.fixture(scope="module")
def said(run: Files, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What reading each of them says, in a process that may take little time and memory for all."""
    parent = tmp_path_factory.mktemp("bombs")
    folders = [write_files(make(run), parent / name.replace(" ", "-")) for name, (make, _) in BOMBS.items()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    command = [sys.executable, "-c", PROGRAM, str(MEMORY_BYTES), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(zip(BOMBS, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("name", BOMBS)
def test_rows_that_unpack_to_gigabytes(name: str, said: dict[str, str]) -> None:
    """Tables of kilobytes that stand for gigabytes are refused before they are unpacked."""
    assert said[name].startswith("DamagedRunError"), said[name]
    assert re.search(BOMBS[name][1], said[name]), said[name]
