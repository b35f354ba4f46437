"""Few-shot prompts: demonstrations, order, template."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer._errors import EmptyTaskError, UsageError
from layertracer.tasks import WORD_PAIR_TEMPLATES, Task, load_task

from tests.strategies import word_pairs

seeds = st.integers(0, 2**32)
PAIRS = [("hot", "cold"), ("wide", "narrow"), ("big", "little"), ("up", "down"), ("new", "old"), ("dry", "wet")]


def write_json(folder: Path, pairs: list[tuple[str, str]]) -> Path:
    """A task file."""
    path = folder / "task.json"
    path.write_text(json.dumps([{"input": before, "output": after} for before, after in pairs]), "utf-8")
    return path


def load_pairs(folder: Path, pairs: list[tuple[str, str]], **options: Any) -> Task:
    """The task of a file with these pairs."""
    return load_task(write_json(folder, pairs), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files that generated examples overwrite."""
    return tmp_path_factory.mktemp("tasks")


@given(pairs=word_pairs(min_size=4), seed=seeds, n_shot=st.integers(0, 3))
def test_every_pair_is_shown_or_asked(folder: Path, pairs: list[tuple[str, str]], seed: int, n_shot: int) -> None:
    """Where no two pairs share a word, each is a demonstration or a prompt: nothing is lost, nothing is invented."""
    task = load_pairs(folder, pairs, seed=seed, n_shot=n_shot)
    shown = [tuple(pair) for pair in task.spec["demonstrations"]]
    lead = "".join(f"{before} -> {after}\n" for before, after in shown)
    asked = [(before, after) for before, after in pairs if (before, after) not in shown]
    assert len(shown) == n_shot
    assert {(sample.prompt, sample.answer) for sample in task} == {
        (f"{lead}{before} ->", f" {after}") for before, after in asked
    }
    assert len(task) == len(asked) == task.spec["n_samples"]


@given(pairs=word_pairs(min_size=3), seed=seeds, limits=st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_limit_takes_the_first(folder: Path, pairs: list[tuple[str, str]], seed: int, limits: tuple[int, int]) -> None:
    """The first n samples are the same whatever the limit."""
    short, long = sorted(limits)
    few = load_pairs(folder, pairs, seed=seed, n_shot=2, limit=short)
    many = load_pairs(folder, pairs, seed=seed, n_shot=2, limit=long)
    every = load_pairs(folder, pairs, seed=seed, n_shot=2)
    assert few.samples == many.samples[:short] == every.samples[:short]
    assert len(many) == min(long, len(every))


@given(data=st.data(), pairs=word_pairs(min_size=3), seed=seeds)
def test_order_of_the_file_changes_nothing(
    folder: Path, data: st.DataObject, pairs: list[tuple[str, str]], seed: int
) -> None:
    """A file with its pairs permuted gives the same samples in the same order."""
    permuted = data.draw(st.permutations(pairs))
    first = load_pairs(folder, pairs, seed=seed, n_shot=1)
    assert load_pairs(folder, permuted, seed=seed, n_shot=1).samples == first.samples


@given(pairs=word_pairs(min_size=3), seed=seeds)
def test_equal_seeds_give_equal_tasks(folder: Path, pairs: list[tuple[str, str]], seed: int) -> None:
    """The same arguments give the same task, specification included."""
    assert load_pairs(folder, pairs, seed=seed, n_shot=1) == load_pairs(folder, pairs, seed=seed, n_shot=1)


def test_seeds_choose_demonstrations_and_order() -> None:
    """Different seeds show different demonstrations and ask in a different order."""
    first, second = load_task("antonym", seed=0), load_task("antonym", seed=1)
    assert first.spec["demonstrations"] != second.spec["demonstrations"]
    assert [sample.answer for sample in first[:10]] != [sample.answer for sample in second[:10]]


@pytest.mark.parametrize("name", ["antonym", "country-capital", "present-past", "singular-plural", "synonym"])
@pytest.mark.parametrize("seed", range(5))
def test_no_demonstration_gives_the_answer_away(name: str, seed: int) -> None:
    """A query's input and output stand in no demonstration, in either direction."""
    task = load_task(name, seed=seed, n_shot=8)
    shown = {word for pair in task.spec["demonstrations"] for word in pair}
    assert len(shown) == 16
    for sample in task:
        assert sample.prompt is not None
        assert sample.answer is not None
        asked = sample.prompt.rsplit("\n", 1)[1].removesuffix(" ->")
        assert not {asked, sample.answer.strip()} & shown


def test_demonstrations_are_shared() -> None:
    """All prompts of a task begin with the same demonstrations."""
    task = load_task("antonym", n_shot=3)
    assert len({str(sample.prompt).rsplit("\n", 1)[0] for sample in task}) == 1


def test_shared_words_are_left_out_and_counted(tmp_path: Path) -> None:
    """Pairs that share a word with a demonstration, in any case and either role, are not asked about, but counted."""
    pairs = [("hot", "cold"), ("Cold", "hot"), ("icy", "HOT"), ("up", "down"), ("down", "up")]
    for seed in range(8):
        task = load_pairs(tmp_path, pairs, n_shot=1, seed=seed)
        warm = task.spec["demonstrations"][0] not in (["up", "down"], ["down", "up"])
        assert task.spec["n_left_out"] == {"shares a word with a demonstration": 2 if warm else 1}
        assert len(task) == (2 if warm else 3)


def test_labels_may_repeat(tmp_path: Path) -> None:
    """Where many pairs share few outputs, the outputs are labels: demonstrations show them, and nothing is lost."""
    pairs = [(f"review {i}", "good" if i % 2 else "bad") for i in range(10)]
    task = load_pairs(tmp_path, pairs, n_shot=4)
    assert len(task) == 6
    assert task.spec["n_left_out"] == {}


def test_duplicates_are_left_out_and_counted(tmp_path: Path) -> None:
    """A pair that stands twice in a file is taken once."""
    task = load_pairs(tmp_path, [*PAIRS, PAIRS[0], (" hot ", "cold\n")], n_shot=1)
    assert len(task) == len(PAIRS) - 1
    assert task.spec["n_left_out"] == {"repeats an earlier pair": 2}


@pytest.mark.parametrize(
    ("template", "prompt", "answer"),
    [
        (None, "hot -> cold\nwide ->", " narrow"),
        ("{input} -> {output}", "hot -> cold\nwide ->", " narrow"),
        ("{input}:{output};", "hot:cold;\nwide:", "narrow"),
        ("{input} =>  {output}", "hot =>  cold\nwide =>", "  narrow"),
        ("Q: {input}\nA: {output}", "Q: hot\nA: cold\n\nQ: wide\nA:", " narrow"),
        ("{input}\n{output}", "hot\ncold\n\nwide\n", "narrow"),
        ('{"{input}": "{output}"}', '{"hot": "cold"}\n{"wide": "', "narrow"),
    ],
)
def test_template(tmp_path: Path, template: str | None, prompt: str, answer: str) -> None:
    """The prompt is the template up to the spaces before the output, and the answer gets those spaces back."""
    tasks = (
        load_pairs(tmp_path, [("hot", "cold"), ("wide", "narrow")], n_shot=1, seed=seed, template=template)
        for seed in range(20)
    )
    task = next(task for task in tasks if task.spec["demonstrations"] == [["hot", "cold"]])
    assert (task[0].prompt, task[0].answer) == (prompt, answer)


def test_braces_in_words_are_text(tmp_path: Path) -> None:
    """Words that look like a template's places stay words."""
    pairs = [("{output}", "{input}"), ("a{input}", "b")]
    prompts = {load_pairs(tmp_path, pairs, n_shot=1, seed=seed)[0].prompt for seed in range(20)}
    assert prompts == {"{output} -> {input}\na{input} ->", "a{input} -> b\n{output} ->"}


@pytest.mark.parametrize("template", ["", "{input}", "{output} is {input}", "{input} {input} {output}", "{x} {output}"])
def test_bad_template(template: str) -> None:
    """A template without an input and behind it an output is refused with an example."""
    with pytest.raises(UsageError, match=r"must contain \{input\} once and behind it \{output\} once, as in"):
        load_task("antonym", template=template)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_shot": -1}, "n_shot must be at least 0, got -1"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"prompt_words": 0}, "prompt_words must be at least 1, got 0"),
        ({"prompt_field": "x", "answer_field": "x"}, "both 'x'. Name two fields"),
        ({"answer_marker": " "}, "answer_marker is empty"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    """Arguments out of range are refused before anything is read."""
    with pytest.raises(UsageError, match=message):
        load_task("no such task", **options)


@pytest.mark.parametrize("n_shot", [2, 3])
def test_too_few_pairs(tmp_path: Path, n_shot: int) -> None:
    """A task without a pair left to ask about is refused with the numbers."""
    pairs = [("hot", "cold"), ("up", "down")]
    with pytest.raises(EmptyTaskError, match=rf"No sample is left: n_shot={n_shot} .* from 2 pairs"):
        load_pairs(tmp_path, pairs, n_shot=n_shot)


def test_task_is_a_sequence() -> None:
    """A task has a length, an order, items and slices."""
    task = load_task("antonym", limit=4)
    assert len(task) == 4
    assert tuple(task) == task.samples
    assert task[-1] is task.samples[3]
    assert task[1:3] == task.samples[1:3]


def test_spec_is_json() -> None:
    """A task's specification survives JSON, and loads the same task again."""
    task = load_task("antonym", n_shot=2, limit=7, seed=3, template="{input} : {output}")
    spec = json.loads(json.dumps(task.spec))
    assert spec == task.spec
    again = load_task(spec["name"], **{key: spec[key] for key in ("n_shot", "limit", "seed", "template")})
    assert again == task


@given(pairs=word_pairs(min_size=12), seed=seeds, n_shot=st.integers(1, 2), n_sets=st.integers(2, 3))
def test_prompts_take_turns_with_sets(
    folder: Path, pairs: list[tuple[str, str]], seed: int, n_shot: int, n_sets: int
) -> None:
    """Prompt i begins with set i modulo their number; no pair stands in two sets, and none is asked that is shown."""
    task = load_pairs(folder, pairs, seed=seed, n_shot=n_shot, demonstration_sets=n_sets)
    shown = [tuple(pair) for pair in task.spec["demonstrations"]]
    assert len(set(shown)) == len(shown) == n_shot * n_sets
    assert (task.spec["n_shot"], task.spec["demonstration_sets"]) == (n_shot, n_sets)
    for place, sample in enumerate(task):
        own = shown[n_shot * (place % n_sets) :][:n_shot]
        assert sample.demonstration_set == place % n_sets
        assert sample.prompt is not None
        assert sample.prompt.startswith("".join(f"{before} -> {after}\n" for before, after in own))
        assert sample.prompt.count(" ->") == n_shot + 1


def test_one_set_is_as_without(folder: Path) -> None:
    """One set of demonstrations is the usual task, and its samples name no set."""
    usual, one = load_pairs(folder, PAIRS, n_shot=2), load_pairs(folder, PAIRS, n_shot=2, demonstration_sets=1)
    assert usual == one
    assert "demonstration_sets" not in usual.spec
    assert {sample.demonstration_set for sample in one} == {None}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"demonstration_sets": 0}, UsageError, "demonstration_sets must be at least 1"),
        ({"demonstration_sets": 2, "n_shot": 0}, UsageError, "1 without demonstrations, got 2 with n_shot=0"),
        ({"demonstration_sets": 3, "limit": 2}, UsageError, "demonstration_sets=3 need as many prompts, got limit=2"),
        ({"demonstration_sets": 4, "n_shot": 1}, EmptyTaskError, "4 sets of 1 demonstrations leave 2 prompts"),
    ],
)
def test_sets_that_cannot_be_are_refused(
    folder: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A number of sets out of range, or that leaves too few prompts, is refused with what was asked."""
    with pytest.raises(error, match=message):
        load_pairs(folder, PAIRS, **options)


def test_finished_prompts_have_no_sets(tmp_path: Path) -> None:
    """Several sets of demonstrations are refused for finished prompts."""
    path = tmp_path / "done.json"
    path.write_text(json.dumps([{"prompt": "hot ->", "answer": " cold"}]), "utf-8")
    with pytest.raises(UsageError, match=r"demonstration_sets=2 .* does not apply to .* finished prompts"):
        load_task(path, demonstration_sets=2)


TEMPLATES = ("{input} -> {output}", "{input}: {output}", "Q: {input}\nA: {output}")


@given(pairs=word_pairs(min_size=10, max_size=12), seed=seeds, n_sets=st.sampled_from([1, 3]))
def test_prompts_take_turns_with_templates(folder: Path, pairs: list[tuple[str, str]], seed: int, n_sets: int) -> None:
    """Prompt i is written in template i modulo their number, demonstrations included; a set is in one template."""
    task = load_pairs(folder, pairs, seed=seed, n_shot=1, demonstration_sets=n_sets, templates=TEMPLATES)
    plain = load_pairs(folder, pairs, seed=seed, n_shot=1, demonstration_sets=n_sets)
    assert (task.spec["templates"], task.spec["template"]) == (list(TEMPLATES), None)
    templates_of: dict[int | None, set[int | None]] = {}
    for place, (sample, usual) in enumerate(zip(task, plain, strict=True)):
        assert (sample.template, sample.demonstration_set) == (place % 3, usual.demonstration_set)
        shown, asked = str(usual.prompt).split("\n")
        before, after = shown.split(" -> ")
        text = TEMPLATES[place % 3]
        written = text.format(input=before, output=after)
        between = "\n\n" if "\n" in text else "\n"
        head = text.partition("{output}")[0].rstrip(" ").format(input=asked.removesuffix(" ->"))
        assert sample.prompt == written + between + head
        assert sample.answer == usual.answer
        templates_of.setdefault(sample.demonstration_set, set()).add(sample.template)
    assert n_sets == 1 or all(len(found) == 1 for found in templates_of.values())


def test_templates_of_the_package_are_templates() -> None:
    """The word-pair templates that come along can be used together, and the usual one is the first."""
    assert WORD_PAIR_TEMPLATES[0] == "{input} -> {output}"
    assert len(set(WORD_PAIR_TEMPLATES)) == len(WORD_PAIR_TEMPLATES) >= 4
    task = load_task("antonym", n_shot=2, limit=10, templates=list(WORD_PAIR_TEMPLATES))
    assert [sample.template for sample in task] == [*range(5), *range(5)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"templates": "{input} -> {output}"}, UsageError, "templates must be texts, got '{input} -> {output}'"),
        ({"templates": TEMPLATES, "template": "{input}:{output}"}, UsageError, "template= for one template or"),
        ({"templates": TEMPLATES[:1] * 2}, UsageError, "names '{input} -> {output}' twice"),
        ({"templates": ("{input}",)}, UsageError, "must contain {input} once and behind it {output} once"),
        ({"templates": TEMPLATES, "demonstration_sets": 4}, UsageError, "4 sets cannot be shared out over 3 templates"),
        ({"templates": TEMPLATES, "limit": 2}, UsageError, "3 templates, which need as many prompts, got limit=2"),
        ({"templates": TEMPLATES, "n_shot": 4}, EmptyTaskError, "2 prompts are fewer than 3 templates"),
    ],
)
def test_templates_that_cannot_be_are_refused(
    folder: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Templates that are no texts, stand twice, cannot be shared out or are too many are refused with the reason."""
    with pytest.raises(error, match=re.escape(message)):
        load_pairs(folder, PAIRS, **options)


def test_finished_prompts_have_no_templates(tmp_path: Path) -> None:
    """Several templates are refused for finished prompts, and for prompts that are generated."""
    path = tmp_path / "done.json"
    path.write_text(json.dumps([{"prompt": "hot ->", "answer": " cold"}]), "utf-8")
    with pytest.raises(UsageError, match=r"template '{input} -> {output}' does not apply to .* finished prompts"):
        load_task(path, templates=TEMPLATES)
    with pytest.raises(UsageError, match=r"templates=.* does not apply to recall"):
        load_task("recall", templates=TEMPLATES)
