"""Vocabulary of a tokenizer, held against the one that it belongs to.

Without its file, transformers makes a tokenizer of the special tokens alone, which reads every text as nothing, or as
unknown words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layertracer._errors import ModelLoadError

_VOCABULARIES = ("tokenizer*.json", "vocab*", "*vocab*", "*.model", "*.tiktoken", "tekken.json", "*.spm", "*.bpe")
_SETTINGS = "tokenizer_config.json"


def refuse_lost_vocabulary(tokenizer: Any, folder: Path, label: str) -> None:
    """Refuse a tokenizer that was made without the files that its class reads.

    Raises:
        ModelLoadError: With the names of the files.
    """
    wanted = dict(getattr(type(tokenizer), "vocab_files_names", None) or {})
    if not wanted:  # one that needs none, such as one of bytes
        return
    found = _files_of_vocabulary(folder, wanted)
    if not found:
        raise ModelLoadError(_describe(tokenizer, label, wanted.values(), "none of them is there"))
    added = getattr(tokenizer, "added_tokens_encoder", None)
    if added is not None and len(tokenizer) <= len(added):
        raise ModelLoadError(_describe(tokenizer, label, sorted(found), "there are special tokens only"))


def _files_of_vocabulary(folder: Path, wanted: dict[str, str]) -> set[str]:
    named = {name for name in wanted.values() if (folder / name).is_file()}
    found = {path.name for pattern in _VOCABULARIES for path in folder.glob(pattern) if path.is_file()}
    return (named | found) - {_SETTINGS}


def _describe(tokenizer: Any, label: str, files: Any, what: str) -> str:
    named = " or ".join(dict.fromkeys(str(name) for name in files))
    return (
        f"The tokenizer of {label} has no vocabulary: a {type(tokenizer).__name__} reads {named}, and {what}. Prompts "
        "would be read as other tokens than the model knows. Copy the missing file into the folder, or remove "
        f"{_SETTINGS} and give a tokenizer to wrap_model."
    )
