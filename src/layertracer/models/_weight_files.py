"""Which files hold a checkpoint's weights, and whether they may be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layertracer._errors import ModelLoadError
from layertracer.models._safetensors_header import check_whole

SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"


def check_weight_files(folder: Path, raw_config: Mapping[str, Any], label: str, *, allow_pickle: bool) -> bool:
    """Whether the weights are pickled; refuses what may not or cannot be read.

    Args:
        folder: The checkpoint's folder.
        raw_config: Its config.json.
        label: What the user calls it.
        allow_pickle: Whether pickled weights may be read where there are no others.

    Raises:
        ModelLoadError: If there are no weights, some of their files are missing, cut off or pointers of Git LFS, or
            they are pickled without leave.
    """
    files = safetensors_files(folder, raw_config)
    is_pickled = not files
    if is_pickled:
        files = _pickled_files(folder)
        _refuse_without_safetensors(folder, files, label, allow_pickle=allow_pickle)
    for name in files:
        _check_file(folder / name, label)
    return is_pickled


def safetensors_files(folder: Path, raw_config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the safetensors files that hold the weights; empty where there are none."""
    named = raw_config.get("transformers_weights")
    for name in (named, SAFETENSORS, SAFETENSORS_INDEX):  # in the order in which transformers looks
        if isinstance(name, str) and (folder / name).is_file():
            return indexed_files(folder / name) if name.endswith(".json") else (name,)
    return ()


def indexed_files(index: Path) -> tuple[str, ...]:
    """Names of the files that an index distributes the weights over.

    Raises:
        ModelLoadError: If it is no index.
    """
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return tuple(sorted(set(weight_map.values())))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelLoadError(
            f"{index} is not an index of weight files ({type(error).__name__}: {error}). Copy the checkpoint again."
        ) from error


def _pickled_files(folder: Path) -> tuple[str, ...]:
    if (folder / PICKLED).is_file():
        return (PICKLED,)
    return indexed_files(folder / PICKLED_INDEX) if (folder / PICKLED_INDEX).is_file() else ()


def _refuse_without_safetensors(folder: Path, pickled: tuple[str, ...], label: str, *, allow_pickle: bool) -> None:
    if pickled and allow_pickle:
        return
    if pickled:
        raise ModelLoadError(
            f"{label} has pickled weights only ({pickled[0]}), and unpickling runs whatever code they carry. Expected "
            "safetensors. Save the model with save_pretrained, which writes safetensors, or, if you trust the file, "
            "use allow_pickle=True."
        )
    others = sorted(path.name for path in folder.glob("*") if path.suffix in {".gguf", ".safetensors", ".bin", ".pth"})
    found = f" It holds {', '.join(others[:3])}." if others else ""
    raise ModelLoadError(
        f"{label} has a config.json but no weights: expected {SAFETENSORS} or {SAFETENSORS_INDEX} in {folder}.{found} "
        "Copy the whole checkpoint."
    )


def _check_file(path: Path, label: str) -> None:
    if not path.is_file():
        raise ModelLoadError(
            f"{label} is incomplete: {path.name} is missing in {path.parent}. Copy the whole checkpoint."
        )
    with path.open("rb") as file:
        if file.read(20).startswith(b"version https://git-"):
            raise ModelLoadError(
                f"{label}: {path.name} is a pointer of Git LFS, not the weights themselves. Run `git lfs pull` in "
                f"{path.parent}."
            )
    if path.suffix == ".safetensors":
        check_whole(path, label)
