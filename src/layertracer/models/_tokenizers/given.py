"""Tokenizers as users hand them over, and the one that a module says it belongs to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch import nn

from layertracer._errors import UsageError, printable_cause
from layertracer.models._calling.wrappers import unwrap

_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
_NEEDED = ("__call__", "decode", "convert_ids_to_tokens")


def take_tokenizer(given: Any) -> Any:
    """A tokenizer of transformers' kind, out of one, one of the library `tokenizers`, a processor, a folder or a file.

    Args:
        given: What a user gave; None stays None.

    Raises:
        UsageError: If it is none of these, or the folder holds no tokenizer.
    """
    if given is None or _is_usable(given):
        return given
    if isinstance(given, str | os.PathLike):
        return _load(Path(os.path.expanduser(given)))
    if _is_usable(inner := getattr(given, "tokenizer", None)):  # a processor, which reads images or sound as well
        return inner
    if type(given).__module__.split(".")[0] == "tokenizers" and hasattr(given, "to_str"):
        return _wrapped(given)
    what = f"the class {given.__name__}" if isinstance(given, type) else f"of type {type(given).__name__}"
    raise UsageError(
        f"tokenizer cannot be {what}. Give a tokenizer of transformers (AutoTokenizer.from_pretrained), one of the "
        "library tokenizers, or the folder of one; or leave it out and give samples of token ids."
    )


def find_tokenizer(module: nn.Module) -> Any:
    """The tokenizer in the local folder that a module's configuration says it comes from; None where there is none."""
    config = getattr(unwrap(module), "config", None)
    name = getattr(config, "_name_or_path", None) or getattr(config, "name_or_path", None)
    if not isinstance(name, str) or not name or not any((Path(name) / file).is_file() for file in _FILES):
        return None
    try:
        return _load(Path(name))
    except UsageError:
        return None  # nobody named it: text is refused with what to give instead


def _is_usable(given: Any) -> bool:
    return not isinstance(given, type) and all(hasattr(given, name) for name in _NEEDED)


def _load(place: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        if place.is_file():
            return _make(tokenizer_file=str(place))
        if place.is_dir():
            return AutoTokenizer.from_pretrained(str(place), local_files_only=True)
    except Exception as error:  # noqa: BLE001 - files of unknown content go through code of others
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"No tokenizer can be loaded from {place} ({type(error).__name__}: {reason}). Give a folder in which "
            "save_pretrained wrote one, or a tokenizer.json."
        ) from printable_cause(error)
    raise UsageError(
        f"tokenizer={str(place)!r} is neither a folder nor a file here. For a tokenizer of the hub give "
        "AutoTokenizer.from_pretrained(name)."
    )


def _wrapped(given: Any) -> Any:
    """A tokenizer of the library `tokenizers` as transformers' kind, its unknown token with it."""
    unknown = getattr(given.model, "unk_token", None)
    return _make(tokenizer_object=given, **({"unk_token": unknown} if unknown else {}))


def _make(**arguments: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    make: Any = PreTrainedTokenizerFast  # it has no annotations
    return make(**arguments)
