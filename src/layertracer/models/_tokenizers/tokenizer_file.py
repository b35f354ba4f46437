"""Tokenizer file: whether transformers reads text as the checkpoint's own tokenizer.json does.

For some model types AutoTokenizer takes a class that builds its tokenizer anew, whatever pre-tokenizer or normaliser
the file names. A model that was trained with the file then reads its prompts in pieces that it never saw.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FileTokenizer
else:  # under test, annotations are looked up when a function is called, and tokenizers is not imported before
    FileTokenizer = Any

_TEXT = "The capital of France is Paris.\nhot -> cold\nwide ->"
_N_WORDS = 32
_N_SHOWN = 8


def compare_with_file(tokenizer: Any, folder: Path) -> tuple[str, ...]:
    """What to tell the user where the two read a text differently; nothing where they agree or there is no file.

    Tried are an ordinary text and words out of the file's own vocabulary, without special tokens. A space in front that
    the tokenizer's configuration asks for is no difference.

    Args:
        tokenizer: What AutoTokenizer made of the folder.
        folder: The checkpoint.
    """
    path = folder / "tokenizer.json"
    if tokenizer is None or not path.is_file():
        return ()
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    if type(tokenizer) is PreTrainedTokenizerFast:  # the class without a tokenizer of its own runs the file as it is
        return ()

    own = Tokenizer.from_file(str(path))
    own.no_truncation()
    own.no_padding()
    for text in (_TEXT, _words_of(own)):
        read = list(tokenizer(text, add_special_tokens=False).input_ids)
        wanted = _ids(own, text)
        if read not in (wanted, _ids(own, f" {text}")):
            return (_describe(tokenizer, text, read, wanted),)
    return ()


def _ids(own: FileTokenizer, text: str) -> list[int]:
    # Unlike a single text's, reading of several leaves Python's lock, so that it can be given up.
    return list(own.encode_batch([text], add_special_tokens=False)[0].ids)


def _words_of(own: FileTokenizer) -> str:
    """Tokens from all over the vocabulary that are whole text by themselves, with spaces between them."""
    n_tokens = own.get_vocab_size(with_added_tokens=False)
    ids = range(0, n_tokens, max(1, n_tokens // _N_WORDS))
    words = [own.decode([token], skip_special_tokens=True).strip() for token in ids]
    return " ".join(word for word in words if word.isprintable() and "\N{REPLACEMENT CHARACTER}" not in word)


def _describe(tokenizer: Any, text: str, read: list[int], wanted: list[int]) -> str:
    pairs = enumerate(zip(read, wanted, strict=False))
    first = next((i for i, (one, other) in pairs if one != other), min(len(read), len(wanted)))
    shown = [ids[first : first + _N_SHOWN] for ids in (read, wanted)]
    return (
        f"Prompts are read by transformers' {type(tokenizer).__name__}, which splits text in another way than the "
        f"checkpoint's own tokenizer.json: {text!r} becomes {len(read)} tokens instead of {len(wanted)} (from token "
        f"{first} on, ids {shown[0]} instead of {shown[1]}). If the model was trained with that file, all numbers are "
        "wrong: load the tokenizer with PreTrainedTokenizerFast(tokenizer_file=...) and give both to wrap_model."
    )
