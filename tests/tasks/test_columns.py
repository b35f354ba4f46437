"""Parquet, Arrow, and folders that `datasets` saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from layertracer._errors import TaskFileError
from layertracer.tasks import load_task

from tests.tasks.task_files import load_text, pairs_of

FILMS = {"text": ["good film", "bad film", "no label"], "label": [1, 0, -1]}


def labelled() -> pa.Table:
    """Films with the numbers of classes, and the classes' names as `datasets` writes them beside a table."""
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    }
    return pa.table(FILMS).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def save(folder: Path, table: pa.Table, **state: Any) -> Path:
    """A folder as save_to_disk makes it, in two files."""
    folder.mkdir(parents=True)
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name, part in zip(names, (table.slice(0, 1), table.slice(1)), strict=True):
        with pa.ipc.new_stream(folder / name, table.schema) as stream:
            stream.write_table(part)
    described = {"_data_files": [{"filename": name} for name in names], **state}
    (folder / "state.json").write_text(json.dumps(described), "utf-8")
    return folder


def test_classes_are_read_by_name(tmp_path: Path) -> None:
    """Numbers that stand for classes are read as the classes' names; one that stands for none is missing."""
    parquet.write_table(labelled(), tmp_path / "films.parquet")
    task = load_task(tmp_path / "films.parquet", n_shot=0)
    assert pairs_of(task) == {("good film", "pos"), ("bad film", "neg")}
    assert task.notes[0].endswith("1 row left out: empty answer (row 2)")
    assert "numbers of column 'label' stand for classes" in task.notes[1]


def test_saved_folder(tmp_path: Path) -> None:
    """A saved folder gives the rows of all its files in their order; so does a folder of one split."""
    folder = save(tmp_path / "films", labelled())
    task = load_task(folder, n_shot=0)
    assert pairs_of(task) == {("good film", "pos"), ("bad film", "neg")}
    assert (task.name, len(task.spec["sha256"])) == ("films", 64)
    save(tmp_path / "one" / "train", labelled())
    (tmp_path / "one" / "dataset_dict.json").write_text('{"splits": ["train"]}', "utf-8")
    assert load_task(tmp_path / "one", n_shot=0).samples == task.samples


def test_the_library_saves_what_is_read(tmp_path: Path) -> None:
    """What the `datasets` library saves is read without it."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    classes = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"text": datasets.Value("string"), "label": classes})
    dataset = datasets.Dataset.from_dict({key: values[:2] for key, values in FILMS.items()}, features=features)
    dataset.save_to_disk(tmp_path / "films")
    assert pairs_of(load_task(tmp_path / "films", n_shot=0)) == {("good film", "pos"), ("bad film", "neg")}
    datasets.DatasetDict({"train": dataset, "test": dataset}).save_to_disk(tmp_path / "both")
    with pytest.raises(TaskFileError, match=r"both holds 2 splits, .*Name '.*both/train' or '.*both/test'"):
        load_task(tmp_path / "both")


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ('{"_data_files": [{"filename": "../secret.arrow"}]}', "is no file of its folder"),
        ('{"_data_files": [{"filename": "missing.arrow"}]}', "There is no task file"),
        ('{"_data_files": [], "_indices_data_files": [{"filename": "x"}]}', "flatten_indices"),
        ("{", "state.json is damaged"),
        ('{"_data_files": []}', "names no data"),
    ],
)
def test_damaged_folder(tmp_path: Path, described: str, message: str) -> None:
    """A damaged folder is refused, and no file outside it is read."""
    (tmp_path / "state.json").write_text(described, "utf-8")
    with pytest.raises(TaskFileError, match=message):
        load_task(tmp_path)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
@pytest.mark.parametrize("content", [b"", b"PAR1xx", b"ARROW1\0\0nothing", b"input,output\na,b\n"])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    """Bytes that are no such table are refused."""
    with pytest.raises(TaskFileError, match=rf"{name} is damaged or of another format"):
        load_text(tmp_path, name, content)


def test_values_of_columns(tmp_path: Path) -> None:
    """Whole numbers beside missing ones stay whole, lists of one answer are that answer, and bytes are passed over."""
    table = pa.table({"input": ["a", "b", "c"], "output": [7.0, None, 8.0], "image": [b"x", b"y", b"z"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert pairs_of(load_task(tmp_path / "a.parquet", n_shot=0)) == {("a", "7"), ("c", "8")}
    parquet.write_table(pa.table({"question": ["q"], "answers": [["x"]]}), tmp_path / "b.parquet")
    assert load_task(tmp_path / "b.parquet", n_shot=0)[0].answer == " x"
    parquet.write_table(pa.table({"image": [b"x"]}), tmp_path / "c.parquet")
    with pytest.raises(TaskFileError, match=r"the columns 'image' hold no text"):
        load_task(tmp_path / "c.parquet")
