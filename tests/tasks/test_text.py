"""Next-token prompts out of plain text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer._errors import EmptyTaskError, TaskFileError, UsageError
from layertracer.tasks import load_task


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files that generated examples overwrite."""
    return tmp_path_factory.mktemp("texts")


def write(folder: Path, text: str) -> str:
    """The name of a task made of a text."""
    path = folder / "story.txt"
    path.write_bytes(text.encode("utf-8"))
    return f"text:{path}"


@given(n_words=st.integers(5, 60), prompt_words=st.integers(1, 4), seed=st.integers(0, 99))
def test_prompts_are_pieces_of_the_text(folder: Path, n_words: int, prompt_words: int, seed: int) -> None:
    """A prompt is a piece of the text of the stated number of words, and the answer the word that follows it; the
    pieces do not overlap.
    """
    text = " ".join(f"w{i}" for i in range(n_words))
    task = load_task(write(folder, text), prompt_words=prompt_words, seed=seed)
    assert len(task) == n_words // (prompt_words + 1)
    pieces = [str(sample.prompt) + str(sample.answer) for sample in task]
    assert all(len(str(sample.prompt).split()) == prompt_words for sample in task)
    assert all(re.search(rf"(^|\s){re.escape(piece)}($|\s)", text) for piece in pieces)
    used = [word for piece in pieces for word in piece.split()]
    assert len(set(used)) == len(used)


@given(seed=st.integers(0, 99), limit=st.integers(1, 20))
def test_seed_orders_and_limit_takes_the_first(folder: Path, seed: int, limit: int) -> None:
    """Equal seeds give equal prompts, and a limit takes the first of them."""
    name = write(folder, " ".join(f"w{i}" for i in range(100)))
    every = load_task(name, prompt_words=4, seed=seed)
    assert load_task(name, prompt_words=4, seed=seed, limit=limit).samples == every.samples[:limit]


def test_seeds_differ(tmp_path: Path) -> None:
    """Another seed gives another order."""
    name = write(tmp_path, " ".join(f"w{i}" for i in range(200)))
    orders = {load_task(name, prompt_words=4, seed=seed).samples for seed in range(3)}
    assert len(orders) == 3


def test_answers_are_words_on_the_same_line(tmp_path: Path) -> None:
    """Pieces are left out, with the reason counted, where the next word begins a new line or is no word; punctuation
    behind an answer is cut off, and the prompt keeps its line breaks.
    """
    task = load_task(write(tmp_path, "a b\nc d, e f\ng h i <unk>"), prompt_words=1)
    assert {(sample.prompt, sample.answer) for sample in task} == {("a", " b"), ("c", " d"), ("e", " f"), ("g", " h")}
    assert task.spec["n_left_out"] == {"the next token is no word": 1}
    wider = load_task(write(tmp_path, "a b\nc d\ne f g h"), prompt_words=3)
    assert {(sample.prompt, sample.answer) for sample in wider} == {("a b\nc", " d"), ("e f g", " h")}
    broken = load_task(write(tmp_path, "a\nb c d"), prompt_words=1)
    assert broken.spec["n_left_out"] == {"the next word begins a new line": 1}


def test_spec_of_a_text(tmp_path: Path) -> None:
    """The specification names the kind, the file and the number of words."""
    task = load_task(write(tmp_path, "one two three four"), prompt_words=3)
    assert (task.name, task.spec["kind"], task.spec["prompt_words"], task.spec["n_shot"]) == ("story", "text", 3, 0)


def test_text_is_too_short(tmp_path: Path) -> None:
    """A text that gives no prompt is refused with the numbers."""
    with pytest.raises(EmptyTaskError, match="has 3 words, and a prompt of 32 words with the word after it needs 33"):
        load_task(write(tmp_path, "one two three"))


def test_text_needs_a_file(tmp_path: Path) -> None:
    """A text file that is not there, or no UTF-8, is refused."""
    with pytest.raises(TaskFileError, match="There is no task file"):
        load_task(f"text:{tmp_path / 'missing.txt'}")
    (tmp_path / "latin.txt").write_bytes(b"one\ntwo caf\xe9")
    with pytest.raises(TaskFileError, match=r"latin\.txt, line 2: byte 0xe9 is not UTF-8"):
        load_task(f"text:{tmp_path / 'latin.txt'}")


def test_template_does_not_apply_to_text(tmp_path: Path) -> None:
    """A template for plain text is refused rather than ignored."""
    with pytest.raises(UsageError, match="does not apply to text:"):
        load_task(write(tmp_path, "one two three"), prompt_words=2, template="{input} -> {output}")
