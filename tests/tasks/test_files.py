"""Task files: good ones load, bad ones are refused with file and line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import pytest
from hypothesis import given

from layertracer._errors import EmptyTaskError, TaskFileError, UsageError
from layertracer._types import Sample
from layertracer.tasks import load_task

from tests.strategies import word_pairs
from tests.tasks.task_files import load_text, pairs_of

PAIRS = [("hot", "cold"), ("wide", "narrow"), ("big", "little")]
Pairs = list[tuple[str, str]]


def as_json(pairs: Pairs) -> str:
    """The pairs as a .json file."""
    return json.dumps([{"input": before, "output": after} for before, after in pairs], ensure_ascii=False)


def as_jsonl(pairs: Pairs) -> str:
    """The pairs as a .jsonl file."""
    return "".join(json.dumps({"input": before, "output": after}) + "\n" for before, after in pairs)


def as_csv(pairs: Pairs) -> str:
    """The pairs as a .csv file, written by Python."""
    stream = io.StringIO()
    csv.writer(stream).writerows([("input", "output"), *pairs])
    return stream.getvalue()


def as_tsv(pairs: Pairs) -> str:
    """The pairs as a .tsv file."""
    return "".join(f"{before}\t{after}\n" for before, after in [("input", "output"), *pairs])


WRITERS = {"json": as_json, "jsonl": as_jsonl, "csv": as_csv, "tsv": as_tsv}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files that generated examples overwrite."""
    return tmp_path_factory.mktemp("files")


@pytest.mark.parametrize("suffix", WRITERS)
@given(pairs=word_pairs())
def test_what_is_written_is_read(folder: Path, suffix: str, pairs: Pairs) -> None:
    """Pairs written in any of the formats are the pairs that are asked about."""
    task = load_text(folder, f"pairs.{suffix}", WRITERS[suffix](pairs), n_shot=0)
    assert pairs_of(task) == set(pairs)


@given(pairs=word_pairs(min_size=3))
def test_formats_agree(folder: Path, pairs: Pairs) -> None:
    """The same pairs give the same samples in every format."""
    tasks = [load_text(folder, f"same.{suffix}", write(pairs), n_shot=2) for suffix, write in WRITERS.items()]
    assert all(task.samples == tasks[0].samples for task in tasks)


@pytest.mark.parametrize("suffix", WRITERS)
def test_spec_tells_the_file(tmp_path: Path, suffix: str) -> None:
    """The specification names the file and the hash of its content; the task is called after the file."""
    content = WRITERS[suffix](PAIRS)
    task = load_text(tmp_path, f"opposites.{suffix}", content, n_shot=1)
    assert task.name == task.spec["name"] == "opposites"
    assert task.spec["source"] == str(tmp_path / f"opposites.{suffix}")
    assert task.spec["sha256"] == hashlib.sha256(content.encode()).hexdigest()
    assert task.spec["kind"] == "few-shot"


@pytest.mark.parametrize("suffix", WRITERS)
def test_byte_order_mark_and_windows_lines(tmp_path: Path, suffix: str) -> None:
    """Files as Windows programs save them are read as well."""
    content = b"\xef\xbb\xbf" + WRITERS[suffix](PAIRS).replace("\r\n", "\n").replace("\n", "\r\n").encode()
    assert pairs_of(load_text(tmp_path, f"pairs.{suffix}", content, n_shot=0)) == set(PAIRS)


# ---------------------------------------------------------------- finished prompts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", '{"prompt": "2 + 2 =", "answer": " 4", "id": [1]}\n\n{"prompt": " x ", "answer": "y"}\n'),
        ("p.json", '[{"prompt": "2 + 2 =", "answer": " 4"},\n {"prompt": " x ", "answer": "y"}]'),
        ("p.csv", "id,Prompt,Answer\n7,2 + 2 =, 4\n8, x ,y\n"),
        ("p.tsv", "prompt\tanswer\n2 + 2 =\t 4\n x \ty\n"),
    ],
)
def test_finished_prompts_stay_as_they_are(tmp_path: Path, name: str, content: str) -> None:
    """Records with prompt and answer are samples as they stand, in the file's order, without demonstrations."""
    task = load_text(tmp_path, name, content, n_shot=5, seed=9)
    assert task.samples == (Sample(prompt="2 + 2 =", answer=" 4"), Sample(prompt=" x ", answer="y"))
    assert (task.spec["kind"], task.spec["n_shot"], task.spec["template"]) == ("verbatim", 0, None)
    assert load_task(tmp_path / name, limit=1).samples == task.samples[:1]


@pytest.mark.parametrize("options", [{}, {"prompt_field": "prompt"}])
def test_prompts_without_answers(tmp_path: Path, options: dict[str, str]) -> None:
    """Prompts may have no answers: the model's own top token can be followed."""
    task = load_text(tmp_path, "p.jsonl", '{"prompt": "Once upon a"}\n', **options)
    assert task.samples == (Sample(prompt="Once upon a"),)


def test_template_does_not_apply_to_finished_prompts(tmp_path: Path) -> None:
    """A template for finished prompts is refused rather than ignored."""
    with pytest.raises(UsageError, match=r"does not apply to .*p\.jsonl, which holds finished prompts"):
        load_text(tmp_path, "p.jsonl", '{"prompt": "x", "answer": "y"}\n', template="{input} -> {output}")


# ---------------------------------------------------------------- named fields, questions


def test_named_fields_are_pairs(tmp_path: Path) -> None:
    """Fields named by the user are inputs and outputs; numbers count as text."""
    content = '{"word": "two", "n": 2}\n{"word": "three", "n": 3}\n'
    task = load_text(tmp_path, "n.jsonl", content, n_shot=0, prompt_field="word", answer_field="n")
    assert pairs_of(task) == {("two", "2"), ("three", "3")}
    assert (task.spec["prompt_field"], task.spec["answer_field"]) == ("word", "n")


@pytest.mark.parametrize("name", ["n.csv", "n.tsv"])
def test_named_columns(tmp_path: Path, name: str) -> None:
    """Columns of a table can be named by the user, literally."""
    content = "Word,skip,n\ntwo,x,2\nthree,y,3\n"
    content = content if name.endswith("csv") else content.replace(",", "\t")
    task = load_text(tmp_path, name, content, n_shot=0, prompt_field="Word", answer_field="n")
    assert pairs_of(task) == {("two", "2"), ("three", "3")}


def test_answer_field_alone(tmp_path: Path) -> None:
    """The answer's field may be named alone, where the prompt's is known."""
    content = (
        '{"input": "hot", "output": "x", "opposite": "cold"}\n{"input": "up", "output": "x", "opposite": "down"}\n'
    )
    task = load_text(tmp_path, "n.jsonl", content, n_shot=0, answer_field="opposite")
    assert pairs_of(task) == {("hot", "cold"), ("up", "down")}


MATHS = (
    '{"question": "Two dozens?", "answer": "12 * 2 = 24\\n#### 24"}\n'
    '{"question": "A million and a half?", "answer": "So #### is:\\n#### 1,500,000"}\n'
)


@pytest.mark.parametrize("options", [{}, {"prompt_field": "question", "answer_field": "answer"}])
def test_questions_with_final_answers(tmp_path: Path, options: dict[str, str]) -> None:
    """A file like GSM8K's gives questions; the answer is what stands behind ####, without thousands separators."""
    task = load_text(tmp_path, "gsm.jsonl", MATHS, n_shot=0, **options)
    assert {(sample.prompt, sample.answer) for sample in task} == {
        ("Question: Two dozens?\nAnswer:", " 24"),
        ("Question: A million and a half?\nAnswer:", " 1500000"),
    }


def test_questions_with_demonstrations(tmp_path: Path) -> None:
    """Solved questions are separated by an empty line."""
    prompts = {load_text(tmp_path, "gsm.jsonl", MATHS, n_shot=1, seed=seed)[0].prompt for seed in range(20)}
    first = "Question: Two dozens?\nAnswer:"
    second = "Question: A million and a half?\nAnswer:"
    assert prompts == {f"{first} 24\n\n{second}", f"{second} 1500000\n\n{first}"}


def test_questions_without_marker(tmp_path: Path) -> None:
    """Questions whose answers have no marker keep their answers whole."""
    content = '{"question": "Capital of France?", "answer": "Paris, 1,000"}\n'
    assert load_text(tmp_path, "q.jsonl", content, n_shot=0)[0].answer == " Paris, 1,000"


def test_marker_of_the_user(tmp_path: Path) -> None:
    """Another marker can be given, for pairs and for finished prompts."""
    pairs = load_text(tmp_path, "m.csv", "input,output\nx,so => yes\n", n_shot=0, answer_marker="=>")
    finished = load_text(tmp_path, "m.jsonl", '{"prompt": "x", "answer": "so => yes"}\n', answer_marker="=>")
    assert pairs[0].answer == finished[0].answer == " yes"


@pytest.mark.parametrize("answer", ["no marker", "nothing behind ####"])
def test_missing_final_answer(tmp_path: Path, answer: str) -> None:
    """Behind a marker that the user names a record without a final answer is refused with its line."""
    content = MATHS + json.dumps({"question": "Why?", "answer": answer}) + "\n"
    with pytest.raises(TaskFileError, match=r"gsm\.jsonl, line 3: the final answer should stand behind '####', got"):
        load_text(tmp_path, "gsm.jsonl", content, answer_marker="####")


def test_marker_in_some_records_alone(tmp_path: Path) -> None:
    """Where not every answer ends in the marker and a number, all are read whole, and a note counts them."""
    content = MATHS + json.dumps({"question": "Why?", "answer": "plain"}) + "\n"
    task = load_text(tmp_path, "gsm.jsonl", content, n_shot=0)
    assert {sample.answer for sample in task} == {" 12 * 2 = 24\n#### 24", " So #### is:\n#### 1,500,000", " plain"}
    assert task.notes[1] == "2 of 3 answers end in '####' and a number, the others do not: all are read whole"
    assert task.spec["answer_marker"] is None


def test_recognised_marker_is_said(tmp_path: Path) -> None:
    """A marker that was recognised is in the notes and in the specification."""
    task = load_text(tmp_path, "gsm.jsonl", MATHS, n_shot=0)
    assert task.notes[1].startswith("the final answer behind '####' is followed")
    assert task.spec["answer_marker"] == "####"


@pytest.mark.parametrize(
    "answer", ["Intro\n#### Heading 5", "Intro\n#### Heading\nPrice 1,000", "#### 5\nmore", "a #### 5"]
)
def test_headings_are_no_markers(tmp_path: Path, answer: str) -> None:
    """A heading, or a marker elsewhere than before the number of the last line, is a part of the answer."""
    content = json.dumps({"question": "Why?", "answer": answer})
    task = load_text(tmp_path, "q.jsonl", content, n_shot=0)
    assert (task[0].answer, task.spec["answer_marker"], len(task.notes)) == (f" {answer}", None, 1)


# ---------------------------------------------------------------- labelled word pairs


@pytest.mark.parametrize("name", ["pairs.tsv", "adjective-pairs.train", "noun-pairs.val", "verb-pairs.test"])
@pytest.mark.parametrize("separator", ["\t", " "])
@pytest.mark.parametrize("header", ["", "word1 word2 label\n", "Word1 Word2 Label\n"])
def test_labelled_word_pairs(tmp_path: Path, name: str, separator: str, header: str) -> None:
    """Of labelled pairs those with label 1 are taken, and those with label 0 counted; tabs or spaces, with or without
    a header, under the names of the published files.
    """
    lines = header + "hot cold 1\nhot warm 0\nwide narrow 1\nwide broad 0\nwide big 0\n"
    task = load_text(tmp_path, name, lines.replace(" ", separator), n_shot=0)
    assert pairs_of(task) == {("hot", "cold"), ("wide", "narrow")}
    assert task.spec["n_left_out"] == {"label 0, the relation does not hold": 3}


@pytest.mark.parametrize(("name", "separator"), [("pairs.tsv", "\t"), ("pairs.csv", ",")])
def test_two_columns_without_header(tmp_path: Path, name: str, separator: str) -> None:
    """Two columns that the user says have no header are input and output; unsaid, it is asked."""
    content = "".join(separator.join(pair) + "\n" for pair in PAIRS)
    assert pairs_of(load_text(tmp_path, name, content, n_shot=0, header=False)) == set(PAIRS)
    with pytest.raises(TaskFileError, match="may be the names of the columns"):
        load_text(tmp_path, name, content, n_shot=0)


def test_labels_in_records(tmp_path: Path) -> None:
    """word1, word2 and label mean the same in JSON."""
    content = '[{"word1": "a", "word2": "b", "label": 1}, {"word1": "a", "word2": "c", "label": 0}]'
    assert pairs_of(load_text(tmp_path, "w.json", content, n_shot=0)) == {("a", "b")}


def test_csv_quotes(tmp_path: Path) -> None:
    """Quoted cells may hold commas, quotes and line breaks."""
    content = 'input,output\n"a, ""b""\nc",d\n'
    assert load_text(tmp_path, "q.csv", content, n_shot=0)[0].prompt == 'a, "b"\nc ->'


# ---------------------------------------------------------------- files of the wrong shape

BAD_FILES = [
    ("a.json", '{"input": "hot", "output": "cold"}', r"a\.json, line 1: expected an array of objects"),
    ("a.json", '[{"input": "a", "output": "b"},\n{"input": }]', r"a\.json, line 2, column 11: no valid JSON"),
    (
        "a.json",
        '[{"input": "a", "output": "b"},\n\n 7]',
        r"a\.json, line 3: expected an object with named fields, got int",
    ),
    ("a.json", '[{"input": "a", "output": "b"},\n{"input": "c"}]', r"a\.json, line 2: the field 'output' is missing"),
    ("a.json", "[" * 100_000, r"a\.json, line 1"),
    ("a.jsonl", '{"input": "a", "output": "b"}\nhot -> cold\n', r"a\.jsonl, line 2, column 1: no valid JSON"),
    ("a.jsonl", '{"input": "a", "output": "b"}\n\n["c", "d"]\n', r"a\.jsonl, line 3: expected an object .* got list"),
    ("a.jsonl", '{"x": "a", "y": "b"}\n', r"a\.jsonl, line 1: the fields 'x', 'y' are not known\. Expected prompt and"),
    ("a.jsonl", "{}\n", r"line 1: the fields none are not known"),
    ("a.jsonl", '{"input": "a", "output": [["b"]]}\n', r"line 1: the field 'output' must be text, got \[\['b'\]\]"),
    ("a.jsonl", '{"input": "a", "output": null}\n', r"line 1: the field 'output' must be text, got None"),
    ("a.jsonl", '{"input": "a", "output": true}\n', r"line 1: the field 'output' must be text, got True"),
    ("a.jsonl", '{"input": "  ", "output": "b"}\n', r"line 1: the field 'input' is empty"),
    ("a.jsonl", b'{"input": "a", "output": "b"}\n{"input": "\xff"}', r"a\.jsonl, line 2: byte 0xff is not UTF-8"),
    ("a.csv", "input,output\na,b\nc\n", r"a\.csv, line 3: expected 2 columns \(input, output\), got 1"),
    ("a.csv", "only\none\n", r"a\.csv, line 1: expected two columns .* separated by commas, got 1"),
    ("a.csv", "a,b,c,d\n", r"a\.csv, line 1: expected two columns .* got 4\. Wider files need a header"),
    ("a.csv", 'input,output\na,"b\n', r"a\.csv, line 2: no valid CSV"),
    ("a.csv", "input,output\na,\n", r"a\.csv, line 2: the field 'output' is empty"),
    ("a.tsv", "input\toutput\na\tb\n\nc\td\te\n", r"a\.tsv, line 4: expected 2 columns \(input, output\), got 3"),
    ("a.tsv", "hot\tcold\t1\nhot\twarm\t2\n", r"a\.tsv, line 2: the label must be 1 .* or 0 .* got '2'"),
    ("a.tsv", "hot\n", r"a\.tsv, line 1: expected two columns .* separated by tabs, got 1"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_wrong_shape(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    """A file of the wrong shape is refused with its name, the line, what was got and what was expected."""
    with pytest.raises(TaskFileError, match=message):
        load_text(tmp_path, name, content)


@pytest.mark.parametrize("name", ["n.csv", "n.jsonl"])
def test_named_field_is_missing(tmp_path: Path, name: str) -> None:
    """A named field that is not there is refused with the fields that are."""
    content = "input,output\na,b\n" if name.endswith("csv") else '{"input": "a", "output": "b"}\n'
    with pytest.raises(TaskFileError, match=r"the field 'ask' is missing, got 'input', 'output'"):
        load_text(tmp_path, name, content, prompt_field="ask", answer_field="output")


EMPTY_FILES = [
    ("a.json", "[]", "a.json holds no record"),
    ("a.jsonl", "\n \n", "a.jsonl holds no record"),
    ("a.csv", "", "a.csv holds no record"),
    ("a.csv", "input,output\n", "a.csv holds no record"),
    ("a.tsv", "\n", "a.tsv holds no record"),
    ("a.tsv", "hot\twarm\t0\nbig\tlarge\t0\n", "a.tsv leaves no pair: all 2 records have label 0"),
]


@pytest.mark.parametrize(("name", "content", "message"), EMPTY_FILES)
def test_empty_task(tmp_path: Path, name: str, content: str, message: str) -> None:
    """A file without a usable record is refused as an empty task."""
    with pytest.raises(EmptyTaskError, match=message):
        load_text(tmp_path, name, content)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv"])
def test_no_such_file(tmp_path: Path, suffix: str) -> None:
    """A file that is not there is refused with its path."""
    with pytest.raises(TaskFileError, match=rf"There is no task file .*missing\{suffix}\. Check the path"):
        load_task(tmp_path / f"missing{suffix}")


def test_folder_is_no_file(tmp_path: Path) -> None:
    """A folder in place of a file is refused."""
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(TaskFileError, match=r"folder\.json is a folder"):
        load_task(tmp_path / "folder.json")


def test_unreadable_path() -> None:
    """A path that the system does not take is refused without a traceback of its own."""
    with pytest.raises(TaskFileError, match="cannot be read"):
        load_task("a\0b.json")


def test_unknown_suffix(tmp_path: Path) -> None:
    """A file whose format is not known from its name is refused with the formats that are."""
    with pytest.raises(
        TaskFileError, match=r"The format of .*pairs\.xlsx is not known.*\.json, \.jsonl, \.csv or \.tsv"
    ):
        load_text(tmp_path, "pairs.xlsx", "x")
