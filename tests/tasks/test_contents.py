"""Bytes become text, or are refused with their place."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from layertracer._errors import TaskFileError, UnknownNameError
from layertracer.tasks import load_task
from layertracer.tasks._files.content import MAX_UNPACKED_BYTES

from tests.tasks.task_files import load_pairs, load_text


def test_european_spreadsheet(tmp_path: Path) -> None:
    """A table in Windows-1252 with words of Western Europe is read, and a note names the encoding and a word."""
    task = load_text(tmp_path, "a.csv", "input;output\nété;hiver\nmère;père\n".encode("cp1252"), n_shot=0)
    assert {sample.answer for sample in task} == {" hiver", " père"}
    assert task.notes[1].startswith("a.csv is not UTF-8 and was read as Windows-1252: 'été' (line 2)")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("input,output\nмир,война\n", "cp1251"),
        ("input,output\nžluťoučký,kůň\n", "cp1250"),
        ("input,output\n世界,和平\n", "gbk"),
    ],
)
def test_other_encodings_are_refused(tmp_path: Path, text: str, encoding: str) -> None:
    """Bytes that are not plainly Western European are refused with the byte, its line and its place."""
    with pytest.raises(TaskFileError, match=r"a\.csv, line 2: byte 0x.. is not UTF-8 \(byte 1\d of the file\)"):
        load_text(tmp_path, "a.csv", text.encode(encoding))


def test_null_bytes(tmp_path: Path) -> None:
    """UTF-16 without its mark is refused as what it may be."""
    with pytest.raises(TaskFileError, match=r"a\.csv, line 1: a null byte \(character 1\)\. .*UTF-16"):
        load_text(tmp_path, "a.csv", "input,output\nhot,cold\n".encode("utf-16-le"))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.CSV.GZ", "a.csv"])
def test_packed_files(tmp_path: Path, name: str) -> None:
    """Files packed by gzip are read by the name within, whether or not the name tells it."""
    assert load_pairs(tmp_path, name, gzip.compress(b"input,output\nhot,cold\n")) == {("hot", "cold")}


def test_task_of_a_packed_file_has_the_inner_name(tmp_path: Path) -> None:
    """The task is called after the file without both endings."""
    task = load_text(tmp_path, "opposites.jsonl.gz", gzip.compress(b'{"prompt": "a", "answer": "b"}'))
    assert task.name == "opposites"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"input,output\n", "is no whole gzip file"),
        (gzip.compress(b"input,output\nhot,cold\n" * 50)[:40], "is no whole gzip file"),
        (gzip.compress(b"\0" * (MAX_UNPACKED_BYTES + 1)), "unpacks to more than 256 MiB"),
    ],
    ids=["not packed", "cut off", "too large"],  # what is packed says when
)
def test_packed_files_of_the_wrong_kind(tmp_path: Path, content: bytes, message: str) -> None:
    """What is not packed, cut off, or a bomb is refused."""
    with pytest.raises(TaskFileError, match=message):
        load_text(tmp_path, "a.csv.gz", content)


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """~ is the home folder, for files and for running text."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("one two three four", "utf-8")
    assert load_task("~/a.txt")[0].prompt == "one two three four"
    assert load_task("text:~/a.txt", prompt_words=2)[0].answer == " three"


def test_near_matches_of_a_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped file is answered with those that lie beside it, a missing folder with its name."""
    (tmp_path / "capitals.csv").write_text("a,b\n", "utf-8")
    with pytest.raises(TaskFileError, match=r"Did you mean '.*capitals\.csv'\?"):
        load_task(tmp_path / "capitls.csv")
    with pytest.raises(TaskFileError, match=r"There is no folder .*nowhere either"):
        load_task(tmp_path / "nowhere" / "capitals.csv")
    with pytest.raises(TaskFileError, match=r"Did you mean '.*capitals\.csv'\?"):
        load_task(tmp_path / "capitals")
    with pytest.raises(TaskFileError, match=r"is a folder, .*Name a file in it"):
        load_task(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match=r"Unknown task 'capitals'.*A file lies near: 'capitals\.csv'\?"):
        load_task("capitals")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.xlsx", "Save the sheet as CSV"),
        ("a.csv.zip", "Unpack it"),
        ("a.pkl", "JSON Lines or Parquet"),
        ("a", "ends in"),
    ],
)
def test_formats_that_are_not_read(tmp_path: Path, name: str, advice: str) -> None:
    """A file of another format is refused with what to make of it."""
    with pytest.raises(TaskFileError, match=f"The format of .*{name} is not known from its name.*{advice}"):
        load_text(tmp_path, name, b"PK")


@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 3000 + "y.csv", "a\0b", "~nobody-here/a.csv", "", " "])
def test_names_that_no_file_can_have(name: str) -> None:
    """A name that the system does not take is an unknown task or a missing file, not an error of the system."""
    with pytest.raises((TaskFileError, UnknownNameError), match=r"Unknown task|There is no task file|cannot be read"):
        load_task(name)


def test_one_prompt_a_line(tmp_path: Path) -> None:
    """A text file gives its lines as prompts without answers, as they stand, and says how they are followed."""
    task = load_text(tmp_path, "a.txt", "The capital of France is\r\n\r\n Two plus two is \n", n_shot=5)
    assert [(sample.prompt, sample.answer) for sample in task] == [
        ("The capital of France is", None),
        (" Two plus two is ", None),
    ]
    assert task.spec["kind"] == "verbatim"
    assert "read 2 lines of a.txt: one prompt a line, no answers" in task.notes[0]
    assert "--target model" in task.notes[0]
    with pytest.raises(TaskFileError, match="holds one prompt a line, without fields"):
        load_text(tmp_path, "a.txt", "x\n", answer_field="answer")
