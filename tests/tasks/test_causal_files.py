"""Known facts, contrast pairs and relations are read for what they are; what is read of other files stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layertracer._types import Sample
from layertracer.tasks import load_task, pool_of, task_from_records, with_subjects

from tests.tasks.task_files import load_text

FACT = {
    "known_id": 0,
    "subject": "Old Bridge",
    "attribute": "Narrowland",
    "template": "{} stands in",
    "prediction": " Narrowland, which",
    "prompt": "Old Bridge stands in",
    "relation_id": "P17",
}
PAIR = {
    "clean_prefix": "The cat that the dogs",
    "patch_prefix": "The cat that the dog",
    "clean_answer": " see",
    "patch_answer": " sees",
    "case": "singular",
}
RELATION = {
    "name": "opposite",
    "prompt_templates": ["The opposite of {} is", "{} is not", "no gap", 7],
    "samples": [{"subject": "hot", "object": "cold"}, {"subject": "wide", "object": "narrow"}],
}


def _as_csv(record: dict[str, object]) -> str:
    """A record as a table of one row."""
    return ",".join(record) + "\n" + ",".join(f'"{value}"' for value in record.values()) + "\n"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
def test_known_facts_have_subject_relation_and_a_space(tmp_path: Path, name: str) -> None:
    """ROME's facts: the attribute is the answer, with the space that its file leaves out, and that is said."""
    content = {"a.json": json.dumps([FACT]), "a.jsonl": json.dumps(FACT), "a.csv": _as_csv(FACT)}[name]
    task = load_text(tmp_path, name, content)
    expected = Sample(prompt="Old Bridge stands in", answer=" Narrowland", subject="Old Bridge", relation="P17")
    assert task.samples == (expected,)
    assert any("subject from" in note for note in task.notes)
    assert any("1 of 1 answers begin with a space" in note for note in task.notes)


def test_a_space_is_put_only_where_it_is_missing(tmp_path: Path) -> None:
    """An answer with its space, or a prefix that the user gives, is left alone."""
    spaced = load_text(tmp_path, "a.jsonl", json.dumps(FACT | {"attribute": " Narrowland"}))
    own = load_text(tmp_path, "b.jsonl", json.dumps(FACT), answer_prefix="_")
    assert (spaced[0].answer, own[0].answer) == (" Narrowland", "_Narrowland")
    assert not any("begin with a space" in note for note in (*spaced.notes, *own.notes))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
def test_contrast_pairs_have_both_prompts_and_both_answers(tmp_path: Path, name: str) -> None:
    """Clean and patch prefixes are a prompt and its contrast, each with its answer as it stands."""
    content = {"a.json": json.dumps([PAIR]), "a.jsonl": json.dumps(PAIR), "a.csv": _as_csv(PAIR)}[name]
    expected = Sample(
        prompt="The cat that the dogs", answer=" see", contrast="The cat that the dog", contrast_answer=" sees"
    )
    assert load_text(tmp_path, name, content).samples == (expected,)


def test_fields_of_a_samples_own_names_are_read(tmp_path: Path) -> None:
    """A file may name subject, contrast and contrast_answer as a sample does; what is empty is counted."""
    rows = [
        {"prompt": "A is", "answer": " b", "subject": "A", "contrast": "C is", "contrast_answer": " d"},
        {"prompt": "E is", "answer": " f", "subject": "", "contrast": None, "contrast_answer": 7},
    ]
    task = load_text(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    first = Sample(prompt="A is", answer=" b", subject="A", contrast="C is", contrast_answer=" d")
    assert task.samples == (first, Sample(prompt="E is", answer=" f"))
    assert "1 of 2 prompts have no subject" in task.notes
    assert task_from_records(rows).samples == task.samples


def test_a_relation_stays_few_shot_and_names_its_subjects(tmp_path: Path) -> None:
    """Relations give the prompts that they always gave, with subjects, and say how their own wording is asked for."""
    task = load_text(tmp_path, "r.json", json.dumps(RELATION), n_shot=0)
    assert {(sample.prompt, sample.answer) for sample in task} == {("hot ->", " cold"), ("wide ->", " narrow")}
    assert {sample.subject for sample in task} == {"hot", "wide"}
    assert {sample.relation for sample in task} == {"opposite"}
    note = "the relation's own wordings are used where one is asked for: template='The opposite of {} is', "
    assert any(note + "template='{} is not' (--template)" in one for one in task.notes)
    worded = load_task(tmp_path / "r.json", n_shot=0, template="The opposite of {} is")
    assert {(sample.prompt, sample.answer) for sample in worded} == {
        ("The opposite of hot is", " cold"),
        ("The opposite of wide is", " narrow"),
    }
    assert {str(sample.prompt)[sample.subject_from or 0 :] for sample in worded} == {"hot is", "wide is"}


def test_subjects_of_pairs_stand_behind_the_demonstrations() -> None:
    """Few-shot prompts ask about their last pair's input, wherever else that word stands."""
    named = with_subjects(load_task("antonym", n_shot=3, limit=5))
    for sample in named:
        line = str(sample.prompt).splitlines()[-1]
        assert line == f"{sample.subject} ->"
        assert str(sample.prompt)[sample.subject_from or 0 :] == line
    assert len(pool_of(load_task("antonym", n_shot=3, limit=5), named)) > 100


def test_recall_asks_about_its_last_key() -> None:
    """A generated prompt's subject is the key on its last line."""
    for sample in with_subjects(load_task("recall", limit=4)):
        assert str(sample.prompt)[sample.subject_from or 0 :] == sample.subject == str(sample.prompt).split("\n")[-1]


def test_samples_without_subjects_stay_as_they_are() -> None:
    """Finished prompts name no subject, and none is made up."""
    task = task_from_records([{"prompt": "hot ->", "answer": " cold"}])
    assert with_subjects(task) == task.samples == (Sample(prompt="hot ->", answer=" cold"),)
    assert pool_of(task, task.samples) == ()
