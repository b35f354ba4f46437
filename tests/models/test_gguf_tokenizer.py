"""Tokenizers of .gguf files: text is cut as the file says, or the run says that it may not be."""

from __future__ import annotations

import dataclasses
import json
import logging
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers

import layertracer as lt
from layertracer.models._gguf.pre_tokenizers import PRE_TOKENIZERS
from layertracer.models._gguf.pre_tokenizers import build as build_pre_tokenizer
from layertracer.models._sources import load_parts

from tests.support.checkpoints.gguf_files import BY_NAME, GgufArchitecture, build, write
from tests.support.tokenizers import trained_bpe

pytestmark = pytest.mark.usefixtures("cache_folder")

TEXTS = (
    "2 + 2 = 4\n\n3 + 1 =",
    "def f():\n    return 1234567",
    "It's 1.5, they'LL  see\r\n\r\n 中文 x² ½ ٣٤",
    "helloWorld HTTPServer\tn=12345; 한국어 {a: [1, 22]}  ",
)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS = pre_tokenizers.Digits(individual_digits=True)

# Words by hand, for one text each that tells the pre-tokenizer from GPT-2's.
BY_HAND: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "llama-bpe": ("It'S 12345\n\n x", ("It", "'S", " ", "123", "45", "\n\n", " x")),
    "qwen2": ("It'S 123\n\n x", ("It", "'S", " ", "1", "2", "3", "\n\n", " x")),
    "tekken": ("aB ABc 12", ("a", "B", " ABc", " ", "1", "2")),
    "gpt-4o": ("it's aB 1234", ("it's", " a", "B", " ", "123", "4")),
    "deepseek-v3": (" 1234中文a\n\n.b", (" ", "123", "4", "中文", "a", "\n\n", ".b")),
    "deepseek-coder": ("a\n\n 12.", ("a", "\n", "\n", " ", "1", "2", ".")),
    "deepseek-llm": ("a b\n12中文!", ("a", " b", "\n", "12", "中文", "!")),
    "falcon": ("a+b 1234", ("a", "+", "b", " ", "123", "4")),
    "default": ("a+b 1234", ("a", "+", "b", " ", "123", "4")),
    "viking": ("it's, 12", ("it's", ",", " ", "1", "2")),
    "bloom": ("it's, 12", ("it's", ",", " 12")),
    "superbpe": ("by the way 1234567", ("by the way ", "1", "234", "567")),
    "afmoe": ("n 12345", ("n", " ", "12", "345")),
    "kimi-k2": ("中文abc 1234", ("中文", "abc", " ", "123", "4")),
    "chameleon": ("a\tb 12.", ("a", "\t", "b", " ", "1", "2", ".")),
    "seed-coder": ("a.\n 12", ("a", ".", "\n", " ", "1", "2")),
    "bailingmoe": ("a\n\n\nb 12", ("a", "\n\n\n", "b", " ", "1", "2")),
    "exaone-moe": ("the cat 12", ("the cat", " ", "1", "2")),
    "jais-2": ("a    b", ("a", "  ", " ", " b")),
    "qwen35": ("e\u0301a 12", ("e\u0301a", " ", "1", "2")),
    "youtu": ("中文ab 12", ("中文", "ab", " ", "1", "2")),
    "tiny_aya": ("n 12345", ("n", " ", "12", "345")),
    "minicpm5": ("It'S 12345", ("It", "'S", " ", "123", "45")),
    "laguna": ("a\n\nb 12", ("a", "\n\n", "b", " ", "1", "2")),
}


@pytest.fixture(scope="module")
def merges_across() -> Tokenizer:
    """Merges of bytes that were learned over whole texts: their ids tell how a text was cut."""
    return trained_bpe(
        [*TEXTS, *(text for text, _ in BY_HAND.values())] * 3,
        n_tokens=600,
        specials=("<unk>", "<s>", "</s>"),
        split=pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    )


def parts_of(tokenizer: Tokenizer) -> tuple[list[str], list[str]]:
    """Tokens by id, and merges as files hold them."""
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [" ".join(merge) for merge in model["merges"]]


def with_named(tokenizer: Tokenizer, name: str) -> Tokenizer:
    """A copy of a tokenizer behind the pre-tokenizer of that name."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.pre_tokenizer = build_pre_tokenizer(PRE_TOKENIZERS[name])
    return copy


def write_with(
    path: Path,
    tokens: list[str],
    *,
    name: str = "llama",
    kind: str = "gpt2",
    types: Mapping[int, int] | None = None,
    **more: Any,
) -> Path:
    """A tiny model with a vocabulary.

    Args:
        path: Where to.
        tokens: The vocabulary.
        name: Which architecture.
        kind: Kind of tokenizer.
        types: Types of tokens, where they are not normal.
        more: Further fields below "tokenizer.ggml".
    """
    architecture: GgufArchitecture = BY_NAME[name]
    architecture = dataclasses.replace(architecture, settings={**architecture.settings, "vocab_size": len(tokens)})
    fields: dict[str, Any] = {"model": kind, "tokens": tokens, "token_type": [1] * len(tokens)}
    for index, value in (types or {0: 2, 1: 3, 2: 3}).items():
        fields["token_type"][index] = value
    fields |= {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    return write(path, architecture, build(architecture), vocabulary=fields | more)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        *((name, (DIGITS, GPT2)) for name in ("smollm", "starcoder")),
        *((name, (GPT2,)) for name in ("gpt-2", "exaone4")),
    ],
)
def test_cuts_as_the_named_tokenizer(tmp_path: Path, merges_across: Tokenizer, name: str, own: tuple[Any, ...]) -> None:
    """Text becomes the ids of the same merges behind the library's own pre-tokenizers, at the second load too."""
    tokens, merges = parts_of(merges_across)
    path = write_with(tmp_path / "m.gguf", tokens, merges=merges, pre=name)
    oracle = Tokenizer.from_str(merges_across.to_str())
    oracle.pre_tokenizer = pre_tokenizers.Sequence(list(own))
    for _ in range(2):
        parts = load_parts(path, device="cpu")
        assert parts.notes == ()
        for text in TEXTS:
            assert parts.tokenizer(text).input_ids == oracle.encode(text).ids, text
            assert parts.tokenizer.decode(parts.tokenizer(text).input_ids) == text


@pytest.mark.parametrize("name", BY_HAND)
def test_cuts_into_the_words_by_hand(merges_across: Tokenizer, name: str) -> None:
    """Text becomes the ids of its words one by one, which were cut by hand."""
    text, words = BY_HAND[name]
    assert "".join(words) == text
    whole = [index for word in words for index in merges_across.encode(word).ids]
    assert whole != merges_across.encode(text).ids  # there is something to get wrong
    assert with_named(merges_across, name).encode(text).ids == whole


def test_every_name_keeps_the_text(merges_across: Tokenizer) -> None:
    """No pre-tokenizer of the table loses a character, and each compiles."""
    for name in PRE_TOKENIZERS:
        tokenizer = with_named(merges_across, name)
        for text in TEXTS:
            assert tokenizer.decode(tokenizer.encode(text).ids) == text, name


@pytest.mark.parametrize("name", ["no-such-pre", "", None, "default"])
def test_says_so_where_the_cut_is_not_the_models(
    tmp_path: Path, merges_across: Tokenizer, caplog: pytest.LogCaptureFixture, name: str | None
) -> None:
    """A pre-tokenizer that is unknown, not said, or no model's own is a note of the run, at the second load too."""
    tokens, merges = parts_of(merges_across)
    named = {} if name is None else {"pre": name}
    path = write_with(tmp_path / "m.gguf", tokens, merges=merges, **named)
    for _ in range(2):
        with caplog.at_level(logging.WARNING, logger="layertracer"):
            notes = lt.load_model(path, device="cpu").self_check.notes
        assert any("texts may be cut into other tokens" in note for note in notes)
        assert caplog.text.count("texts may be cut into other tokens") == 1
        caplog.clear()


def test_whole_words_before_merges(tmp_path: Path) -> None:
    """Where the named tokenizer takes words of its vocabulary whole, merges that lead elsewhere do not matter."""
    tokens = ["<unk>", "<s>", "</s>", "h", "o", "t", "ho", "hot"]
    for name, expected in (("llama-bpe", [7]), ("dbrx", [6, 5])):
        tokenizer = load_parts(
            write_with(tmp_path / f"{name}.gguf", tokens, merges=["h o"], pre=name), device="cpu"
        ).tokenizer
        assert tokenizer("hot", add_special_tokens=False).input_ids == expected


@pytest.mark.parametrize(
    ("pre", "flags", "expected"),
    [
        ("llama-bpe", {}, [1, 3]),
        ("tekken", {}, [1, 3]),
        ("llama-bpe", {"add_bos_token": False}, [3]),
        ("smollm", {}, [3]),
        ("smollm", {"add_bos_token": True, "add_eos_token": True}, [1, 3, 2]),
    ],
)
def test_ends_of_a_prompt(tmp_path: Path, pre: str, flags: dict[str, bool], expected: list[int]) -> None:
    """The file says whether prompts begin and end with special tokens, and else its pre-tokenizer's name does."""
    tokens = ["<unk>", "<s>", "</s>", "h", "o"]
    path = write_with(tmp_path / "m.gguf", tokens, merges=[], pre=pre, **flags)
    for _ in range(2):
        assert load_parts(path, device="cpu").tokenizer("h").input_ids == expected


def test_tokens_that_stand_for_themselves(tmp_path: Path) -> None:
    """Control and user-defined tokens are one id each, in whatever letters, and none lies behind the vocabulary."""
    tokens = ["<unk>", "<s>", "<｜end▁of▁sentence｜>", "h", "o", "  ", "<think>", "Ġ"]
    path = write_with(tmp_path / "m.gguf", tokens, types={1: 3, 2: 3, 5: 4, 6: 4}, merges=[], pre="gpt-2")
    tokenizer = load_parts(path, device="cpu").tokenizer
    assert tokenizer("h<｜end▁of▁sentence｜>o<think>h  o").input_ids == [3, 2, 4, 6, 3, 5, 4]
    assert (tokenizer.eos_token_id, len(tokenizer)) == (2, len(tokens))
    assert tokenizer.decode([3, 2], skip_special_tokens=True) == "h"


SPM = ["<unk>", "<s>", "</s>", "▁", "h", "o", "t", "ho", "hot", "▁hot"]
SPM_SCORES = [0.0, 0.0, 0.0, -5.0, -6.0, -6.0, -6.0, -1.0, -2.0, -3.0]


@pytest.mark.parametrize("name", ["llama", "gemma2", "phi3"])
@pytest.mark.parametrize("flag", [None, True, False])
def test_space_in_front(tmp_path: Path, name: str, flag: bool | None) -> None:
    """A SentencePiece vocabulary puts a space in front where the file says so, and does not where it says not."""
    fields = {} if flag is None else {"add_space_prefix": flag}
    path = write_with(tmp_path / "m.gguf", SPM, name=name, kind="llama", scores=SPM_SCORES, **fields)
    first = 9 if (name != "gemma2" if flag is None else flag) else 8
    for _ in range(2):
        tokenizer = load_parts(path, device="cpu").tokenizer
        assert tokenizer("hot").input_ids == [1, first]
        assert tokenizer("hot hot", add_special_tokens=False).input_ids == [first, 9]
        assert tokenizer.decode([first, 9]) == "hot hot"


def test_unknown_characters_do_not_vanish(tmp_path: Path) -> None:
    """A character that a SentencePiece vocabulary lacks becomes the unknown token."""
    path = write_with(tmp_path / "m.gguf", SPM, kind="llama", scores=SPM_SCORES)
    assert load_parts(path, device="cpu").tokenizer("hotz").input_ids == [1, 9, 0]


def test_tokens_behind_the_vocabulary(tmp_path: Path) -> None:
    """Text never becomes an id that the model has no row for, whatever transformers' classes know by themselves."""
    tokens = ["[U]", "[B]", "[E]", *SPM[3:]]
    path = write_with(tmp_path / "m.gguf", tokens, kind="llama", scores=SPM_SCORES)
    tokenizer = load_parts(path, device="cpu").tokenizer
    assert max(tokenizer("<s>hot</s><unk>").input_ids) < len(tokens)
    assert tokenizer("[B]hot[E]", add_special_tokens=False).input_ids[-1] == 2


def test_no_merges_are_named(tmp_path: Path) -> None:
    """A vocabulary of merges without any is a note of the run."""
    path = write_with(tmp_path / "m.gguf", ["<unk>", "<s>", "</s>", "h", "o", "ho"], merges=[], pre="gpt-2")
    parts = load_parts(path, device="cpu")
    assert any("no merges" in note for note in parts.notes)
    assert parts.tokenizer("ho").input_ids == [3, 4]


def test_tokens_that_are_there_twice(tmp_path: Path) -> None:
    """Tokens of one text are a note of the run: text reaches one of them alone."""
    path = write_with(tmp_path / "m.gguf", ["<unk>", "<s>", "</s>", "h", "o", "h"], merges=[], pre="gpt-2")
    assert any("1 token(s) several times" in note for note in load_parts(path, device="cpu").notes)


@pytest.mark.parametrize(("flag", "expected"), [({}, [3, 4, 5, 2]), ({"add_eos_token": False}, [3, 4, 5])])
def test_ends_of_unigrams(tmp_path: Path, flag: dict[str, bool], expected: list[int]) -> None:
    """T5's texts end with the end-of-text token unless the file says otherwise; its unknown token is the file's."""
    architecture = BY_NAME["t5"]
    tokens = ["<unk>", "<s>", "</s>", "▁", "hot", "z"]
    fields = {"tokens": tokens, "scores": [-float(i) for i in range(6)], "token_type": [2, 3, 3, 1, 1, 1]}
    fields |= {"model": "t5", "bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    settings = {**architecture.settings, "vocab_size": len(tokens)}
    architecture = dataclasses.replace(architecture, settings=settings)
    path = write(tmp_path / "m.gguf", architecture, build(architecture), vocabulary=fields | flag)
    for _ in range(2):
        tokenizer = load_parts(path, device="cpu").tokenizer
        assert tokenizer("hotz").input_ids == expected
        assert tokenizer("hot#", add_special_tokens=False).input_ids == [3, 4, 0]


def test_normalisation_of_sentencepiece(tmp_path: Path) -> None:
    """The rules of normalisation in the file are applied: here, one by hand that turns A into h."""
    trie = [0] * 256
    trie[ord("A")] = ord("A") | 1 << 8 | 1 << 10  # labelled A, with a value, which lies one place aside
    trie[ord("A") ^ 1] = 1 << 31  # the first replacement
    charsmap = struct.pack("<I256I", 4 * len(trie), *trie) + b"h\0"
    architecture = BY_NAME["t5"]
    fields = {"precompiled_charsmap": list(charsmap)}
    path = write(tmp_path / "m.gguf", architecture, build(architecture), vocabulary=fields)
    tokenizer = load_parts(path, device="cpu").tokenizer
    assert tokenizer("hot").input_ids == tokenizer("Aot").input_ids


@pytest.mark.parametrize("kind", ["rwkv", "bert", "plamo2", "none"])
def test_kinds_that_cannot_be_built(tmp_path: Path, kind: str) -> None:
    """A file whose tokenizer cannot be built gives the model without one, and says so."""
    path = write_with(tmp_path / "m.gguf", ["<unk>", "<s>", "</s>", "h"], kind=kind)
    for _ in range(2):
        parts = load_parts(path, device="cpu")
        assert parts.tokenizer is None
        assert any(f"a tokenizer of the kind '{kind}'" in note for note in parts.notes)


def test_copies_of_older_converters_are_not_read(tmp_path: Path, cache_folder: Path) -> None:
    """A copy that an earlier version made keeps nothing: the file is converted again."""
    path = write_with(tmp_path / "m.gguf", ["<unk>", "<s>", "</s>", "h"], merges=[], pre="smollm")
    load_parts(path, device="cpu")
    (entry,) = (folder for folder in (cache_folder / "gguf").iterdir() if folder.is_dir())
    before, _, after = entry.name.partition("-converter")
    entry.rename(entry.with_name(f"{before}-converter2-{after.partition('-')[2]}"))
    load_parts(path, device="cpu")
    assert entry.is_dir()
