"""Tables that programs pack, unpacked as far as memory is meant for them: some kilobytes can say 10^9 rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from layertracer._errors import TaskFileError
from layertracer.tasks._files.content import MAX_BYTES, Content

MAX_ROWS = 2_000_000
"""What a task may have: each takes about half a kilobyte as a record."""

_MAX_CELLS = 10 * MAX_ROWS
_ROWS_PER_BATCH = 4096
_MARKS = (b",", b"\t", b";", b"|", b"{", b"[")
"""What cells and records of text begin with. Prose has a comma in a hundred characters, and its file a thousand
million."""

_WHOLE_FILE_MAGIC = b"ARROW1"
"""Arrow's file format begins with this; its stream format, which `datasets` writes, does not."""


class UnpacksTooLargeError(ValueError):
    """A file that holds more than a task may have; the message goes on behind its name."""


def read_parquet_table(stream: Any) -> Any:
    """The columns of a Parquet file that may hold text.

    What the file says of its size is looked at before anything is unpacked, and what it holds while that is done.

    Raises:
        UnpacksTooLargeError: If it holds too much.
    """
    from pyarrow import parquet

    metadata = parquet.read_metadata(stream)
    check_rows(metadata.num_rows)
    schema = metadata.schema.to_arrow_schema()
    leaves = [metadata.schema.column(index) for index in range(len(metadata.schema))]
    top = [leaf.path.split(".")[0] for leaf in leaves]
    wanted = {field.name for field in schema if is_readable(field.type)}
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    sizes = [
        group.column(index).total_uncompressed_size
        for group in groups
        for index in range(group.num_columns)
        if top[index] in wanted
    ]
    _check_bytes(sum(sizes))
    # Texts that repeat are kept once, as in the file, until all of them are counted.
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and leaf.path in wanted]
    stream.seek(0)
    file = parquet.ParquetFile(stream, read_dictionary=texts)
    wanted_names = [field.name for field in schema if field.name in wanted] or None
    return _joined(file.iter_batches(batch_size=_ROWS_PER_BATCH, columns=wanted_names), file.schema_arrow)


def read_arrow_table(stream: Any) -> Any:
    """The table of an Arrow stream or file.

    Raises:
        UnpacksTooLargeError: If it holds too much.
    """
    import pyarrow as pa

    if stream.read(len(_WHOLE_FILE_MAGIC)) == _WHOLE_FILE_MAGIC:
        file = pa.ipc.open_file(stream)
        batches = (file.get_batch(index) for index in range(file.num_record_batches))
        return _joined(batches, file.schema)
    stream.seek(0)
    reader = pa.ipc.open_stream(stream)
    return _joined(reader, reader.schema)


def _joined(batches: Iterable[Any], schema: Any) -> Any:
    """Batches as a table, given up as soon as they are too many."""
    import pyarrow as pa

    kept, n_bytes, n_rows = [], 0, 0
    for batch in batches:
        n_bytes, n_rows = n_bytes + batch.nbytes, n_rows + batch.num_rows
        _check_bytes(n_bytes)
        check_rows(n_rows)
        kept.append(batch)
    if not kept:
        return schema.empty_table()
    # Dictionaries of batches differ, which concatenating as chunks leaves as it is.
    return pa.Table.from_batches(kept).replace_schema_metadata(schema.metadata)


def count_texts(table: Any) -> None:
    """Refuse columns whose values would take too much as Python's own.

    Raises:
        UnpacksTooLargeError: If they would.
    """
    n_cells, n_bytes = 0, 0
    for column in table.columns:
        for chunk in column.chunks:
            cells, text = _weight_of(chunk)
            n_cells, n_bytes = n_cells + cells, n_bytes + text
            _check_bytes(n_bytes)
            if n_cells > _MAX_CELLS:
                raise UnpacksTooLargeError(f"has more than {_MAX_CELLS:,} cells in the columns that may hold text")


def _weight_of(array: Any) -> tuple[int, int]:
    """How many values an array has, those of lists among them, and the bytes of its texts where each stands alone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        n_inside, n_bytes = _weight_of(array.flatten())
        return len(array) + n_inside, n_bytes
    if pa.types.is_dictionary(kind):
        if not _is_text(kind.value_type):
            return len(array), 0
        lengths = pc.fill_null(pc.binary_length(array.dictionary), 0).cast(pa.int64())
        return len(array), pc.sum(lengths.take(array.indices)).as_py() or 0
    if _is_text(kind):
        return len(array), pc.sum(pc.binary_length(array).cast(pa.int64())).as_py() or 0
    if pa.types.is_string_view(kind):  # 16 bytes a text, which begin with its length; many may share one text
        views = np.frombuffer(array.buffers()[1] or b"", np.int32)[::4][array.offset : array.offset + len(array)]
        return len(array), int(views.sum(dtype=np.int64))
    return len(array), 0


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_readable(kind: Any) -> bool:
    """Whether a column may hold text: anything but bytes, records, and forms in which one value stands for many."""
    import pyarrow as pa

    checks = (
        "struct",
        "binary",
        "large_binary",
        "run_end_encoded",
        "list_view",
        "large_list_view",
        "binary_view",
        "map",
    )
    return not any(getattr(pa.types, f"is_{check}")(kind) for check in checks)


def check_marks(content: Content) -> None:
    """Refuse text that would become more rows or cells than a task may have, before it is split.

    Raises:
        TaskFileError: If it would.
    """
    if len(content.data) <= MAX_ROWS:
        return
    n_lines = max(content.data.count(b"\n"), content.data.count(b"\r"))
    n_marks = max(content.data.count(mark) for mark in _MARKS)
    if n_lines > MAX_ROWS or n_marks > _MAX_CELLS:
        found = f"{n_lines:,} lines" if n_lines > MAX_ROWS else f"{n_marks:,} cells"
        raise TaskFileError(
            f"{content.path} has {found}, and a task file may have {MAX_ROWS:,} rows and {_MAX_CELLS:,} cells. A task "
            "is read as a whole: give a part of it."
        )


def check_rows(n_rows: int) -> None:
    """Refuse more rows than a task may have.

    Raises:
        UnpacksTooLargeError: If there are more.
    """
    if n_rows > MAX_ROWS:
        raise UnpacksTooLargeError(f"has {n_rows:,} rows or more, and a task file may have {MAX_ROWS:,}")


def _check_bytes(n_bytes: int) -> None:
    if n_bytes > MAX_BYTES:
        raise UnpacksTooLargeError(f"unpacks to more than {MAX_BYTES // 2**20} MiB")
