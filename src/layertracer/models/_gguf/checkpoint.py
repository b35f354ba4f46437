"""Models out of .gguf files, converted once into a copy that loads fast.

transformers reads a .gguf file tensor by tensor in Python, which takes 20 s for a small model and minutes for a large
one. The first load therefore leaves a float32 copy in the format of transformers in the user's cache. Every load of the
copy holds its weights against what they were when it was made; a copy that is not so is made again.
"""

from __future__ import annotations

import copy as copying
import json
import logging
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from layertracer._errors import ModelLoadError
from layertracer.models._converted.copies import DamagedEntryError, locked, open_entry, remove_entry, write_entry
from layertracer.models._converted.file_hash import remembered_hash
from layertracer.models._converted.folder import cache_folder
from layertracer.models._converted.sweep import sweep_copies
from layertracer.models._converted.verification import check_loaded, check_written, describe_weights
from layertracer.models._gguf.model import ChangedFileError, GgufModel, read_gguf
from layertracer.models._loading.checkpoint import Checkpoint, load_checkpoint
from layertracer.models._loading.placement import Placement
from layertracer.models._loading.quiet import quiet_transformers

logger = logging.getLogger("layertracer")

_CONVERTER_VERSION = 6
"""Raise it when conversion changes: copies of an older converter are then not used any more."""

_ATTEMPTS = 3
"""A copy that others replace while it is read is tried so often, before the model comes out of its file."""

_NOTES = "layertracer_notes.json"
_MAGIC = b"GGUF"
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


def is_gguf(path: Path) -> bool:
    """Whether a regular file begins as .gguf files do, whatever it is called."""
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def load_gguf(path: Path, *, label: str, placement: Placement, dtype: torch.dtype | None) -> tuple[GgufModel, str]:
    """The model of a .gguf file with its tokenizer, and the file's SHA-256.

    The first load of a file converts it; later ones read the copy. Both give the same model to the last bit.

    Args:
        path: The file.
        label: What the user calls it.
        placement: Where the model shall be.
        dtype: Floating-point type; None for the copy's own, float32.

    Raises:
        ModelLoadError: If it is not a .gguf file, is damaged, is one of several parts, is of an architecture that
            transformers cannot read, or holds weights that would be left out.
        OutOfMemoryError: If the model does not fit.
    """
    _refuse_what_is_no_model(path, label)

    def load() -> tuple[GgufModel, str]:
        digest = remembered_hash(path)
        copy = _Copy(folder=_folder_for(digest), label=label, placement=placement, dtype=dtype)
        return _load_or_convert(path, digest, copy), digest

    try:
        model, digest = load()
    except ChangedFileError:
        # What was remembered of the file may have been wrong, or whatever wrote it may be done now.
        model, digest = load()
    for note in model.notes:
        logger.warning("%s: %s", label, note)
    return model, digest


def _load_or_convert(path: Path, digest: str, copy: _Copy) -> GgufModel:
    found = _try_to_load(copy)
    if found.model is not None:
        return found.model
    if found.reason is not None:
        logger.warning(
            "The converted copy of %s in %s cannot be used and is made again: %s", copy.label, copy.folder, found.reason
        )
    made = _convert_or_wait(path, digest, copy, unusable=found.stamp)
    model = _load_fresh(copy, written=made.stamp) if made.model is None else _place(made.model, copy)
    if model is None:
        logger.warning(
            "Something else altered the converted copy of %s that was just made: it is read out of its file.",
            copy.label,
        )
        model = _place(read_gguf(path, copy.label, digest=digest), copy)
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """Where the converted copy lies or shall lie, and how it is to be loaded."""

    folder: Path
    label: str
    placement: Placement
    dtype: torch.dtype | None

    def load(self) -> GgufModel | None:
        """The model out of the copy, every weight as it was converted; None where there is no copy.

        Raises:
            DamagedEntryError: If the copy is not as it was written.
            ModelLoadError: If it cannot be read.
        """
        entry = open_entry(self.folder)
        if entry is None:
            return None
        checkpoint = Checkpoint(folder=self.folder, label=self.label, is_converted=True)
        module, tokenizer, _ = load_checkpoint(checkpoint, placement=self.placement, dtype=self.dtype)
        check_loaded(module, entry)
        try:
            notes = json.loads((self.folder / _NOTES).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DamagedEntryError(f"{_NOTES} cannot be read ({error})") from error
        return GgufModel(module=module, tokenizer=tokenizer, notes=tuple(notes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What came of loading or making a copy.

    Attributes:
        model: The model; None where there is none yet.
        reason: What is wrong with the copy.
        stamp: Of the folder that was looked at or made.
    """

    model: GgufModel | None = None
    reason: str | None = None
    stamp: tuple[object, ...] | None = None


def _try_to_load(copy: _Copy) -> _Found:
    """Load a copy, and again where it was replaced meanwhile: what was wrong with it then is nothing to go by."""
    found = _Found()
    for _ in range(_ATTEMPTS):
        before = _state(copy.folder)
        stamp = _stamp(copy.folder)
        try:
            return _Found(model=copy.load())
        except (DamagedEntryError, ModelLoadError, OSError) as error:
            found = _Found(reason=str(error), stamp=stamp)
        if before is not None and before == _state(copy.folder):
            break
    return found


def _convert_or_wait(path: Path, digest: str, copy: _Copy, *, unusable: tuple[object, ...] | None) -> _Found:
    """Make the copy, or wait for the process that is making it; where no copy can be kept, the model itself.

    Args:
        path: The .gguf file.
        digest: Its SHA-256.
        copy: What is to be made.
        unusable: Stamp of the folder that was looked at before. Whoever waited for the lock may find another one,
            which somebody else made meanwhile and which is not to be removed.
    """
    try:
        with locked(copy.folder):
            if unusable is not None and unusable == _stamp(copy.folder):
                remove_entry(copy.folder)
            return _convert(path, digest, copy) if _stamp(copy.folder) is None else _Found()
    except OSError as error:
        _warn_of_no_copy(copy.folder, error)
        return _Found(model=read_gguf(path, copy.label, digest=digest))


def _convert(path: Path, digest: str, copy: _Copy) -> _Found:
    logger.info("Converting %s once; for a model of 135 million parameters that takes about 20 s.", copy.label)
    model = read_gguf(path, copy.label, digest=digest)
    try:
        _check_space(copy.folder.parent, model.module)
        write_entry(copy.folder, lambda folder: _save(model, folder))
        written = _state(copy.folder)
    except (OSError, SafetensorError) as error:
        _warn_of_no_copy(copy.folder, error)
        return _Found(model=model)
    sweep_copies(copy.folder)
    logger.info("Kept the converted copy of %s in %s.", copy.label, copy.folder)
    return _Found(stamp=written)


def _load_fresh(copy: _Copy, *, written: tuple[object, ...] | None) -> GgufModel | None:
    """The model out of a copy that was made a moment ago; None where somebody else altered it since.

    Args:
        copy: The copy.
        written: Its state when it was written; None where another process wrote it.
    """
    found = _try_to_load(copy)
    if found.model is None and written is not None and written == _state(copy.folder):
        raise ModelLoadError(
            f"The converted copy of {copy.label} that was just written to {copy.folder} is not what was written: "
            f"{found.reason}. The disk or the memory may be failing, or something else writes there. Choose another "
            "folder with the environment variable LAYERTRACER_CACHE."
        )
    return found.model


def _place(model: GgufModel, copy: _Copy) -> GgufModel:
    """A model that was read without a copy, where and as it is wanted."""
    if copy.placement.device_map is not None:
        raise ModelLoadError(
            f"{copy.label} cannot be spread over several devices, since no converted copy of it could be kept. Choose "
            "a folder for it with the environment variable LAYERTRACER_CACHE, or load it without a device_map."
        )
    return replace(model, module=_cast(model.module, copy.dtype).to(device=copy.placement.device))


def _cast(module: Any, dtype: torch.dtype | None) -> Any:
    """A model in another type, as if it were loaded in it.

    Whatever transformers keeps in float32 (rotary tables, some weights of some models) stays so, as in a copy.
    """
    if dtype is None or dtype == torch.float32:
        return module
    with quiet_transformers():
        cast = type(module).from_pretrained(
            None, config=copying.deepcopy(module.config), state_dict=module.state_dict(), dtype=dtype
        )
    return cast.eval().requires_grad_(False)


def _folder_for(digest: str) -> Path:
    """Where the copy lies; another transformers may convert differently, hence its major version."""
    import transformers

    major = transformers.__version__.partition(".")[0]
    return cache_folder() / "gguf" / f"{digest}-converter{_CONVERTER_VERSION}-transformers{major}"


def _stamp(folder: Path) -> tuple[int, int, int] | None:
    """What tells a folder from a later one in its place; None where there is none."""
    try:
        found = folder.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


def _state(folder: Path) -> tuple[object, ...] | None:
    """What tells a folder and its files from themselves after any change; None where there is none."""
    try:
        files = [entry.stat(follow_symlinks=False) for entry in sorted(os.scandir(folder), key=lambda one: one.name)]
    except OSError:
        return None
    return _stamp(folder), *((file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns) for file in files)


def _save(model: GgufModel, folder: Path) -> dict[str, str]:
    """Write a model's files; what is to be kept of its weights, as they are in memory."""
    module: Any = model.module
    weights = describe_weights(module)
    with quiet_transformers():
        module.save_pretrained(folder)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(folder)
    (folder / _NOTES).write_text(json.dumps(model.notes), encoding="utf-8")
    check_written(folder, weights)
    return weights


def _check_space(folder: Path, module: nn.Module) -> None:
    """Refuse early what would fill the disk to the brim and fail then."""
    needed = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    free = shutil.disk_usage(folder).free
    if free < 1.05 * needed:
        raise OSError(f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")


def _warn_of_no_copy(entry: Path, error: BaseException) -> None:
    logger.warning(
        "No converted copy can be kept in %s (%s), so that every start converts again. Choose another folder with the "
        "environment variable LAYERTRACER_CACHE.",
        entry.parent,
        error,
    )


def _refuse_what_is_no_model(path: Path, label: str) -> None:
    if not is_gguf(path):
        with path.open("rb") as file:
            start = file.read(8)
        hint = "It is a pointer of Git LFS: run `git lfs pull`." if start == b"version " else "Download the file again."
        raise ModelLoadError(f"{label} is not a .gguf file: it begins with {start!r}, expected {_MAGIC!r}. {hint}")
    part = _PART.search(path.name)
    if part is not None and int(part[1]) > 1:
        raise ModelLoadError(
            f"{label} is one of {int(part[1])} parts of a model. Join them first: llama-gguf-split --merge "
            f"{path.name} joined.gguf."
        )
