"""Rows for the search and rows for the judgement: far enough, never shared, and refused where they prove nothing."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import layertracer as lt
from layertracer.hybrids._judging.rows import Rows, Sizes, split_rows
from layertracer.tasks import read_beginning, recall_words
from layertracer.tracing import gather_text
from layertracer.tracing._texts.own_text import write_text

from tests.support.tiny import tiny
from tests.support.tokenizers import word_tokenizer

SMALL = Sizes(search_text=2, held_out_text=4, search_prompts=4, held_out_prompts=8, row_tokens=24)
WORDS = [f"w{number}" for number in range(60)]


@pytest.fixture(scope="module")
def mini() -> lt.TracedModel:
    """The trained attention miniature, which knows about two thousand words."""
    return lt.load_model("mini/attention")


@pytest.fixture(scope="module")
def wordy() -> lt.TracedModel:
    """A tiny model with a tokenizer of sixty words."""
    return lt.wrap_model(tiny("qwen3").module, word_tokenizer(WORDS), name="wordy")


def runs(row: Any, n: int = 13) -> set[tuple[int, ...]]:
    """All runs of n tokens of a row."""
    return {tuple(row.ids[start : start + n]) for start in range(len(row.ids) - n + 1)}


def text_of(n_words: int, *, seed: int = 0) -> str:
    """A text of random words out of sixty."""
    drawn = torch.randint(len(WORDS), (n_words,), generator=torch.Generator().manual_seed(seed)).tolist()
    return " ".join(WORDS[place] for place in drawn)


# ---------------------------------------------------------------- text


def test_passages_are_the_text_cut(wordy: lt.TracedModel, tmp_path: Path) -> None:
    """Passages of a file, a text and a packed file are its tokens, cut, each behind the start token; no two overlap."""
    text = text_of(300)
    path, packed = tmp_path / "corpus.txt", tmp_path / "corpus.txt.gz"
    path.write_text(text, "utf-8")
    packed.write_bytes(gzip.compress(text.encode()))
    ids = wordy.tokenizer(text, add_special_tokens=False)["input_ids"]
    expected = tuple((1, *ids[start : start + 23]) for start in range(0, len(ids) - 22, 23))
    for given_text in (text, str(path), f"text:{path}", path, packed):
        found = gather_text(wordy, given_text, n_rows=13, n_tokens=24, seed=0)
        assert found.rows == expected
        assert found.n_tokens == 300


def test_no_more_of_a_file_is_read_than_is_needed(wordy: lt.TracedModel, tmp_path: Path) -> None:
    """What stands far behind what is needed is not even decoded."""
    path = tmp_path / "large.txt"
    path.write_bytes((text_of(4000) + " ").encode() + b"\xff\xfe" * 50_000)
    found = gather_text(wordy, path, n_rows=8, n_tokens=24, seed=0)
    assert 8 <= len(found.rows) < 200
    with pytest.raises(lt.TaskFileError, match=r"byte 0xff is not UTF-8"):
        gather_text(wordy, path, n_rows=800, n_tokens=24, seed=0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_character_is_never_cut(encoding: str, tmp_path: Path) -> None:
    """Wherever reading stops, no half of a character is read as something else, in any encoding that is known."""
    text = "añ€😀" * 40
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode(encoding))
    for n_bytes in range(1, 90):
        beginning = read_beginning(path, n_bytes=n_bytes)
        assert text.startswith(beginning.text)
        assert not beginning.is_all
    assert read_beginning(path, n_bytes=10_000) == (text, True)


def test_search_and_judgement_share_no_passage(wordy: lt.TracedModel) -> None:
    """Of a text that repeats itself no run of 13 tokens is in both, and what was left out is counted."""
    text = " ".join([text_of(100), text_of(400, seed=1), text_of(100)])
    rows = split_rows(wordy, lt.Window(5), text=text, sizes=SMALL)
    shared = [row for row in rows.held_out.text for other in rows.search.text if runs(row) & runs(other)]
    assert shared == []
    assert (len(rows.search.text), len(rows.held_out.text)) == (2, 4)


def test_copies_are_left_out_of_the_judgement(wordy: lt.TracedModel) -> None:
    """Where all passages are copies of one, there is nothing to judge on that the search did not read."""
    with pytest.raises(lt.TaskError, match=r"too short .* 1 passages of 24"):
        split_rows(wordy, lt.Window(5), text=" ".join([" ".join(WORDS[:23])] * 20), sizes=SMALL)


@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, 12), sinks=st.integers(0, 6), seed=st.integers(0, 99))
def test_every_position_read_lies_beyond_the_window(size: int, sinks: int, seed: int) -> None:
    """All positions from size + sinks on are read, and none before; equal seeds give equal rows."""
    model = tiny("qwen3")
    ids = torch.randint(1, 60, (8, 30), generator=torch.Generator().manual_seed(seed)).tolist()
    samples = [lt.Sample(prompt_ids=row) for row in ids]
    rows = split_rows(model, lt.Window(size, sinks=sinks), text=samples, sizes=SMALL, seed=seed)
    for row in (*rows.search.text, *rows.held_out.text):
        assert list(row.ids) in ids
        assert row.read == tuple(range(size + sinks, 30))
    assert {row.ids for row in rows.search.text}.isdisjoint(row.ids for row in rows.held_out.text)
    assert rows == split_rows(model, lt.Window(size, sinks=sinks), text=samples, sizes=SMALL, seed=seed)


@pytest.mark.parametrize("length", [10, 30])
def test_rows_given_twice_count_once(wordy: lt.TracedModel, length: int) -> None:
    """Rows of token ids, short ones too, that are copies of one another are one row, in the search or the judgement."""
    drawn = torch.randint(3, 40, (8, length), generator=torch.Generator().manual_seed(0)).tolist()
    given_twice = [lt.Sample(prompt_ids=tuple(row)) for row in drawn + drawn]
    rows = split_rows(wordy, lt.Window(4), text=given_twice, sizes=SMALL)
    found = [row.ids for part in (rows.search, rows.held_out) for row in part.text]
    assert len(found) == len(set(found)) == 6
    assert any("8 of 16 rows are copies" in note for note in rows.notes)


def test_prompts_given_twice_count_once(mini: lt.TracedModel) -> None:
    """Copies of a prompt make nothing surer."""
    prompts = tuple(lt.load_task("recall", n_keys=12, limit=12))
    rows = split_rows(mini, lt.Window(4), with_text=False, tasks={"recall": prompts * 3}, sizes=SMALL)
    found = [row.ids for part in (rows.search, rows.held_out) for row in part.rows]
    assert len(found) == len(set(found))
    assert any("copies of another one" in note for note in rows.notes)


def test_no_task_takes_the_place_of_the_text(mini: lt.TracedModel) -> None:
    """A task called "text" is refused: passages go by that name."""
    with pytest.raises(lt.UsageError, match="cannot be called 'text'"):
        split_rows(mini, lt.Window(4), tasks={"text": "recall"}, sizes=SMALL)


def test_without_text_the_model_writes_its_own(mini: lt.TracedModel) -> None:
    """Equal seeds write equal passages from the start token on, with the cache as without; the notes say so."""
    rows = split_rows(mini, lt.Window(4), sizes=SMALL, seed=3)
    assert rows.notes[0] == (
        "Text: 6 passages of 24 tokens that the model wrote itself (temperature 1, seed 3): 2 for the search, 4 for "
        "the judgement"
    )
    assert {row.ids[0] for row in rows.search.text} == {mini.tokenizer.bos_token_id}
    assert {len(row.ids) for row in (*rows.search.text, *rows.held_out.text)} == {24}
    assert rows == split_rows(mini, lt.Window(4), sizes=SMALL, seed=3)
    assert rows != split_rows(mini, lt.Window(4), sizes=SMALL, seed=4)


def test_written_text_follows_the_models_own_distribution(mini: lt.TracedModel) -> None:
    """Its tokens are as likely as the model says: their mean surprise is the mean entropy, within its error."""
    ids = torch.tensor(write_text(mini, n_rows=24, n_tokens=40, seed=0))
    with torch.no_grad():
        log = mini.module(input_ids=ids, use_cache=False).logits.double().log_softmax(-1)[:, :-1]
    surprise = -log.gather(-1, ids[:, 1:, None])[..., 0]
    entropy = -(log.exp() * log).sum(-1)
    difference = surprise - entropy
    assert abs(difference.mean()) < 4 * difference.std() / difference.numel() ** 0.5
    assert surprise.mean() > 0.1


@pytest.mark.parametrize("name", ["qwen3", "hybrid", "planted"])
def test_models_without_tokenizer_write_too(name: str) -> None:
    """A module without a tokenizer, with a cache or without, writes tokens that it can read; no global seed moves."""
    model, state = tiny(name), torch.get_rng_state()
    rows = write_text(model, n_rows=3, n_tokens=12, seed=0)
    assert [len(row) for row in rows] == [12, 12, 12]
    assert all(0 <= token < model.anatomy.n_input_tokens for row in rows for token in row)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            text_of(100),
            r"text is too short .* it has 100 tokens, 4 passages of 24; needed are 6 passages, 144 tokens\.",
        ),
        ("w1 w2", r"it has 2 tokens, 0 passages of 24; needed are 6 passages"),
        ("w1 zebra " * 200, r"All 17 passages of the text hold words outside .* of 'wordy', such as 'zebra'"),
        ("no/such/corpus.txt", r"There is no task file no/such/corpus\.txt"),
        ("my corpus.txt", r"There is no task file my corpus\.txt"),
    ],
)
def test_text_that_cannot_be_used_is_refused(wordy: lt.TracedModel, text: str, message: str) -> None:
    """Too little text, unknown words and missing files are refused, with what there is and what is needed."""
    with pytest.raises(lt.TaskError, match=message):
        split_rows(wordy, lt.Window(5), text=text, sizes=SMALL)


def test_files_that_are_no_text_are_refused(wordy: lt.TracedModel, tmp_path: Path) -> None:
    """A folder, a device, bytes that are no text and a packed file that is cut are refused by name."""
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(text_of(500).encode())[:100])
    binary = tmp_path / "binary.bin"
    binary.write_bytes(b"text\0text")
    for path, message in (
        (tmp_path, "is a folder"),
        (Path("/dev/zero"), "a device. Give one file of plain text"),
        (cut, "cannot be read"),
        (binary, "a null byte"),
    ):
        with pytest.raises(lt.TaskFileError, match=message):
            split_rows(wordy, lt.Window(5), text=path, sizes=SMALL)


def test_passages_with_unknown_words_are_left_out(wordy: lt.TracedModel) -> None:
    """Of a text with one unknown word, the passage around it is left out and the word is named."""
    rows = split_rows(wordy, lt.Window(5), text=f"{text_of(30)} zebra {text_of(400, seed=1)}", sizes=SMALL)
    assert any("1 passages hold words outside the model's vocabulary, such as 'zebra'" in note for note in rows.notes)
    every = (*rows.search.text, *rows.held_out.text)
    assert not any(wordy.tokenizer.unk_token_id in row.ids for row in every)


def test_rows_within_the_window_are_refused() -> None:
    """Rows that a window leaves as they are prove nothing: their lengths are named."""
    samples = [lt.Sample(prompt_ids=range(1, 1 + n)) for n in (9, 12, 11, 10)]  # type: ignore[arg-type]
    with pytest.raises(
        lt.UsageError, match=r"Every row is too short for .* the 4 rows have 9 to 12 tokens, and at least 14"
    ):
        split_rows(tiny("qwen3"), lt.Window(10, sinks=2), text=samples, sizes=SMALL)
    rows = split_rows(tiny("qwen3"), lt.Window(8), text=samples, sizes=SMALL)
    assert "1 of 4 rows have fewer than 10 tokens" in rows.notes[-2]
    assert len(rows.search.text) + len(rows.held_out.text) == 3


def test_a_window_as_long_as_the_context_is_refused(mini: lt.TracedModel) -> None:
    """A window that sees the whole context takes nothing away from any text."""
    with pytest.raises(lt.UsageError, match=r"Nothing is lost by a window of 300 tokens .* context has 256 tokens"):
        split_rows(mini, lt.Window(300))


# ---------------------------------------------------------------- tasks


def recall_prompts(model: lt.TracedModel, rows: Rows) -> tuple[list[str], list[str]]:
    """Texts of the prompts of the search and of the judgement, answers included."""
    return tuple(  # type: ignore[return-value]
        [model.tokenizer.decode(row.ids[1:]) for row in some.tasks[0].rows] for some in (rows.search, rows.held_out)
    )


@pytest.mark.parametrize(("size", "sinks"), [(4, 0), (8, 0), (8, 6), (16, 4), (30, 0)])
def test_recall_lies_beyond_window_and_sinks(mini: lt.TracedModel, size: int, sinks: int) -> None:
    """The value that is asked for stands in the prompt beyond the window, and not among the sinks."""
    rows = split_rows(mini, lt.Window(size, sinks=sinks), with_text=False, tasks={"recall": "recall"}, sizes=SMALL)
    assert rows.search.counts == {"recall": 4}
    assert rows.held_out.counts == {"recall": 8}
    for row in (*rows.search.rows, *rows.held_out.rows):
        (read,) = row.read
        assert read == len(row.ids) - 2
        (place,) = (place for place, token in enumerate(row.ids[:-1]) if token == row.ids[-1])
        assert sinks <= place <= read - size


def test_recall_judges_on_pairs_that_no_search_saw(mini: lt.TracedModel) -> None:
    """No pair that the judgement asks for stands in a prompt of the search, as what is asked or as anything else."""
    for seed in range(4):
        rows = split_rows(mini, lt.Window(8), with_text=False, tasks={"recall": "recall"}, sizes=SMALL, seed=seed)
        searched, held = recall_prompts(mini, rows)
        for prompt in held:
            key, value = prompt.split()[-2:]
            assert not any(f"{key} {value}" in other for other in searched)
        assert set(held).isdisjoint(searched)


def test_a_task_of_pairs_shows_other_demonstrations_to_the_judgement(mini: lt.TracedModel) -> None:
    """Of a built-in task by its name no pair that the judgement shows or asks is shown or asked in the search."""
    rows = split_rows(mini, lt.Window(12), with_text=False, tasks={"antonym": "antonym"}, sizes=SMALL)
    shown = []
    for some in recall_prompts(mini, rows):
        lines = [line.split(" -> ") for prompt in some for line in prompt.replace(" \n ", "\n").split("\n")]
        shown.append({frozenset(line) for line in lines})
    assert shown[0].isdisjoint(shown[1])
    assert all(row.read[0] >= 12 for row in (*rows.search.rows, *rows.held_out.rows))


def test_prompts_that_a_window_does_not_touch_are_refused(mini: lt.TracedModel) -> None:
    """A task whose prompts lie within the window is refused with their lengths and what to do."""
    task = lt.load_task("antonym", n_shot=2, limit=12)
    message = (
        r"'antonym' proves nothing of a window of 16 tokens and the first 4: .* 12 prompts have 11 tokens; more than 20"
    )
    with pytest.raises(lt.UsageError, match=message):
        split_rows(mini, lt.Window(16, sinks=4), with_text=False, tasks={"antonym": task}, sizes=SMALL)
    near = lt.load_task("recall", n_keys=6, n_shot=0, limit=12)
    with pytest.raises(
        lt.UsageError, match=r"'recall' proves nothing .* with the answer beyond that\. Give a larger n_keys"
    ):
        split_rows(mini, lt.Window(18), with_text=False, tasks={"recall": near}, sizes=SMALL)


def test_some_prompts_may_lie_too_near(mini: lt.TracedModel) -> None:
    """Of prompts of which some are too short, those are left out and counted."""
    words = list(recall_words()[:40])
    known = [word for word in words if mini.tokenizer.convert_tokens_to_ids(word) != mini.tokenizer.unk_token_id]
    samples = [lt.Sample(prompt=" ".join(known[:n]), answer=f" {known[0]}") for n in (3, 12, 13, 14, 15, 16)]
    rows = split_rows(mini, lt.Window(6), with_text=False, tasks={"own": samples}, sizes=SMALL)
    assert "1 of 6 prompts of 'own' were left out: a window of 6 tokens sees all of them." in rows.notes
    assert (rows.search.counts, rows.held_out.counts) == ({"own": 1}, {"own": 4})


def test_same_demonstrations_are_said(mini: lt.TracedModel) -> None:
    """Where a task's prompts all begin with the same demonstrations, the notes say so."""
    task = lt.load_task("antonym", n_shot=6, limit=12)
    rows = split_rows(mini, lt.Window(6), with_text=False, tasks={"antonym": task}, sizes=SMALL)
    assert any("'antonym' begin with the same demonstrations in the search" in note for note in rows.notes)


def test_several_answers_have_a_row_each(mini: lt.TracedModel) -> None:
    """A prompt with two right answers has two rows, and counts as one prompt."""
    prompts = ["hot -> cold\nbig -> small\n" + word + " ->" for word in ("open", "wide", "early", "long", "young")]
    samples = [lt.Sample(prompt=prompt, answers=(" closed", " narrow")) for prompt in prompts]
    rows = split_rows(mini, lt.Window(3), with_text=False, tasks={"own": samples}, sizes=SMALL)
    (held,) = rows.held_out.tasks
    assert (len(held.rows), held.n_prompts, held.firsts[:2]) == (2 * held.n_prompts, held.n_prompts, (0, 2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"with_text": False}, lt.UsageError, "nothing to measure placements on. Give text, or tasks"),
        (
            {"with_text": False, "tasks": {"own": [lt.Sample(prompt="hot -> cold\nbig -> small\nlow ->")] * 4}},
            lt.AnswerError,
            "4 of 4 prompts of 'own' have no answer",
        ),
        (
            {"with_text": False, "tasks": {"own": [lt.Sample(prompt="hot cold big small low", answer=" high")] * 9}},
            lt.TaskError,
            r"'own' has too few prompts to search on some and judge on others: \d and 0 that differ",
        ),
        ({"with_text": False, "tasks": {"recal": "recal"}}, lt.UnknownNameError, "Did you mean 'recall'"),
    ],
)
def test_what_proves_nothing_is_refused(mini: lt.TracedModel, arguments: Any, error: Any, message: str) -> None:
    """Nothing to measure on, prompts without answers, copies of one prompt, and unknown tasks are refused."""
    with pytest.raises(error, match=message):
        split_rows(mini, lt.Window(3), sizes=SMALL, **arguments)
