"""Datasets through the `datasets` library, without a network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from layertracer._errors import LayerTracerError, TaskError, TaskFileError, UnknownNameError, UsageError
from layertracer.tasks import load_task

RECORDS = [{"input": f"w{i}", "output": f"v{i}", "unread": [i]} for i in range(6)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset in a local folder, and an empty cache for the library."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "opposites"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS), "utf-8")
    return folder


def test_dataset_is_a_task(folder: Path) -> None:
    """A split gives few-shot prompts, the same as a file with the same records."""
    task = load_task(f"hf:{folder}:train", n_shot=2)
    file = load_task(folder / "train.jsonl", n_shot=2)
    assert task.samples == file.samples
    assert task.name == f"{folder}:train"
    assert task.spec["source"] == f"hf:{folder}:train"
    assert len(task.spec["sha256"]) == 64


def test_classes_are_read_by_name(folder: Path) -> None:
    """Numbers that stand for classes are read as the classes' names, and a note says so."""
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    films = {"text": ["dull", "fine", "unknown"], "label": [0, 1, None]}
    (folder / "train.jsonl").unlink()
    datasets.Dataset.from_dict(films, features=features).to_parquet(folder / "train.parquet")
    task = load_task(f"hf:{folder}:train", n_shot=0)
    assert {(sample.prompt, sample.answer) for sample in task} == {("dull ->", " bad"), ("fine ->", " good")}
    assert task.notes[0].endswith("answer from column 'label'; 1 row left out: empty answer (row 2)")
    assert "numbers of column 'label' stand for classes" in task.notes[1]


def test_what_belongs_to_the_prompt_is_not_passed_over(folder: Path) -> None:
    """A dataset whose records have a context beside the question is refused as a file of them is."""
    record = {"context": "c", "question": "q", "answer": "a", "unread": 1}
    (folder / "train.jsonl").write_text(json.dumps(record) + "\n", "utf-8")
    with pytest.raises(TaskFileError, match=r"row 0: 'context' stands beside 'question'"):
        load_task(f"hf:{folder}:train")
    task = load_task(f"hf:{folder}:train", n_shot=0, prompt_field="question", answer_field="answer")
    assert task[0].answer == " a"


def test_slice_of_a_split(folder: Path) -> None:
    """A slice of a split may be named, as the library writes it."""
    assert len(load_task(f"hf:{folder}:train[1:4]", n_shot=0)) == 3
    assert len(load_task(f"hf:{folder}:train[:2]", n_shot=0)) == 2


def test_named_columns(folder: Path) -> None:
    """Columns can be named by the user; one that is missing is refused with the row."""
    task = load_task(f"hf:{folder}:train", n_shot=0, prompt_field="output", answer_field="input")
    assert {sample.answer for sample in task} == {f" w{i}" for i in range(6)}
    with pytest.raises(TaskFileError, match=r"row 0: the field 'ask' is missing, got 'input', 'output'"):
        load_task(f"hf:{folder}:train", prompt_field="ask", answer_field="output")


def test_unknown_split(folder: Path) -> None:
    """A split that is not there is refused with those that are."""
    with pytest.raises(UnknownNameError, match=r'Unknown split "tset".*train'):
        load_task(f"hf:{folder}:tset")


@pytest.mark.parametrize("name", ["hf:gsm8k", "hf::test", "hf:name:", "hf:"])
def test_name_without_split(name: str) -> None:
    """A name without a split is refused with an example."""
    with pytest.raises(UsageError, match=r"names no split\. Write it as hf:name:split"):
        load_task(name)


@pytest.mark.parametrize("name", ["hf:no-such-name:test", "hf:owner/no-such-name:test", "hf:owner/name/config:test"])
def test_no_network(name: str) -> None:
    """A dataset that is not at hand is refused without a network, with what to do."""
    pytest.importorskip("datasets")
    with pytest.raises(TaskError, match=r"could not be loaded by the `datasets` library .*offline"):
        load_task(name)


def test_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the optional library, the message says how to install it."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(LayerTracerError, match=r"`datasets`, which is not installed.*'layertracer\[datasets\]'"):
        load_task("hf:openai/gsm8k/main:test")
