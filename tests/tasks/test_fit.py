"""Tasks for models that do not know all words."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from layertracer import TracedModel
from layertracer._errors import EmptyTaskError
from layertracer._types import Sample
from layertracer.tasks import Task, encode_samples, fit_task, list_tasks, load_task

from tests.support.tokenizers import MARKS, word_tokenizer

Fast = PreTrainedTokenizerFast

UNKNOWN_PAIR = "has a word outside the model's vocabulary"
UNKNOWN_ANSWER = "the answer is outside the model's vocabulary"
PAIRS = [
    *(("hot", "cold"), ("wide", "narrow"), ("big", "little"), ("up", "down"), ("new", "old"), ("dry", "wet")),
    *(("zebra", "horse"), ("rich", "impecunious")),
]
WORDS = sorted({word for pair in PAIRS for word in pair} - {"zebra", "impecunious"})


def write_pairs(folder: Path, pairs: list[tuple[str, str]], name: str = "task.json") -> Path:
    """A file of pairs."""
    path = folder / name
    path.write_text(json.dumps([{"input": before, "output": after} for before, after in pairs]), "utf-8")
    return path


def write_prompts(folder: Path, samples: list[tuple[str, str]]) -> Path:
    """A file of finished prompts."""
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in samples), "utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files that generated examples overwrite."""
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def knowing() -> Fast:
    """A word-level tokenizer that does not know two words of `PAIRS`."""
    return word_tokenizer(WORDS)


# ---------------------------------------------------------------- pairs


def test_unknown_pairs_are_left_out_and_counted(tmp_path: Path, knowing: Fast) -> None:
    """Pairs with an unknown input or output are neither shown nor asked about, whatever the seed, but counted."""
    path = write_pairs(tmp_path, PAIRS)
    for seed in range(6):
        task = fit_task(load_task(path, n_shot=3, seed=seed), knowing)
        assert task.spec["n_left_out"] == {UNKNOWN_PAIR: 2}
        assert (len(task), task.spec["n_samples"], task.spec["n_shot"]) == (3, 3, 3)
        text = " ".join(f"{sample.prompt}{sample.answer}" for sample in task)
        assert "zebra" not in text
        assert "impecunious" not in text


@pytest.mark.parametrize("name", [info.name for info in list_tasks() if info.n_pairs])
def test_the_limit_is_reached_where_there_are_enough(name: str) -> None:
    """A model that knows part of a built-in task's pairs is still asked as many prompts as were asked for."""
    every = load_task(name, n_shot=0)
    known = [f"{sample.prompt}{sample.answer}".split(" -> ") for sample in every[::3]]
    tokenizer = word_tokenizer(word for pair in known for words in pair for word in words.split())
    task = load_task(name, n_shot=4, limit=12)
    encoded = encode_samples(task, tokenizer)
    assert len(encoded.samples) == encoded.spec["n_samples"] == 12
    assert encoded.spec["n_left_out"][UNKNOWN_PAIR] > len(every) / 4
    assert not any(tokenizer.unk_token_id in (*one.prompt_ids, *one.answer_ids) for one in encoded.samples)


known_pairs = st.lists(st.sampled_from(PAIRS), min_size=3, unique=True)
seeds = st.integers(0, 99)


@settings(max_examples=20)
@given(data=st.data(), known=known_pairs, seed=seeds)
def test_fitted_tasks_obey_the_laws_of_tasks(
    folder: Path, data: st.DataObject, known: list[tuple[str, str]], seed: int
) -> None:
    """Equal arguments give equal tasks, the first samples do not depend on the limit, none on the file's order."""
    tokenizer = word_tokenizer(word for pair in known for word in pair)

    def fitted(pairs: list[tuple[str, str]], limit: int | None = None) -> Task:
        return fit_task(load_task(write_pairs(folder, pairs), n_shot=1, seed=seed, limit=limit), tokenizer)

    task = fitted(PAIRS)
    assert fitted(PAIRS) == task
    assert fitted(PAIRS, limit=2).samples == task.samples[:2]
    assert fitted(data.draw(st.permutations(PAIRS))).samples == task.samples
    assert fit_task(task, tokenizer) is task


@settings(max_examples=20)
@given(known=known_pairs, seed=seeds)
def test_unknown_pairs_might_as_well_not_be_there(folder: Path, known: list[tuple[str, str]], seed: int) -> None:
    """The samples are those of a file that holds the known pairs alone."""
    tokenizer = word_tokenizer(word for pair in known for word in pair)
    fitted = fit_task(load_task(write_pairs(folder, PAIRS), n_shot=1, seed=seed), tokenizer)
    assert fitted.samples == load_task(write_pairs(folder, known), n_shot=1, seed=seed).samples


def test_limit_of_what_is_left(tmp_path: Path, knowing: Fast) -> None:
    """Where pairs were left out, the limit is told of the prompts that are left, not of those of the file."""
    task = load_task(write_pairs(tmp_path, PAIRS), n_shot=2, limit=3)
    assert task.notes[-1].startswith("3 of 6 prompts are asked")
    assert encode_samples(task, knowing).left_out == (
        "2 of 8 pairs have a word outside the model's vocabulary: they were left out, as demonstrations too.",
        "Of what is left, 3 of 4 prompts are asked: limit=3 leaves the others out.",
    )


@pytest.mark.parametrize("template", ["{input} is to {output}", "Q: {input}\nA: {output} !", "{input}→{output}"])
def test_words_of_the_template_may_be_unknown(tmp_path: Path, knowing: Fast, template: str) -> None:
    """Where the template itself holds an unknown word, only the words of the pairs decide; prompts are warned of."""
    task = load_task(write_pairs(tmp_path, PAIRS), n_shot=2, template=template)
    encoded = encode_samples(task, knowing)
    assert encoded.spec["n_left_out"] == {UNKNOWN_PAIR: 2}
    assert encoded.warnings == (
        "2 of 8 pairs have a word outside the model's vocabulary: they were left out, as demonstrations too.",
        "4 of 4 prompts contain the tokenizer's unknown token: the model does not see which word stands there.",
    )


def test_words_count_as_they_stand_in_the_template(tmp_path: Path) -> None:
    """A word that the template glues to something else is looked at with it."""
    path = write_pairs(tmp_path, [("hard", "soft"), ("wide", "narrow")])
    tokenizer = word_tokenizer(["hard", "wide", "er", "harder", "soft", "narrow"])
    (sample,) = fit_task(load_task(path, n_shot=0, template="{input}er -> {output}"), tokenizer)
    assert (sample.prompt, sample.answer) == ("harder ->", " soft")


# ---------------------------------------------------------------- tokenizers that know all


@pytest.mark.parametrize("name", [info.name for info in list_tasks()])
def test_the_embedded_default_knows_every_word(smollm2: TracedModel, name: str) -> None:
    """A byte-level tokenizer gives back the very task, though it names an unknown token."""
    task = load_task(name, limit=8)
    assert smollm2.tokenizer.unk_token is not None
    assert fit_task(task, smollm2.tokenizer) is task
    assert encode_samples(task, smollm2.tokenizer).samples == encode_samples(list(task), smollm2.tokenizer).samples


def test_without_unknown_token_nothing_is_left_out(bpe: Fast, partial: Fast, tmp_path: Path) -> None:
    """A tokenizer without an unknown token, or none at all, gives back the very task."""
    task = load_task(write_pairs(tmp_path, PAIRS), n_shot=2)
    assert all(fit_task(task, tokenizer) is task for tokenizer in (bpe, partial, None))


def test_a_vocabulary_that_suffices_changes_nothing(tmp_path: Path) -> None:
    """A word-level tokenizer that knows all words gives back the very task."""
    task = load_task(write_pairs(tmp_path, PAIRS), n_shot=2)
    assert fit_task(task, word_tokenizer([*WORDS, "zebra", "impecunious"])) is task


def test_end_token_as_unknown_token(tmp_path: Path, framing_bpe: Fast) -> None:
    """An unknown token that is also the end token, as in GPT-2, stands where somebody wrote it: nothing is left out."""
    like_gpt2 = Fast(tokenizer_object=framing_bpe.backend_tokenizer, eos_token="</s>", unk_token="</s>")
    task = load_task(write_prompts(tmp_path, [("hot</s>wide ->", " narrow"), ("hot ->", "</s>")]))
    encoded = encode_samples(task, like_gpt2)
    assert len(encoded.samples) == 2
    assert not any("unknown" in warning for warning in encoded.warnings)


# ---------------------------------------------------------------- finished prompts and text

PROMPTS = [
    *(("hot -> cold\nwide ->", " zebra"), ("hot -> cold\nzebra ->", " wet"), ("big ->", " little zebra")),
    *(("up ->", " down"), ("new ->", " zebra"), ("dry ->", " wet"), ("rich ->", " old")),
]


@pytest.mark.parametrize(("followed", "kept"), [("first", [1, 2, 3, 5, 6]), ("all", [1, 3, 5, 6]), (None, range(7))])
def test_prompts_with_an_unknown_answer(tmp_path: Path, knowing: Fast, followed: Any, kept: list[int]) -> None:
    """A finished prompt is left out where what is followed of its answer is unknown; an unknown word in it may stay."""
    task = fit_task(load_task(write_prompts(tmp_path, PROMPTS)), knowing, followed=followed)
    assert [(sample.prompt, sample.answer) for sample in task] == [PROMPTS[index] for index in kept]
    n_unknown = len(PROMPTS) - len(kept)
    assert task.spec["n_left_out"] == ({UNKNOWN_ANSWER: n_unknown} if n_unknown else {})
    assert task.spec["kind"] == "verbatim"


@pytest.mark.parametrize(("limit", "n_unknown"), [(1, 1), (3, 1), (4, 2), (None, 2)])
def test_prompts_are_looked_at_until_there_are_enough(
    tmp_path: Path, knowing: Fast, limit: int | None, n_unknown: int
) -> None:
    """As many prompts come out as were asked for, the first in the file's order; those behind them are not counted."""
    path = write_prompts(tmp_path, PROMPTS)
    task, every = fit_task(load_task(path, limit=limit), knowing), fit_task(load_task(path), knowing)
    assert task.samples == every.samples[:limit]
    assert len(task) == (limit or 5)
    assert task.spec["n_left_out"] == {UNKNOWN_ANSWER: n_unknown}
    assert fit_task(task, knowing) is task


def test_next_words_of_plain_text(tmp_path: Path, knowing: Fast) -> None:
    """Prompts out of plain text are left out where the next word is unknown, beside what is left out already."""
    path = tmp_path / "text.txt"
    path.write_text("hot cold big zebra up down wet zebra dry hot cold wide\nrich new old up up\n")
    task = fit_task(load_task(f"text:{path}", prompt_words=1), knowing)
    reasons = {"the next word begins a new line": 0, UNKNOWN_ANSWER: 2}
    assert task.spec["n_left_out"] == {reason: n for reason, n in reasons.items() if n}
    assert {sample.answer for sample in task}.isdisjoint({" zebra"})


def test_what_was_left_out_is_a_warning(tmp_path: Path, knowing: Fast) -> None:
    """The encoded task says how many prompts were left out and how many hold an unknown word, and carries its spec."""
    encoded = encode_samples(load_task(write_prompts(tmp_path, PROMPTS)), knowing, followed="all")
    assert encoded.left_out == ("3 of 7 answers are outside the model's vocabulary: their prompts were left out.",)
    assert encoded.warnings == (
        *encoded.left_out,
        "1 of 4 prompts contain the tokenizer's unknown token: the model does not see which word stands there.",
    )
    assert encoded.spec["n_left_out"] == {UNKNOWN_ANSWER: 3}


def test_samples_by_themselves_all_stay(tmp_path: Path, knowing: Fast) -> None:
    """Samples that are given as a list keep their number and order, and unknown words are warned of."""
    samples = [Sample(prompt=prompt, answer=answer) for prompt, answer in PROMPTS]
    for given_samples in (samples, list(load_task(write_prompts(tmp_path, PROMPTS)))):
        encoded = encode_samples(given_samples, knowing)
        assert [sample.answer_text for sample in encoded.samples] == [answer for _, answer in PROMPTS]
        assert (encoded.left_out, encoded.spec) == ((), {"name": "samples", "kind": "samples"})
        assert "3 of 7 answers contain the tokenizer's unknown token: their probability means little." in (
            encoded.warnings
        )


# ---------------------------------------------------------------- nothing left


def test_no_pair_is_known(tmp_path: Path) -> None:
    """A task of which no pair is known is refused with how many there are and a word that is not known."""
    message = (
        r"No sample is left: all 8 pairs of 'task' have a word outside the model's vocabulary, such as 'hot'\. Give "
        r"pairs of words that the model's tokenizer knows"
    )
    with pytest.raises(EmptyTaskError, match=message):
        fit_task(load_task(write_pairs(tmp_path, PAIRS), n_shot=2), word_tokenizer(["cold"]))


def test_too_few_pairs_are_known(tmp_path: Path, knowing: Fast) -> None:
    """Where too few pairs are left for the demonstrations, the message says how many are unknown, and what to do."""
    message = (
        r"2 of 8 pairs of 'task' have a word outside the model's vocabulary, such as 'zebra', and are left out\. No "
        r"sample is left: n_shot=6 demonstrations .* from 6 pairs\. Give a smaller n_shot or more pairs"
    )
    with pytest.raises(EmptyTaskError, match=message):
        encode_samples(load_task(write_pairs(tmp_path, PAIRS), n_shot=6), knowing)


def test_no_answer_is_known(tmp_path: Path, knowing: Fast) -> None:
    """Finished prompts of which no answer is known are refused with an answer and what to do."""
    path = write_prompts(tmp_path, [("hot ->", " okapi"), ("wide ->", " zebra")])
    message = (
        r"No sample is left: the answers of all 2 prompts of 'prompts' are outside the model's vocabulary, such as "
        r"' okapi'\. .* target='model'"
    )
    with pytest.raises(EmptyTaskError, match=message):
        encode_samples(load_task(path, limit=1), knowing)
    assert len(encode_samples(load_task(path), knowing, followed=None).samples) == 2


# ---------------------------------------------------------------- the task itself


def test_copied_tasks_are_fitted_alike(tmp_path: Path, knowing: Fast) -> None:
    """A task that was copied or pickled equals the first, and is fitted like it."""
    task = load_task(write_pairs(tmp_path, PAIRS), n_shot=2)
    for twin in (copy.copy(task), copy.deepcopy(task), pickle.loads(pickle.dumps(task))):  # noqa: S301 - our own bytes
        assert twin == task
        assert repr(twin) == repr(task)
        assert fit_task(twin, knowing) == fit_task(task, knowing) != task


def test_samples_put_into_a_task_stay(tmp_path: Path, knowing: Fast) -> None:
    """A task whose samples somebody chose is taken as it is."""
    task = load_task(write_pairs(tmp_path, PAIRS), n_shot=0)
    chosen = replace(task, samples=tuple(sample for sample in task if sample.prompt == "zebra ->"))
    assert fit_task(chosen, knowing) is chosen
    assert len(encode_samples(chosen, knowing).samples) == 1


def test_the_template_marks_are_known() -> None:
    """The tokenizer of these tests knows the marks of the default template, so that only words decide."""
    assert {"\n", "->"} <= set(MARKS)
    tokens = word_tokenizer(["hot", "cold"])("hot -> cold\nhot ->").tokens()
    assert tokens == ["<s>", "hot", "->", "cold", "\n", "hot", "->"]
