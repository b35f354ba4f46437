"""Contradictions of config.json and the stored weights without an error: a tied unembedding, the number type.

A configuration that ties the unembedding to the embedding while the file holds another one would cost the model its
own; one that names a narrower number type than that of the file rounds every weight.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from layertracer._errors import ModelLoadError
from layertracer.models._plausibility.safetensors_header import read_header

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_ROWS = 4096


def describe_contradictions(module: Any, folder: Path, files: Sequence[str], label: str) -> tuple[str, ...]:
    """What to tell the user of them; nothing where there are none.

    Args:
        module: The model as it was loaded, in the checkpoint's own type or in one that was asked for.
        folder: The checkpoint.
        files: Its safetensors files.
        label: What the user calls it.

    Raises:
        ModelLoadError: If the file's own unembedding was replaced by the embedding.
    """
    config = module.config.get_text_config() if hasattr(module.config, "get_text_config") else module.config
    if not getattr(config, "tie_word_embeddings", False):
        return ()
    places = {name: folder / file for file in files for name in read_header(folder / file)}
    note = _describe_tie(module, places, label)
    return () if note is None else (note,)


def describe_rounding(module: nn.Module, folder: Path, files: Sequence[str]) -> tuple[str, ...]:
    """Likewise where a model that was loaded in the type of its configuration was rounded."""
    sizes: Counter[str] = Counter()
    for file in files:
        for entry in read_header(folder / file).values():
            sizes[entry["dtype"]] += prod(entry["shape"])
    stored = _DTYPES.get(sizes.most_common(1)[0][0]) if sizes else None
    loaded = next((part.dtype for part in module.parameters() if part.is_floating_point()), None)
    if stored is None or loaded is None or torch.promote_types(stored, loaded) == loaded:
        return ()
    names = [str(dtype).removeprefix("torch.") for dtype in (stored, loaded)]
    note = (
        f"The weights are stored in {names[0]} and config.json says {names[1]}: they were rounded to that. Use "
        "dtype='float32' (--dtype float32) to read them as they are."
    )
    return (note,)


def _describe_tie(module: Any, places: Mapping[str, Path], label: str) -> str | None:
    """Files that hold an unembedding beside the embedding to which the configuration ties it."""
    names = _stored_ends(module, places)
    if names is None or _are_equal(*((places[name], name) for name in names)):
        return None
    head, embedding = names
    if module.get_output_embeddings().weight is module.get_input_embeddings().weight:
        raise ModelLoadError(
            f"{label}: config.json ties {head} to {embedding} (tie_word_embeddings), and the file holds two different "
            "ones, of which one would be dropped. Set tie_word_embeddings to false in config.json if the model was "
            "trained so, or remove the one that it does not use."
        )
    return (
        f"config.json ties {head} to {embedding} (tie_word_embeddings), but the file holds two different ones: both "
        "are used as they stand in the file. Set tie_word_embeddings to false in config.json."
    )


def _stored_ends(module: Any, places: Mapping[str, Path]) -> tuple[str, str] | None:
    """Names under which the file holds the unembedding and the embedding; None where it does not hold both."""
    paths = {part: path for path, part in module.named_modules()}
    prefix = f"{getattr(module, 'base_model_prefix', '')}."
    found = []
    for end in (_end(module, "get_output_embeddings"), _end(module, "get_input_embeddings")):
        name = f"{paths.get(end)}.weight"
        held = [
            stored for stored in (name, name.removeprefix(prefix)) if stored in places
        ]  # base models have no prefix
        found += held[:1]
    return (found[0], found[1]) if len(found) == 2 and found[0] != found[1] else None


def _end(module: Any, getter: str) -> nn.Module | None:
    with contextlib.suppress(AttributeError, NotImplementedError, TypeError):  # of code outside transformers, perhaps
        end: nn.Module | None = getattr(module, getter)()
        return end
    return None


def _are_equal(one: tuple[Path, str], other: tuple[Path, str]) -> bool:
    """Whether two stored matrices are equal, compared in chunks of rows."""
    from safetensors import safe_open

    with safe_open(one[0], framework="pt") as first, safe_open(other[0], framework="pt") as second:
        left, right = first.get_slice(one[1]), second.get_slice(other[1])
        if left.get_shape() != right.get_shape():
            return False
        rows = left.get_shape()[0]
        return all(torch.equal(left[i : i + _ROWS], right[i : i + _ROWS]) for i in range(0, rows, _ROWS))
