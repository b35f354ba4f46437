"""The Parquet tables of a run: arrays to bytes and back."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from layertracer.runs._columns import Named, without_effect
from layertracer.runs._json_rules import described
from layertracer.runs._record import TraceRecord
from layertracer.runs._schema import DIMENSIONS, EFFECT, LAYERS, PERTURBATIONS, PROMPTS, TOKENS, Table

PROMPT_FIELDS = (
    "prompt_ids",
    "answer_ids",
    "target_ids",
    "top_id",
    "top_prob",
    "solved",
    "prompt_text",
    "answer_text",
    "begins",
    "n_lead",
    "other_answer_ids",
    "other_answer_texts",
)


_VALUE_BYTES = {"INT32": 4, "INT64": 8, "FLOAT": 4, "DOUBLE": 8}
_ROWS_PER_BATCH = 2**16

LAYER_FIELDS = ("target_log_prob", "target_rank", "entropy_bits", "top_ids", "top_prob")


def name_parts(record: TraceRecord) -> Named:
    """What a record has by name."""
    first, *_ = effects = tuple(record.effects.values())
    return Named(
        measures=tuple(measure.info for measure in record.measures.values()),
        rows=tuple(info for name, info in first.infos.items() if name != "js_bits"),
        lenses=tuple(record.lenses),
        n_draws=tuple(effect.n_draws for effect in effects),
    )


def tabulate(record: TraceRecord, tables: Sequence[Table]) -> dict[str, bytes]:
    """The bytes of every table of a run, by file name.

    Laws: the same record gives the same bytes.

    Args:
        record: The trace.
        tables: The tables of what it has by name, see `name_parts`.
    """
    values = _values_of(record)
    sizes = Sizes.of_record(record)
    return {table.file: _encode(table, values[table.file], sizes) for table in tables}


def _values_of(record: TraceRecord) -> dict[str, list[dict[str, Any]]]:
    """The columns of every table, for each block of its rows."""
    prompts: dict[str, Any] = {field: [getattr(prompt, field) for prompt in record.prompts] for field in PROMPT_FIELDS}
    layers = {name: getattr(record, name) for name in LAYER_FIELDS}
    layers |= {name: measure.values for name, measure in record.measures.items()}
    prompts["embedding_log_prob"] = record.embedding_log_prob
    for lens in record.lenses.values():
        layers |= {f"{lens.name}.{name}": getattr(lens, name) for name in LAYER_FIELDS}
        prompts[f"{lens.name}.embedding_log_prob"] = lens.embedding_log_prob
    effects = list(record.effects.values())
    ids = sorted(record.tokens)
    return {
        LAYERS.file: [layers],
        PERTURBATIONS.file: [dict(effect.rows) for effect in effects],
        PROMPTS.file: [prompts],
        DIMENSIONS.file: [
            {
                "dominant_dimension": effect.dominant_dimension,
                "dominant_ratio": effect.dominant_ratio,
                "dominant_hit": effect.dominant_hit.T,
            }
            for effect in effects
        ],
        TOKENS.file: [{"token_id": ids, "text": [record.tokens[token] for token in ids]}],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Lengths of the axes of a run.

    Attributes:
        prompt: Number of prompts.
        layer: Number of layers.
        draws: Number of draws of every perturbation.
    """

    prompt: int
    layer: int
    draws: tuple[int, ...]

    @classmethod
    def of_record(cls, record: TraceRecord) -> Sizes:
        """Those of a record."""
        draws = tuple(effect.n_draws for effect in record.effects.values())
        return cls(prompt=record.n_prompts, layer=record.n_layers, draws=draws)

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> Sizes:
        """Those in a header whose fields are of their types."""
        shape = header["shape"]
        draws = (shape["n_draws"], *shape["n_further_draws"])
        return cls(prompt=shape["n_prompts"], layer=shape["n_layers"], draws=draws)

    def blocks(self, table: Table) -> tuple[tuple[int, ...], ...]:
        """The shape of each block of a table's rows: one for each perturbation where rows are of them, else one."""
        axes = [axis for axis in table.axes if axis != EFFECT.name]
        draws = self.draws if table.file in OF_EFFECTS else self.draws[:1]
        return tuple(
            tuple({"prompt": self.prompt, "layer": self.layer, "draw": n}[axis] for axis in axes) for n in draws
        )

    def n_rows(self, table: Table) -> int:
        """How many rows a table with axes has."""
        return sum(math.prod(shape) for shape in self.blocks(table))


OF_EFFECTS = (PERTURBATIONS.file, DIMENSIONS.file)
"""Tables with rows for every perturbation."""


def _encode(table: Table, blocks: Sequence[Mapping[str, Any]], sizes: Sizes) -> bytes:
    rows = dict(zip(table.axes, index_columns(table, sizes), strict=True))
    n_axes = len(without_effect(table).axes)
    arrays = []
    for column in table.columns:
        kind = arrow_type(column.type)
        if column.name in rows:
            arrays.append(_to_arrow(rows[column.name], kind, 1))
        else:
            parts = [_to_arrow(values[column.name], kind, n_axes) for values in blocks]
            arrays.append(parts[0] if len(parts) == 1 else pa.concat_arrays(parts))
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=arrow_schema(table)), sink, compression="zstd")
    return sink.getvalue()


def _to_arrow(values: NDArray[Any] | list[Any], kind: pa.DataType, n_axes: int) -> pa.Array:
    """An Arrow array; an array's axes beyond those of the rows become lists."""
    if not isinstance(values, np.ndarray):
        return pa.array(values, type=kind)
    if values.ndim > max(n_axes, 1):
        flat = np.ascontiguousarray(values).reshape(-1)
        n_rows = int(np.prod(values.shape[:-1]))
        offsets = np.arange(n_rows + 1, dtype=np.int32) * np.int32(values.shape[-1])
        return pa.ListArray.from_arrays(offsets, pa.array(flat, type=kind.value_type), type=kind)
    return pa.array(np.ascontiguousarray(values).reshape(-1), type=kind)


_ARRAY_TYPES = ("int32", "int64", "float32", "float64")
_NO_AXES = Sizes(prompt=0, layer=0, draws=(1,))
_LARGEST_ROWS_BYTES = 256 * 2**20


def encode_rows(table: Table, columns: Mapping[str, Sequence[Any]]) -> bytes:
    """The bytes of a table without axes. Laws: the same columns give the same bytes.

    Args:
        table: The table's schema.
        columns: Its columns by name, each a list of Python values.
    """
    return _encode(table, [columns], _NO_AXES)


def decode_rows(
    table: Table, content: bytes, *, n_rows: int, limit_bytes: int = _LARGEST_ROWS_BYTES, as_arrays: bool = False
) -> dict[str, Any]:
    """The columns of a table without axes, as lists of Python values; those that it may lack and lacks are left out.

    Args:
        table: The table's schema.
        content: The bytes of its file.
        n_rows: How many rows it must have.
        limit_bytes: How much memory its rows may take.
        as_arrays: Whether columns of numbers that are never null become arrays.

    Raises:
        ValueError: If the columns are not those of the schema, or the rows not as many, or too large.
    """
    stored = load_table(table, content, _NO_AXES, n_rows=n_rows, limit_bytes=limit_bytes)
    arrays = {column.name for column in table.columns if column.type in _ARRAY_TYPES and not column.nullable}
    return {
        name: _to_numpy(stored[name], [n_rows]) if as_arrays and name in arrays else stored[name].to_pylist()
        for name in stored.schema.names
    }


def index_columns(table: Table, sizes: Sizes) -> list[NDArray[np.int32]]:
    """The index columns that a table must have, one per axis."""
    if not table.axes:
        return []
    grids = [np.indices(shape, dtype=np.int32) for shape in sizes.blocks(table)]
    if len(grids) == 1 and EFFECT.name not in table.axes:
        return [axis.reshape(-1) for axis in grids[0]]
    effect = [np.full(grid[0].size, number, np.int32) for number, grid in enumerate(grids)]
    columns = [effect, *([grid[axis].reshape(-1) for grid in grids] for axis in range(len(grids[0])))]
    return [np.concatenate(parts) for parts in columns]


def arrow_type(name: str) -> pa.DataType:
    """Arrow's type of a column type of the schema.

    Example:
        >>> str(arrow_type("list<int32>"))
        'list<element: int32 not null>'
    """
    if name.startswith("list<"):
        return pa.list_(pa.field("element", arrow_type(name[5:-1]), nullable=False))
    types: dict[str, pa.DataType] = {
        "bool": pa.bool_(),
        "string": pa.string(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "float32": pa.float32(),
        "float64": pa.float64(),
    }
    return types[name]


def arrow_schema(table: Table) -> pa.Schema:
    """Arrow's schema of a table."""
    return pa.schema([pa.field(c.name, arrow_type(c.type), nullable=c.nullable) for c in table.columns])


def load_table(table: Table, content: bytes, sizes: Sizes, *, n_rows: int, limit_bytes: int) -> pa.Table:
    """The rows of a table, of the schema's columns and one per index of its axes.

    What the file says of itself is looked at before anything is decoded: a few kilobytes can say a thousand million
    rows.

    Args:
        table: The table's schema.
        content: The bytes of its file.
        sizes: Lengths of its axes.
        n_rows: How many rows it must have.
        limit_bytes: How much memory its rows may take.

    Raises:
        ValueError: If the columns are not those of the schema, the rows not those of the axes, or too large.
    """
    metadata = pq.read_metadata(pa.BufferReader(content))
    found = metadata.schema.to_arrow_schema()
    if not found.equals(arrow_schema(_present(table, found.names))):
        raise ValueError(f"it has the columns {', '.join(map(described, found.names))}, not those of the format")
    if metadata.num_rows != n_rows:
        raise ValueError(
            f"it has {metadata.num_rows} rows and must have {n_rows}: its rows are not one per {table.rows}"
        )
    _refuse_large(metadata, limit_bytes)
    stored = _read_bounded(content, metadata, limit_bytes)
    for axis, expected in zip(table.axes, index_columns(table, sizes), strict=True):
        if not np.array_equal(stored[axis].to_numpy(), expected):
            raise ValueError(f"its rows are not one per {table.rows} in their order")
    return stored


def _present(table: Table, names: Sequence[str]) -> Table:
    """The table without the optional columns that it has not."""
    return replace(table, columns=tuple(one for one in table.columns if not one.optional or one.name in names))


def _refuse_large(metadata: pq.FileMetaData, limit_bytes: int) -> None:
    """Refuse rows that by what the file says of itself take more than so many bytes."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    if sum(_VALUE_BYTES.get(column.physical_type, 1) * column.num_values for column in columns) > limit_bytes:
        raise ValueError(f"its rows would take more than {limit_bytes} bytes")


def _read_bounded(content: bytes, metadata: pq.FileMetaData, limit_bytes: int) -> pa.Table:
    """All rows, refused as soon as they take more than so many bytes.

    Texts that repeat are kept once, as in the file, and only their lengths are counted: a million times the same
    megabyte takes three kilobytes there.
    """
    leaves = [metadata.schema.column(index) for index in range(len(metadata.schema))]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=texts)
    batches, n_bytes = [], 0
    for batch in file.iter_batches(batch_size=_ROWS_PER_BATCH):
        n_bytes += batch.nbytes + sum(map(_text_bytes, batch.columns))
        if n_bytes > limit_bytes:
            raise ValueError(f"its rows take more than {limit_bytes} bytes")
        batches.append(batch)
    return pa.Table.from_batches(batches, schema=file.schema_arrow)


def _text_bytes(column: pa.Array) -> int:
    """What the texts of a column take where each stands for itself."""
    if pa.types.is_list(column.type):
        return _text_bytes(column.flatten())
    if not pa.types.is_dictionary(column.type):
        return 0
    lengths = pc.binary_length(column.dictionary).to_numpy(zero_copy_only=False)
    return int(lengths[column.indices.drop_null().to_numpy()].sum())


def split_effects(table: Table, stored: pa.Table, sizes: Sizes) -> list[tuple[pa.Table, list[int]]]:
    """The rows of every block of a table, with the shape of its axes: one block, or one for each perturbation.

    Args:
        table: The table's schema.
        stored: Its rows, from `load_table`.
        sizes: Lengths of its axes.
    """
    shapes = [list(shape) for shape in sizes.blocks(table)]
    if len(shapes) == 1:
        return [(stored, shapes[0])]
    found, start = [], 0
    for shape in shapes:
        found.append((stored.slice(start, math.prod(shape)).drop_columns([EFFECT.name]), shape))
        start += math.prod(shape)
    return found


def to_columns(table: Table, stored: pa.Table, shape: list[int]) -> dict[str, Any]:
    """The columns of a table: arrays of the axes' shape where it has axes, lists of Python values otherwise.

    Optional columns that it has not are left out.

    Args:
        table: The table's schema, without an axis of effects.
        stored: Its rows, from `split_effects`.
        shape: Lengths of its axes.

    Raises:
        ValueError: If lists that become an array have several lengths.
    """
    as_lists = table.file in (PROMPTS.file, TOKENS.file)
    names = [name for name in stored.schema.names if name not in table.axes]
    return {name: stored[name].to_pylist() if as_lists else _to_numpy(stored[name], shape) for name in names}


def _to_numpy(column: pa.ChunkedArray, shape: list[int]) -> NDArray[Any]:
    whole = column.combine_chunks()
    if not pa.types.is_list(column.type):
        return np.asarray(whole.to_numpy(zero_copy_only=False)).reshape(shape)
    lengths = set(np.diff(whole.offsets.to_numpy()).tolist())
    if len(lengths) > 1:
        raise ValueError(f"its lists have several lengths: {sorted(lengths)}")
    flat = np.asarray(whole.flatten().to_numpy(zero_copy_only=False))
    return flat.reshape([*shape, lengths.pop() if lengths else -1] if flat.size else [*shape, 0])
