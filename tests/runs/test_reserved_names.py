"""Names of columns: what stands for something in every trace is no measure's name, in a record or a stored run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layertracer import DamagedRunError, UsageError, verify_run
from layertracer._types import KNOWN_ROWS, RESERVED_NAMES, LayerMeasure, MeasureInfo
from layertracer.runs import HEADER_FILE, EffectRecord, TraceRecord, read_run, save_run
from layertracer.runs._record import ARRAY_AXES
from layertracer.runs._schema import TABLES

from tests.runs.alterations import Files, contents, parquet_bytes, with_header, with_table_bytes, write_files
from tests.support.records.logit_records import named_record

RECORD = named_record()
FREE = sorted(RESERVED_NAMES - KNOWN_ROWS.keys())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a run with several of everything."""
    return contents(save_run(RECORD, tmp_path_factory.mktemp("reserved") / "run"))


def info_of(name: str) -> MeasureInfo:
    """Some number of a name."""
    return MeasureInfo(name=name, unit="bits", meaning="something else")


def with_row(effect: EffectRecord, name: str) -> EffectRecord:
    """The effect with one more row measure."""
    return dataclasses.replace(
        effect, rows={**effect.rows, name: effect.js_bits}, infos={**effect.infos, name: info_of(name)}
    )


def with_rows(name: str) -> TraceRecord:
    """The record with one more row measure of every effect."""
    effects = {key: with_row(effect, name) for key, effect in RECORD.effects.items()}
    return dataclasses.replace(RECORD, effects=effects)


def test_every_name_that_a_trace_has_is_reserved() -> None:
    """Axes, arrays of a record, columns of its data frame that follow from no measure, and of tables by layer."""
    plain = dataclasses.replace(RECORD, measures={}).to_pandas().columns
    by_layer = {column.name for table in TABLES if "layer" in table.axes for column in table.columns}
    assert {name for name in plain if "." not in name} | set(ARRAY_AXES) | by_layer <= RESERVED_NAMES


@pytest.mark.parametrize("name", FREE)
def test_a_row_measure_of_a_reserved_name_is_refused(name: str) -> None:
    """A row measure cannot take the name of a column or of an axis."""
    with pytest.raises(UsageError, match=f"A row measure cannot be called '{name}'"):
        with_rows(name)


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_a_layer_measure_of_a_reserved_name_is_refused(name: str) -> None:
    """A layer measure cannot take it either."""
    measure = LayerMeasure(info=info_of(name), values=np.zeros((6, 4)))
    with pytest.raises(UsageError, match=f"A layer measure cannot be called '{name}'"):
        dataclasses.replace(RECORD, measures={name: measure})


def test_no_measure_of_rows_is_one_of_layers() -> None:
    """One name stands for one column: of two measures, one must be called otherwise."""
    measure = LayerMeasure(info=info_of("drift_bits"), values=np.zeros((6, 4)))
    record = with_rows("drift_bits")
    assert record.to_pandas()["drift_bits"].notna().any()
    with pytest.raises(UsageError, match=r"are both called 'drift_bits'\. Give each a name of its own"):
        dataclasses.replace(record, measures={"drift_bits": measure})


def test_a_data_frame_keeps_every_column(tmp_path: Path) -> None:
    """A lens that is called like a site, and a measure like a lens, overwrite nothing, and are stored and read."""
    lens = dataclasses.replace(RECORD.lenses["linear"], name="mlp_output")
    spec = dataclasses.replace(RECORD.spec, lenses=("linear", "mlp_output"))
    record = dataclasses.replace(
        with_rows("linear"), spec=spec, lenses={"linear": RECORD.lenses["linear"], "mlp_output": lens}
    )
    frame = record.to_pandas()
    # 8 of every trace; 2 layer measures; 3 rows of the first effect less its JS, 3 of both others; 3 of each lens
    assert len(frame.columns) == len(set(frame.columns)) == 8 + 2 + 2 + 3 + 3 + 3 + 3
    assert read_run(save_run(record, tmp_path / "run")) == record


def with_stored(files: Files, table: str, name: str) -> Files:
    """A run whose table has one more column of numbers, under a name, with checksums that fit."""
    rows = pq.read_table(pa.BufferReader(files[table]))
    values = pa.array(np.full(rows.num_rows, 0.25, np.float32))
    added = rows.append_column(pa.field(name, pa.float32(), nullable=False), values)
    column: dict[str, Any] = {"name": name, "type": "float32", "unit": "bits", "meaning": "x", "nullable": False}
    column |= {"low": None, "high": None}
    altered = with_header(files, lambda header: header["files"][table]["columns"].append(column))
    return with_table_bytes(altered, table, parquet_bytes(added))


@pytest.mark.parametrize("name", [*FREE, "block_influence"])
def test_a_stored_row_measure_of_a_taken_name_is_damage(name: str, files: Files, tmp_path: Path) -> None:
    """A stored run in which a row measure has the name of something else is refused, and never read in its place."""
    path = write_files(with_stored(files, "perturbations.parquet", name), tmp_path / "run")
    found = verify_run(path)
    assert any(repr(name) in fault.reason and fault.file == HEADER_FILE for fault in found.faults), found.faults
    with pytest.raises(DamagedRunError, match="is damaged"):
        read_run(path)


def test_a_stored_row_measure_of_its_own_name_is_read(files: Files, tmp_path: Path) -> None:
    """The same column under a name of its own is read: the name alone is what was refused."""
    path = write_files(with_stored(files, "perturbations.parquet", "drift_bits"), tmp_path / "run")
    assert verify_run(path).is_intact
    assert read_run(path).effects["mlp_output"].rows["drift_bits"].max() == 0.25
