"""Crossed tasks: the same queries behind every set of demonstrations, in every template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from layertracer._errors import EmptyTaskError, UsageError
from layertracer.tasks import WORD_PAIR_TEMPLATES, CrossedTask, builtin_pairs, cross_task, load_task

TEMPLATES = ("{input} -> {output}", "Q: {input}\nA: {output}")


def words_of(prompt: str, template: str) -> list[tuple[str, str]]:
    """Input and output of every pair of a prompt, the last output empty, read by hand."""
    if "\n" in template:
        blocks = [block.split("\n") for block in prompt.split("\n\n")]
        return [(before.removeprefix("Q: "), after.removeprefix("A:").strip()) for before, after in blocks]
    lines = [line.partition(" ->") for line in prompt.split("\n")]
    return [(before, after.strip()) for before, _, after in lines]


@given(seed=st.integers(0, 10_000), n_sets=st.integers(1, 4), n_shot=st.integers(1, 3), n_queries=st.integers(1, 4))
def test_every_query_is_asked_behind_every_set_in_every_template(
    seed: int, n_sets: int, n_shot: int, n_queries: int
) -> None:
    """All combinations are there once; no word of a query is shown in any set, and no pair stands in two sets."""
    crossed = cross_task(
        "antonym", demonstration_sets=n_sets, templates=TEMPLATES, n_queries=n_queries, n_shot=n_shot, seed=seed
    )
    cells = list(zip(crossed.query, crossed.demonstration_set, crossed.template, strict=True))
    assert len(crossed.task) == len(set(cells)) == len(cells) == n_queries * n_sets * 2
    asked: dict[int, set[tuple[str, str]]] = {}
    shown: dict[int, set[tuple[tuple[str, str], ...]]] = {}
    for sample, (query, in_set, template) in zip(crossed.task, cells, strict=True):
        *demonstrations, (word, nothing) = words_of(str(sample.prompt), TEMPLATES[template])
        assert nothing == ""
        assert len(demonstrations) == n_shot
        asked.setdefault(query, set()).add((word, str(sample.answer).strip()))
        shown.setdefault(in_set, set()).add(tuple(demonstrations))
    assert all(len(found) == 1 for found in (*asked.values(), *shown.values()))
    pairs = [pair for (own,) in shown.values() for pair in own]
    assert len(pairs) == len(set(pairs)) == n_sets * n_shot
    known = set(builtin_pairs("antonym"))
    assert set(pairs) <= known
    queries = {pair for (pair,) in asked.values()}
    assert len(queries) == n_queries
    assert queries <= known
    assert not {word.casefold() for pair in pairs for word in pair} & {
        word.casefold() for pair in queries for word in pair
    }


def test_samples_name_what_there_are_several_of() -> None:
    """A sample says its set and its template where there are several of them."""
    crossed = cross_task("antonym", demonstration_sets=2, templates=TEMPLATES, n_queries=2, n_shot=1)
    assert [one.demonstration_set for one in crossed.task] == crossed.demonstration_set.tolist()
    assert [one.template for one in crossed.task] == crossed.template.tolist()
    single = cross_task("antonym", demonstration_sets=1, templates=TEMPLATES[:1], n_queries=2, n_shot=1)
    assert {(one.demonstration_set, one.template) for one in single.task} == {(None, None)}


def test_numbers_are_arranged_by_query_set_and_template() -> None:
    """Numbers of the prompts become an array [query, set, template], further axes behind them."""
    crossed = cross_task("antonym", demonstration_sets=3, templates=TEMPLATES, n_queries=4, n_shot=1)
    values = np.stack([crossed.query, crossed.demonstration_set, crossed.template], axis=1).astype(float)
    arranged = crossed.arrange(values)
    for cell in np.ndindex(4, 3, 2):
        assert tuple(arranged[cell]) == cell
    with pytest.raises(UsageError, match="The task has 24 prompts, got numbers of 5"):
        crossed.arrange(np.zeros(5))


def test_more_queries_keep_the_first() -> None:
    """The first n queries do not depend on their number; equal arguments give equal tasks; seeds choose."""

    def make(n_queries: int, seed: int = 0) -> CrossedTask:
        return cross_task("antonym", demonstration_sets=2, templates=TEMPLATES, n_queries=n_queries, seed=seed)

    assert make(5).task.samples[: 3 * 4] == make(3).task.samples == make(3).task.samples
    assert make(3, seed=1).task.samples != make(3).task.samples


def test_words_that_a_model_does_not_know_are_left_out(words: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """With a tokenizer, pairs with an unknown word are neither shown nor asked about."""
    known = [word for word in sorted(words.get_vocab()) if word.isalpha()][:12]
    pairs = [*zip(known[::2], known[1::2], strict=True), ("xyzzy", known[0]), ("plugh", "frotz")]
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([{"input": before, "output": after} for before, after in pairs]), "utf-8")
    for source in (path, load_task(path, n_shot=1)):
        crossed = cross_task(
            source, demonstration_sets=2, templates=("{input} {output}",), n_queries=2, n_shot=2, tokenizer=words
        )
        text = " ".join(f"{sample.prompt}{sample.answer}" for sample in crossed.task)
        assert not {"xyzzy", "plugh", "frotz"} & set(text.split())


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("antonym", {"n_queries": 0}, UsageError, "n_queries must be at least 1, got 0"),
        ("antonym", {"n_shot": 0}, UsageError, "n_shot must be at least 1, got 0"),
        ("antonym", {"demonstration_sets": 1.5}, UsageError, "demonstration_sets must be a whole number"),
        ("antonym", {"n_queries": 10_000}, EmptyTaskError, "queries of antonym, fewer than n_queries=10000"),
        ("antonym", {"templates": ("{input}",)}, UsageError, r"must contain \{input\} once"),
        ("antonym", {"templates": "{input}: {output}"}, UsageError, "templates must be texts"),
        ("recall", {}, UsageError, "recall has no word pairs to be written in templates"),
    ],
)
def test_what_cannot_be_crossed_is_refused(
    source: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Numbers out of range, bad templates, too few pairs and sources without pairs are refused with what was asked."""
    with pytest.raises(error, match=message):
        cross_task(source, **options)


def test_the_usual_templates_are_crossed_where_none_are_named() -> None:
    """Without templates of one's own, the package's are used."""
    crossed = cross_task("antonym", demonstration_sets=1, n_queries=1, n_shot=1)
    assert crossed.task.spec["templates"] == list(WORD_PAIR_TEMPLATES)
