"""Records in the shapes in which tools write JSON, and values that are no text."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from layertracer._errors import TaskFileError, UsageError
from layertracer._types import Sample

from tests.tasks.task_files import load_pairs, load_text

RECORDS = [{"input": "hot", "output": "cold"}, {"input": "big", "output": "small"}]
PAIRS = {("hot", "cold"), ("big", "small")}

SHAPES = {
    "lines": "\n".join(map(json.dumps, RECORDS)),
    "array": json.dumps(RECORDS),
    "indented array": json.dumps(RECORDS, indent=1),
    "one behind the other": "\n".join(json.dumps(record, indent=2) for record in RECORDS),
    "dict of lists": json.dumps({"input": ["hot", "big"], "output": ["cold", "small"]}),
    "lists": '[["hot", "cold"], ["big", "small"]]',
    "under a name": json.dumps({"version": 1, "data": RECORDS}),
    "viewer": json.dumps({"features": [{"name": "input"}], "rows": [{"row_idx": 0, "row": row} for row in RECORDS]}),
    "relation": json.dumps(
        {"name": "opposites", "prompt_templates": ["{} is"], "samples": [
            {"subject": row["input"], "object": row["output"]} for row in RECORDS
        ]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(tmp_path: Path, shape: str) -> None:
    """Every shape gives the same pairs."""
    assert load_pairs(tmp_path, "a.json", SHAPES[shape]) == PAIRS


@pytest.mark.parametrize("shape", ["lines", "array", "indented array", "one behind the other", "lists"])
def test_shapes_of_lines(tmp_path: Path, shape: str) -> None:
    """Where the name promises lines, arrays and objects over several lines are read as well."""
    assert load_pairs(tmp_path, "a.jsonl", SHAPES[shape]) == PAIRS


def test_what_stands_beside_records_is_said(tmp_path: Path) -> None:
    """Parts of a file that are not read are named."""
    task = load_text(tmp_path, "a.json", SHAPES["relation"], n_shot=0)
    assert "the records stand under 'samples'; 'name', 'prompt_templates' beside it were not read" in task.notes


def test_unnamed_square_is_not_guessed(tmp_path: Path) -> None:
    """A numbered table of which rows and columns cannot be told apart is refused."""
    with pytest.raises(TaskFileError, match="expected an array of objects"):
        load_text(tmp_path, "a.json", '{"0": {"0": "hot", "1": "cold"}, "1": {"0": "big", "1": "small"}}')


@pytest.mark.parametrize(
    ("fields", "sample"),
    [
        ({"prompt": "q ->", "completion": " a"}, Sample(prompt="q ->", answer=" a")),
        ({"prompt": "V is in", "attribute": "A", "subject": "V"}, Sample(prompt="V is in", answer="A", subject="V")),
        ({"query": "q", "answer": "a"}, Sample(prompt="Question: q\nAnswer:", answer=" a")),
        ({"instruction": "Say hi", "input": "", "output": "hi"}, Sample(prompt="Say hi ->", answer=" hi")),
        ({"instruction": "Say hi", "context": "", "response": "hi"}, Sample(prompt="Say hi ->", answer=" hi")),
        ({"input": "a", "output": ["b"]}, Sample(prompt="a ->", answer=" b")),
        ({"input": 1.10, "output": 7}, Sample(prompt="1.1 ->", answer=" 7")),
    ],
)
def test_names_of_other_tools(tmp_path: Path, fields: dict[str, object], sample: Sample) -> None:
    """Records as training and evaluation tools name them are read where their meaning is plain."""
    assert load_text(tmp_path, "a.jsonl", json.dumps(fields), n_shot=0).samples == (sample,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"question": "q", "choices": ["a", "b"], "answer": 1}, r"the records offer choices \('choices'\)"),
        ({"ctx": "q", "endings": ["a", "b"], "label": "1"}, r"the records offer choices \('endings'\)"),
        ({"messages": [{"role": "user", "content": "q"}]}, r"the records hold conversations .*--chat"),
        ({"instruction": "Add", "input": "1 2", "output": "3"}, r"'instruction' stands beside 'input'"),
        ({"context": "c", "question": "q", "answer": "a"}, r"'context' stands beside 'question'"),
        ({"input": "a", "output": "b", "Output": "c"}, r"'output', 'Output' have one name but for case"),
    ],
)
def test_records_that_are_no_prompts_with_answers(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    """Choices, conversations and prompts in parts are refused, each with what to do."""
    with pytest.raises(TaskFileError, match=rf"a\.jsonl, line 1: .*{message}"):
        load_text(tmp_path, "a.jsonl", json.dumps(fields))


@pytest.mark.parametrize(
    ("answer", "other"),
    [
        *(("output", name) for name in ("target", "expected", "ideal", "reference", "ground_truth", "correct_answer")),
        *(("output", name) for name in ("gold", "label", "groundTruth", "Expected Output")),
        ("completion", "target"),
        *(("answer", name) for name in ("gold", "correct_answer", "expected_answer")),
    ],
)
def test_two_fields_that_may_be_the_answer(tmp_path: Path, answer: str, other: str) -> None:
    """What a model said beside what is right is asked about with both names, wherever it first stands, and obeyed."""
    prompt = {"output": "input", "completion": "prompt", "answer": "question"}[answer]
    rows = [{prompt: "hot", answer: "warm"}, {prompt: "up", answer: "over", other: "down"}]
    content = "\n".join(map(json.dumps, rows))
    with pytest.raises(TaskFileError, match=rf"a\.jsonl, line 2: '{answer}' and '{other}' may .*--answer-field"):
        load_text(tmp_path, "a.jsonl", content)
    task = load_text(tmp_path, "a.jsonl", content, n_shot=0, answer_field=answer)
    assert {str(sample.answer).strip() for sample in task} == {"warm", "over"}


def test_empty_second_answer(tmp_path: Path) -> None:
    """A second field that is empty in every record is no answer."""
    content = '{"input": "hot", "output": "cold", "target": null}\n{"input": "big", "output": "small", "target": ""}'
    assert load_pairs(tmp_path, "a.jsonl", content) == PAIRS


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"context": "c"}, r"'context' stands beside 'question'"),
        ({"choices": ["a", "b"]}, r"the records offer choices \('choices'\)"),
        ({"Answer": "b"}, r"'answer', 'Answer' have one name but for case"),
    ],
)
def test_fields_of_later_records(tmp_path: Path, more: dict[str, object], message: str) -> None:
    """Fields that a later record alone has are looked at as those of the first, and its line is named."""
    plain = {"question": "q", "answer": "a"}
    content = "\n".join(json.dumps(row) for row in (plain, plain, plain | more, plain))
    with pytest.raises(TaskFileError, match=rf"a\.jsonl, line 3: .*{message}"):
        load_text(tmp_path, "a.jsonl", content)


def test_named_fields_leave_the_others_out(tmp_path: Path) -> None:
    """Where both fields are named, what stands beside them is not asked about."""
    content = '{"context": "c", "question": "q", "answer": "a"}'
    task = load_text(tmp_path, "a.jsonl", content, n_shot=0, prompt_field="question", answer_field="answer")
    assert task[0].prompt == "Question: q\nAnswer:"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"input": "x", "output": "y"}\n{"input": "a", "output": "b", "output": "c"}'),
        ("a.json", '[{"input": "x", "output": "y"},\n{"input": "a", "output": "b", "output": "c"}]'),
        ("a.json", '{"input": "x", "output": "y"}\n{"input": "a", "output": "b", "output": "c"}'),
    ],
)
def test_one_key_twice(tmp_path: Path, name: str, content: str) -> None:
    """An object with one key twice is refused with its line; the last one does not win."""
    with pytest.raises(TaskFileError, match=r"line 2: an object has the key 'output' twice"):
        load_text(tmp_path, name, content)


@pytest.mark.parametrize(
    ("value", "reason"),
    [("NaN", "answer is NaN"), ("-Infinity", "answer is -Infinity"), ("null", "empty answer"), ('""', "empty answer"),
     ("[]", "empty answer"), ('"  "', "empty answer")],
)  # fmt: skip
def test_missing_values(tmp_path: Path, value: str, reason: str) -> None:
    """What says that there is no answer is left out and counted with its line, and is no answer."""
    content = f'{{"input": "hot", "output": {value}}}\n{{"input": "big", "output": "small"}}\n'
    task = load_text(tmp_path, "a.jsonl", content, n_shot=0)
    assert [sample.answer for sample in task] == [" small"]
    assert task.spec["n_left_out"] == {reason: 1}
    assert task.notes[0].endswith(f"1 record left out: {reason} (line 1)")


def test_all_missing(tmp_path: Path) -> None:
    """Where every answer is missing, the file is refused with the first line."""
    with pytest.raises(TaskFileError, match=r"line 1: the field 'output' must be text, got NaN\. .*all 2 records"):
        load_text(tmp_path, "a.jsonl", '{"input": "a", "output": NaN}\n{"input": "b", "output": null}\n')


def test_white_space_may_be_an_answer(tmp_path: Path) -> None:
    """Finished prompts keep answers and prompts of white space; they are tokens like any other."""
    content = '{"prompt": "a", "answer": "\\n"}\n{"prompt": "\\n", "answer": " "}\n'
    assert load_text(tmp_path, "a.jsonl", content).samples == (
        Sample(prompt="a", answer="\n"),
        Sample(prompt="\n", answer=" "),
    )


def test_numbers_stay_as_written(tmp_path: Path) -> None:
    """A number is the text that the file holds."""
    content = '{"input": 1.10, "output": 1e5}\n{"input": 3, "output": -0.50}\n'
    assert load_pairs(tmp_path, "a.jsonl", content) == {("1.10", "1e5"), ("3", "-0.50")}


def test_several_answers(tmp_path: Path) -> None:
    """A list of answers is as many valid answers, and never the list's own text."""
    content = '{"prompt": "a", "answer": [" b", " c", " b"]}'
    (sample,) = load_text(tmp_path, "a.jsonl", content).samples
    assert (sample.answer, sample.answers) == (" b", (" b", " c"))
    (pair,) = load_text(tmp_path, "b.jsonl", '{"input": "a", "output": ["b", "c"]}', n_shot=0).samples
    assert pair.answers == (" b", " c")


def test_half_a_character(tmp_path: Path) -> None:
    """Half of a pair of surrogates is no text that a tokenizer takes."""
    with pytest.raises(TaskFileError, match=r"line 1: the field 'answer' holds half of a character, '\\ud800'"):
        load_text(tmp_path, "a.jsonl", '{"prompt": "a", "answer": "\\ud800"}')


@pytest.mark.parametrize("content", ["[" * 100_000, '{"input": ' + "[" * 100_000 + "]" * 100_000 + "}"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_deep_nesting(tmp_path: Path, name: str, content: str) -> None:
    """JSON that is nested without end is refused."""
    with pytest.raises(TaskFileError, match=rf"{name.replace('.', '.')}, line 1"):
        load_text(tmp_path, name, content)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_many_records(tmp_path: Path, name: str) -> None:
    """A hundred thousand records are read in seconds."""
    records = [json.dumps({"prompt": f"w{i}", "answer": f"v{i}"}) for i in range(100_000)]
    content = "[" + ",\n".join(records) + "]" if name == "a.json" else "\n".join(records)
    began = time.perf_counter()
    assert len(load_text(tmp_path, name, content)) == 100_000
    assert time.perf_counter() - began < 60


# ---------------------------------------------------------------- the answer's prefix


def test_answer_prefix(tmp_path: Path) -> None:
    """A prefix is put before the answers of finished prompts that do not begin with it, and is in the specification."""
    content = '{"prompt": "Q: x?\\nA:", "answer": "Paris"}\n{"prompt": "Q: y?\\nA:", "answer": " Rome"}\n'
    task = load_text(tmp_path, "a.jsonl", content, answer_prefix=" ")
    assert [sample.answer for sample in task] == [" Paris", " Rome"]
    assert task.spec["answer_prefix"] == " "


@pytest.mark.parametrize("content", ['{"input": "a", "output": "b"}', '{"prompt": "a"}'])
def test_answer_prefix_that_would_be_ignored(tmp_path: Path, content: str) -> None:
    """A prefix for pairs, whose template says what stands before the answer, or without answers, is refused."""
    with pytest.raises(UsageError, match=r"answer_prefix=' ' \(--answer-prefix\) does not apply to"):
        load_text(tmp_path, "a.jsonl", content, n_shot=0, answer_prefix=" ")


def test_empty_answer_prefix(tmp_path: Path) -> None:
    """An empty prefix is refused."""
    with pytest.raises(UsageError, match="answer_prefix is empty"):
        load_text(tmp_path, "a.jsonl", '{"prompt": "a", "answer": "b"}', answer_prefix="")
