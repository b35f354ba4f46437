"""Models out of .gguf files, converted once into a copy that loads fast.

transformers reads a .gguf file tensor by tensor in Python, which takes 20 s for a small model and minutes for a large
one. The first load therefore leaves a float32 copy in the format of transformers in the user's cache.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from layertracer._errors import ModelLoadError
from layertracer.models._cache import cache_folder, find_entry, locked, remembered_hash, remove_entry, write_entry
from layertracer.models._checkpoint import Checkpoint, load_checkpoint
from layertracer.models._gguf_header import check_header
from layertracer.models._gguf_settings import correct, read_facts, read_scalars
from layertracer.models._gguf_tensors import check_tensors, fill_absent_biases, refuse_unused
from layertracer.models._gguf_tokenizer import build_tokenizer
from layertracer.models._gguf_vocabulary import read_vocabulary
from layertracer.models._loading_report import check_loading_report, explained_failures
from layertracer.models._placement import Placement
from layertracer.models._plausibility import refuse_countless_parts
from layertracer.models._quiet import quiet_gguf_reader, quiet_transformers

logger = logging.getLogger("layertracer")

_CONVERTER_VERSION = 4
"""Raise it when conversion changes: copies of an older converter are then not used any more."""

_NOTES = "layertracer_notes.json"
_MAGIC = b"GGUF"
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufModel:
    """What a .gguf file yields.

    Attributes:
        module: The model, in evaluation mode, without gradients.
        tokenizer: Its tokenizer; None where the file has none that can be built.
        notes: What a user should know of it; the same whether it came from the file or from its copy.
    """

    module: nn.Module
    tokenizer: Any | None
    notes: tuple[str, ...]


def is_gguf(path: Path) -> bool:
    """Whether a file begins as .gguf files do, whatever it is called."""
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
    digest = remembered_hash(path)
    entry = _entry_for(digest)
    if find_entry(entry):
        try:
            return _said(_load_copy(entry, label, placement=placement, dtype=dtype), label), digest
        except ModelLoadError as error:
            logger.warning("The converted copy of %s in %s cannot be read and is made again: %s", label, entry, error)
            remove_entry(entry)
    model = _convert_or_wait(path, entry, label)
    if model is None:
        return _said(_load_copy(entry, label, placement=placement, dtype=dtype), label), digest
    if placement.device_map is not None:
        raise ModelLoadError(
            f"{label} cannot be spread over several devices, since no converted copy of it could be kept. Choose a "
            "folder for it with the environment variable LAYERTRACER_CACHE, or load it without a device_map."
        )
    module = model.module.to(device=placement.device, dtype=dtype or torch.float32)
    return _said(replace(model, module=module), label), digest


def _said(model: GgufModel, label: str) -> GgufModel:
    """The model, after its notes were logged."""
    for note in model.notes:
        logger.warning("%s: %s", label, note)
    return model


def _convert_or_wait(path: Path, entry: Path, label: str) -> GgufModel | None:
    """Make the copy, or wait for the process that is making it; where no copy can be kept, the model itself."""
    try:
        with locked(entry):
            if not find_entry(entry):
                return _convert(path, entry, label)
    except OSError as error:
        _warn_of_no_copy(entry, error)
        return _read(path, label)
    return None


def _convert(path: Path, entry: Path, label: str) -> GgufModel | None:
    logger.info("Converting %s once; for a model of 135 million parameters that takes about 20 s.", label)
    model = _read(path, label)
    try:
        _check_space(entry.parent, model.module)
        write_entry(entry, lambda folder: _save(model, folder))
    except (OSError, SafetensorError) as error:
        _warn_of_no_copy(entry, error)
        return model
    logger.info("Kept the converted copy of %s in %s.", label, entry)
    return None


def _entry_for(digest: str) -> Path:
    """Where the copy lies; another transformers may convert differently, hence its major version."""
    import transformers

    major = transformers.__version__.partition(".")[0]
    return cache_folder() / "gguf" / f"{digest}-converter{_CONVERTER_VERSION}-transformers{major}"


def _load_copy(entry: Path, label: str, *, placement: Placement, dtype: torch.dtype | None) -> GgufModel:
    checkpoint = Checkpoint(folder=entry, label=label, is_converted=True)
    module, tokenizer, _ = load_checkpoint(checkpoint, placement=placement, dtype=dtype)
    notes = json.loads((entry / _NOTES).read_text(encoding="utf-8"))
    return GgufModel(module=module, tokenizer=tokenizer, notes=tuple(notes))


def _read(path: Path, label: str) -> GgufModel:
    """The model in float32 on the CPU and its tokenizer, straight out of the file."""
    import gguf
    import transformers

    library: Any = transformers  # its loaders come without types
    source: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    weights = dict(source)
    if hasattr(library, "GgufConfig"):  # from 5.20 on, which otherwise keeps some architectures in 4-bit blocks
        weights["quantization_config"] = library.GgufConfig(dequantize=True)
    folder = str(path.resolve().parent)
    check_header(path, label)
    with explained_failures(label, "cpu"), quiet_transformers(), quiet_gguf_reader():
        reader = gguf.GGUFReader(path)
        scalars = read_scalars(reader)
        facts = read_facts(reader, scalars)
        tokenizer, notes = build_tokenizer(path, read_vocabulary(reader, scalars))
        refuse_countless_parts(facts.settings, facts.held, label)
        config = library.AutoConfig.from_pretrained(folder, **source)
        unread = correct(config, facts)
        auto_class = library.AutoModelForSeq2SeqLM if config.is_encoder_decoder else library.AutoModelForCausalLM
        with torch.device("meta"):  # no weights yet
            check_tensors(auto_class.from_config(config), facts, label)
        module, report = auto_class.from_pretrained(
            folder, **weights, config=config, dtype=torch.float32, output_loading_info=True
        )
        refuse_unused(module, report.get("unexpected_keys") or (), facts, label)
        check_loading_report(module, fill_absent_biases(module, report), label)
    _forget_origin(module)
    if unread:
        notes = (*notes, _describe_unread(unread))
    return GgufModel(module=module.eval().requires_grad_(False), tokenizer=tokenizer, notes=notes)


def _describe_unread(settings: tuple[str, ...]) -> str:
    return (
        f"The .gguf file holds settings that transformers has no place for ({', '.join(settings)}): its numbers are "
        "not quite those of the original model. Prefer its checkpoint in safetensors."
    )


def _forget_origin(module: Any) -> None:
    """Make the model an ordinary one: transformers refuses to save what it takes for quantised."""
    module.hf_quantizer = None
    if getattr(module.config, "quantization_config", None) is not None:
        del module.config.quantization_config


def _save(model: GgufModel, folder: Path) -> None:
    module: Any = model.module
    with quiet_transformers():
        module.save_pretrained(folder)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(folder)
    (folder / _NOTES).write_text(json.dumps(model.notes), encoding="utf-8")


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
