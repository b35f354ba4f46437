"""Weight files of a checkpoint, and whether they may be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from layertracer._errors import ModelLoadError, printable_name
from layertracer.models._plausibility.safetensors_header import check_whole, read_header
from layertracer.models._plausibility.settings import Held
from layertracer.models._plausibility.small_files import INDEX_BYTES, check_file, read_json

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
    files = weight_files(folder, raw_config)
    is_pickled = not safetensors_files(folder, raw_config)
    if is_pickled:
        _refuse_without_safetensors(folder, files, label, allow_pickle=allow_pickle)
    for name in files:
        _check_weights(folder / name, label)
    return is_pickled


def weight_files(folder: Path, raw_config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the files that hold the weights: safetensors, else pickled ones; empty where there are none."""
    return safetensors_files(folder, raw_config) or _pickled_files(folder)


def safetensors_files(folder: Path, raw_config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the safetensors files that hold the weights; empty where there are none.

    Raises:
        ModelLoadError: If the configuration or the index names a file outside the folder, or the index is none.
    """
    named = raw_config.get("transformers_weights")
    if isinstance(named, str) and _is_outside(named):
        raise ModelLoadError(
            f"{folder / 'config.json'} names weights outside its folder ({printable_name(named)}), expected files "
            "beside it. Copy the checkpoint again."
        )
    for name in (named, SAFETENSORS, SAFETENSORS_INDEX):  # in the order in which transformers looks
        if isinstance(name, str) and (folder / name).is_file():
            return indexed_files(folder / name) if name.endswith(".json") else (name,)
    return ()


def indexed_files(index: Path) -> tuple[str, ...]:
    """Names of the files that an index distributes the weights over.

    Raises:
        ModelLoadError: If it is no index, or names a file outside its folder.
    """
    weight_map = read_json(index, str(index.parent), what="an index of weight files", at_most=INDEX_BYTES).get(
        "weight_map"
    )
    held = list(weight_map.values()) if isinstance(weight_map, dict) else [None]
    names = {name for name in held if isinstance(name, str)}
    if not all(isinstance(name, str) for name in held):
        raise ModelLoadError(
            f"{index} is not an index of weight files: its 'weight_map' must give the name of a file for every weight. "
            "Copy the checkpoint again."
        )
    outside = sorted(name for name in names if _is_outside(name))
    if outside:
        raise ModelLoadError(
            f"{index} names weights outside its folder ({printable_name(outside[0])}), expected files beside it. Copy "
            "the checkpoint again."
        )
    return tuple(sorted(names))


def _is_outside(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return not name or "\0" in name or ".." in parts or os.path.isabs(name) or ":" in parts[0]


def weigh_files(folder: Path, names: Iterable[str]) -> Held:
    """What the files of a checkpoint hold, without reading their weights."""
    paths = [folder / name for name in names]
    is_known = all(path.suffix == ".safetensors" for path in paths)
    return Held(
        n_bytes=sum(path.stat().st_size for path in paths),
        n_tensors=sum(len(read_header(path)) for path in paths) if is_known else None,
    )


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
    if os.path.lexists(folder / SAFETENSORS):
        check_file(folder / SAFETENSORS, label)
    others = sorted(path.name for path in folder.glob("*") if path.suffix in {".gguf", ".safetensors", ".bin", ".pth"})
    found = f" It holds {', '.join(map(printable_name, others[:3]))}." if others else ""
    raise ModelLoadError(
        f"{label} has a config.json but no weights: expected {SAFETENSORS} or {SAFETENSORS_INDEX} in {folder}.{found} "
        "Copy the whole checkpoint."
    )


def _check_weights(path: Path, label: str) -> None:
    if not path.exists():
        raise ModelLoadError(
            f"{label} is incomplete: {printable_name(path.name)} is missing in {path.parent}. Copy the whole "
            "checkpoint."
        )
    check_file(path, label)
    with path.open("rb") as file:
        if file.read(20).startswith(b"version https://git-"):
            raise ModelLoadError(
                f"{label}: {path.name} is a pointer of Git LFS, not the weights themselves. Run `git lfs pull` in "
                f"{path.parent}."
            )
    if path.suffix == ".safetensors":
        check_whole(path, label)
