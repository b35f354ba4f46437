"""Small files of prompts that hold gigabytes, and names that are no files: refused in words before memory fills."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layertracer import TaskFileError
from layertracer.tasks import load_task
from layertracer.tasks._files.unpacking import MAX_ROWS, count_texts, read_parquet_table

_LONG = "x" * 2**20
_MOST_PACKED = 10 * 2**20


def repeated(text: str, n_rows: int) -> pa.Array:
    """One text in many rows, kept once."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n_rows, np.int32)), pa.array([text]))


def parquet(table: pa.Table, path: Path) -> Path:
    """A Parquet file."""
    pq.write_table(table, path, compression="zstd")
    return path


def arrow(table: pa.Table, path: Path) -> Path:
    """An Arrow file."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def stream(table: pa.Table, path: Path) -> Path:
    """An Arrow stream."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def pairs(column: pa.Array) -> pa.Table:
    """A column of prompts, and one of answers."""
    return pa.table({"prompt": column, "answer": repeated(" y", len(column))})


def lists_of_nothing() -> pa.Table:
    """Three rows with ten million empty values each."""
    offsets = pa.array([0, 10**7, 2 * 10**7, 3 * 10**7], pa.int32())
    lists = pa.ListArray.from_arrays(offsets, pa.nulls(3 * 10**7))
    return pa.table({"prompt": ["a"] * 3, "answer": [" b"] * 3, "more": lists})


Write = Callable[[pa.Table, Path], Path]
BOMBS: list[tuple[str, Callable[[], pa.Table], Write, str]] = [
    (
        "rows.parquet",
        lambda: pairs(repeated("x", MAX_ROWS + 1)),
        parquet,
        r"2,000,001 rows or more.*may have 2,000,000",
    ),
    ("texts.parquet", lambda: pairs(repeated(_LONG, 1500)), parquet, "unpacks to more than 1024 MiB"),
    ("texts.arrow", lambda: pairs(repeated(_LONG, 1500)), arrow, "unpacks to more than 1024 MiB"),
    ("texts.feather", lambda: pairs(repeated(_LONG, 1500)), stream, "unpacks to more than 1024 MiB"),
    ("nulls.arrow", lambda: pa.table({"prompt": pa.nulls(10**9)}), arrow, "1,000,000,000 rows or more"),
    ("lists.parquet", lists_of_nothing, parquet, "more than 20,000,000 cells"),
]


@pytest.mark.parametrize(("name", "make", "write", "words"), BOMBS, ids=[one[0] for one in BOMBS])
def test_tables_that_unpack_to_gigabytes(
    name: str, make: Callable[[], pa.Table], write: Write, words: str, tmp_path: Path
) -> None:
    """A file of a few megabytes that holds a gigabyte of texts or millions of rows is refused with what it has."""
    path = write(make(), tmp_path / name)
    assert path.stat().st_size < _MOST_PACKED
    with pytest.raises(TaskFileError, match=f"{name} .*{words}.*give a part of it"):
        load_task(path, limit=2)


@pytest.mark.parametrize("write", [parquet, arrow, stream])
def test_texts_that_repeat_are_read_as_ever(write: Write, tmp_path: Path) -> None:
    """Dictionaries, large texts and lists are read with their own values in their rows."""
    words = pa.array(["hot", "cold", "hot", None, "wide"]).dictionary_encode()
    table = pa.table({"prompt": words, "answer": pa.array([" a", " b", " c", " d", " e"], pa.large_string())})
    endings = {parquet: "parquet", arrow: "arrow", stream: "feather"}
    task = load_task(write(table, tmp_path / f"t.{endings[write]}"))
    assert [(one.prompt, one.answer) for one in task] == [
        ("hot", " a"),
        ("cold", " b"),
        ("hot", " c"),
        ("wide", " e"),
    ]


def test_columns_that_can_be_no_text_are_not_unpacked(tmp_path: Path) -> None:
    """Images beside the prompts count for nothing: they are not read."""
    table = pa.table({"prompt": ["a", "b"], "answer": [" c", " d"], "image": pa.array([b"\0" * 2**20] * 2)})
    read = read_parquet_table(pa.OSFile(str(parquet(table, tmp_path / "t.parquet"))))
    assert read.column_names == ["prompt", "answer"]


def test_texts_are_counted_where_they_share_bytes() -> None:
    """Views and slices count with what each row says, nothing with nothing."""
    view = pa.array(["abc", None, "x" * 40, ""]).cast(pa.string_view())
    count_texts(pa.table({"a": view.slice(1), "b": pa.array(["d", "e", None])}))
    one = pa.array([_LONG]).cast(pa.string_view()).buffers()
    many = pa.Array.from_buffers(pa.string_view(), 1500, [None, pa.py_buffer(bytes(one[1])[:16] * 1500), *one[2:]])
    with pytest.raises(ValueError, match="unpacks to more than 1024 MiB"):
        count_texts(pa.table({"a": many}))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"a,b\n" * (MAX_ROWS + 1), "has 2,000,001 lines"),
        ("t.txt", b"a\n" * (MAX_ROWS + 1), "has 2,000,001 lines"),
        ("t.jsonl", b"[" * 20_000_001, "has 20,000,001 cells"),
        ("t.tsv", b"\t" * 20_000_001, "has 20,000,001 cells"),
    ],
)
def test_text_of_millions_of_rows(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    """Text that would become millions of rows or cells is refused before it is split."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TaskFileError, match=words):
        load_task(tmp_path / name, limit=2)


def _within_seconds(call: Callable[[], Any], *, seconds: float = 20) -> BaseException | None:
    """What a call raises; it must end in time."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits without end"
    return raised[0] if raised else None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
@pytest.mark.parametrize("name", ["p.jsonl", "p.csv", "p.parquet", "p.txt", "p.json.gz", "text:p"])
@pytest.mark.parametrize("kind", ["pipe", "device", "link"])
def test_pipes_and_devices_are_refused(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may never end is not waited for, whatever its name says."""
    monkeypatch.chdir(tmp_path)
    path = name.removeprefix("text:")
    if kind == "device":
        os.symlink("/dev/zero", path)
    else:
        os.mkfifo("pipe")
        os.symlink("pipe", path) if kind == "link" else os.rename("pipe", path)
    error = _within_seconds(lambda: load_task(name))
    assert isinstance(error, TaskFileError)
    assert "is no ordinary file, but a pipe, a socket or a device" in str(error)


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="there is no /dev/fd")
def test_what_the_shell_pipes_is_read() -> None:
    """`text:<(…)` is a pipe at /dev/fd, put there to be read."""
    reading, writing = os.pipe()
    os.write(writing, b"one two three four five six seven eight nine")
    os.close(writing)
    try:
        assert load_task(f"text:/dev/fd/{reading}", prompt_words=3)[0].answer is not None
    finally:
        os.close(reading)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of addresses hold on Linux")
def test_memory_that_runs_out_is_said_in_words(tmp_path: Path) -> None:
    """Where memory runs out while a file is read, the message says so and what to do."""
    (tmp_path / "t.json").write_text('{"a": [' + "[]," * 10_000_000 + "[]]}")
    code = (
        "import resource, sys, layertracer; from layertracer.tasks import load_task\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)\n"
        "try: load_task(sys.argv[1])\n"
        "except layertracer.TaskFileError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "t.json")], capture_output=True, text=True, timeout=60, check=True
    )
    assert "takes more memory than there is" in done.stdout
