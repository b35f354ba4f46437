"""Tokenizer of a .gguf file: its vocabulary behind the pre-tokenizer that the file names.

transformers knows some of those names and reads the rest with GPT-2's pre-tokenizer, in silence; it passes over whether
a SentencePiece vocabulary puts a space in front. Byte-level vocabularies are therefore built here, and the others are
put right where the file says otherwise. All are handed out as they will be saved: a tokenizer file that runs as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layertracer._errors import ModelLoadError
from layertracer.models._gguf.pre_tokenizers import DEFAULT, PRE_TOKENIZERS, PreTokenizer, build
from layertracer.models._gguf.vocabulary import GgufVocabulary
from layertracer.models._tokenizers.steps import LONGEST_PIECE, is_whole_charsmap

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend
else:  # under test, annotations are looked up when a function is called, and tokenizers is not imported before
    Backend = Any

_CONTROL, _USER_DEFINED = 3, 4
_SPACE = "\u2581"
_INNER = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
"""Steps of a tokenizer file, and what a sequence of them is called within each."""

_BUILT_BY_TRANSFORMERS = ("llama", "t5", "gemma4")


def build_tokenizer(path: Path, vocabulary: GgufVocabulary) -> tuple[Any | None, tuple[str, ...]]:
    """The tokenizer of a file, None where it has none that can be built, and what a user should know of it.

    Args:
        path: The file.
        vocabulary: What it says about its tokenizer.

    Raises:
        ModelLoadError: If it holds tokens or rules that the library in Rust would end the program at.
    """
    if any(len(token) > LONGEST_PIECE for token in vocabulary.tokens):
        raise ModelLoadError(
            f"{path} holds a token of more than {LONGEST_PIECE:,} characters. Download the file again."
        )
    if vocabulary.kind == "gpt2":
        pre_tokenizer, notes = _choose_pre_tokenizer(vocabulary.pre)
        backend = _byte_level(vocabulary, pre_tokenizer)
        return _dressed(backend, vocabulary, pre_tokenizer), (*notes, *_describe_vocabulary(vocabulary))
    if vocabulary.kind in _BUILT_BY_TRANSFORMERS:
        backend = _with_what_the_file_says(_read_by_transformers(path), vocabulary)
        return _dressed(backend, vocabulary, None), _describe_vocabulary(vocabulary)
    return None, (_describe_no_tokenizer(vocabulary.kind),)


def _describe_vocabulary(vocabulary: GgufVocabulary) -> tuple[str, ...]:
    """What of a vocabulary text cannot reach."""
    notes = []
    if vocabulary.kind == "gpt2" and not vocabulary.merges:
        notes.append("The .gguf file holds no merges: texts are read letter by letter, or in whole words.")
    twice = [token for token, count in Counter(vocabulary.tokens).items() if count > 1]
    if twice:
        notes.append(
            f"The .gguf file holds {len(twice)} token(s) several times, of which text reaches one: {twice[:4]}."
        )
    return tuple(notes)


def _describe_no_tokenizer(kind: str | None) -> str:
    what = "has no tokenizer" if kind is None else f"has a tokenizer of the kind {kind!r}"
    return (
        f"The .gguf file {what} that can be built here, so that prompts can be given as token ids only. Use the "
        "original checkpoint, or give its tokenizer and the model to wrap_model."
    )


def _choose_pre_tokenizer(name: str | None) -> tuple[PreTokenizer | None, tuple[str, ...]]:
    """The pre-tokenizer of that name, GPT-2's (None) for an unknown one, and a note where it is not the model's own."""
    known = DEFAULT if name is None else PRE_TOKENIZERS.get(name)
    if known is not None and known is not DEFAULT:
        return known, ()
    if name is None:
        said = "names no pre-tokenizer"
    elif known is DEFAULT:
        said = f"names the pre-tokenizer {name!r}, which is no model's own"
    else:
        said = f"names the pre-tokenizer {name!r}, which is not known here"
    used = "GPT-2's" if known is None else "llama.cpp's default"
    note = (
        f"The .gguf file {said}; {used} is used, so that texts may be cut into other tokens than those that the model "
        "was trained on, and every number may be off. Compare tokens with the original checkpoint's, or load that."
    )
    return known, (note,)


def _byte_level(vocabulary: GgufVocabulary, pre_tokenizer: PreTokenizer | None) -> Backend:
    """Merges of bytes, and the tokens beside them that stand for themselves."""
    from tokenizers import AddedToken, Tokenizer, decoders, models

    merges = [_pair(merge) for merge in vocabulary.merges]
    backend = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(vocabulary.tokens)},
            merges=merges,
            ignore_merges=pre_tokenizer is not None and pre_tokenizer.takes_whole_words,
        )
    )
    backend.pre_tokenizer = build(pre_tokenizer)
    backend.decoder = decoders.ByteLevel()
    typed = list(zip(vocabulary.tokens, vocabulary.types, strict=False))
    backend.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, k in typed if t and k == _CONTROL])
    backend.add_tokens([AddedToken(t, normalized=False) for t, k in typed if t and k == _USER_DEFINED])
    return backend


def _pair(merge: str) -> tuple[str, str]:
    """The two halves of a merge; the first is a character at least, even where that is a space."""
    cut = merge.index(" ", 1)
    return merge[:cut], merge[cut + 1 :]


def _read_by_transformers(path: Path) -> Backend:
    import transformers

    library: Any = transformers  # its loaders come without types
    tokenizer = library.AutoTokenizer.from_pretrained(
        str(path.resolve().parent), gguf_file=path.name, local_files_only=True
    )
    backend: Backend = tokenizer.backend_tokenizer
    return backend


def _with_what_the_file_says(backend: Backend, vocabulary: GgufVocabulary) -> Backend:
    """The tokenizer with what transformers passes over: unknown token, normalisation, space in front.

    Tokens that its classes know by themselves and the file does not have would lie behind the model's vocabulary.
    """
    from tokenizers import Tokenizer, normalizers

    if vocabulary.charsmap is not None and not is_whole_charsmap(vocabulary.charsmap):
        raise ModelLoadError("Its compiled rules of normalisation are damaged. Download the .gguf file again.")
    if vocabulary.charsmap is not None and backend.normalizer is None:
        backend.normalizer = normalizers.Precompiled(vocabulary.charsmap)
    parts = json.loads(backend.to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["id"] < len(vocabulary.tokens)]
    parts["post_processor"] = None  # made anew of what the file says of both ends
    unknown = vocabulary.special.get("unk_token")
    if unknown is not None and parts["model"]["type"] == "Unigram":
        parts["model"]["unk_id"] = vocabulary.tokens.index(unknown)
    elif unknown is not None:
        parts["model"]["unk_token"] = unknown  # else characters without a token would vanish
    if vocabulary.kind == "llama" and vocabulary.add_space_prefix is not None:
        parts = _with_space_prefix(parts, is_added=vocabulary.add_space_prefix)
    return Tokenizer.from_str(json.dumps(parts))


def _with_space_prefix(parts: dict[str, Any], *, is_added: bool) -> dict[str, Any]:
    """A tokenizer file that puts a space in front of a text and takes it away when it is read back, or does neither."""
    steps = {name: _steps(parts[name], inner) for name, inner in _INNER.items()}
    adding = [step for step in steps["normalizer"] + steps["pre_tokenizer"] if _adds_space(step)]
    if is_added and not adding:
        steps["normalizer"].insert(0, {"type": "Prepend", "prepend": _SPACE})
        steps["decoder"].append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    elif not is_added:
        steps = {
            name: [_without_space(step) for step in chain if not _is_for_space(step)] for name, chain in steps.items()
        }
    chains = {name: {"type": "Sequence", _INNER[name]: chain} if chain else None for name, chain in steps.items()}
    return parts | chains


def _steps(part: dict[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    return list(part[inner]) if part["type"] == "Sequence" else [part]


def _is_for_space(step: Mapping[str, Any]) -> bool:
    return step["type"] in {"Prepend", "Strip"}


def _without_space(step: dict[str, Any]) -> dict[str, Any]:
    return {**step, "prepend_scheme": "never"} if step["type"] == "Metaspace" else step


def _adds_space(step: Mapping[str, Any]) -> bool:
    return bool(step["type"] == "Prepend" or (step["type"] == "Metaspace" and step["prepend_scheme"] != "never"))


def _dressed(backend: Backend, vocabulary: GgufVocabulary, pre_tokenizer: PreTokenizer | None) -> Any:
    """The tokenizer as transformers hands them out, of the class that runs its file as it is."""
    import transformers

    library: Any = transformers
    adds_bos, adds_eos = vocabulary.add_bos, vocabulary.add_eos
    if adds_bos is None:
        adds_bos = vocabulary.kind == "llama" or (pre_tokenizer is not None and pre_tokenizer.adds_bos)
    if vocabulary.kind == "gemma4":  # its reference tokenizer adds none, whatever the flag
        adds_bos = False
    if adds_eos is None:
        adds_eos = vocabulary.kind == "t5"
    ends = {
        "add_bos_token": adds_bos and "bos_token" in vocabulary.special,
        "add_eos_token": adds_eos and "eos_token" in vocabulary.special,
    }
    tokenizer = library.PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **vocabulary.special, **ends
    )
    if vocabulary.chat_template is not None:
        tokenizer.chat_template = vocabulary.chat_template
    return tokenizer
