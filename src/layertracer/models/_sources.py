"""Sources of models: an embedded name, the hub, a folder or a .gguf file."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import nn

from layertracer._errors import ModelLoadError, UsageError, printable_name
from layertracer.models._loading.embedded import embedded_name, find_embedded
from layertracer.models._loading.paths import models_beside, why_no_path
from layertracer.models._loading.placement import DeviceMap, Placement, resolve_dtype, resolve_placement
from layertracer.models._plausibility.small_files import check_file
from layertracer.models._weights.offload import is_placed
from layertracer.tasks import within

if TYPE_CHECKING:
    from layertracer.models._loading.checkpoint import Checkpoint
else:  # under test, annotations are looked up when a function is called
    Checkpoint = Any

logger = logging.getLogger("layertracer")

_COMPARING_S = 60.0
"""Both tokenizers read two short texts in that time."""

Source = Literal["embedded", "hub", "folder", "gguf"]
"""What kind of place a model came from."""

Tokenizer: TypeAlias = Any
"""A `transformers.PreTrainedTokenizerBase`. Naming it here would import transformers with this module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedParts:
    """What a place yields.

    Attributes:
        module: The model, in evaluation mode, on its device, without gradients.
        tokenizer: Its tokenizer; None where the place has none.
        name: What users would call it: "smollm2", "Qwen/Qwen3-0.6B", the folder's or the file's name.
        revision: Commit of the hub, SHA-256 of the .gguf file, or None.
        source: "embedded", "hub", "folder" or "gguf".
        notes: What a user should know of it.
    """

    module: nn.Module
    tokenizer: Tokenizer | None
    name: str
    revision: str | None
    source: Source
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    placement: Placement
    dtype: torch.dtype | None
    revision: str | None
    trust_remote_code: bool
    allow_pickle: bool
    adapter: str | None = None
    """What the user calls the adapter whose model this is."""


def load_parts(  # noqa: PLR0913 - what users call takes its settings by name
    name_or_path: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    device_map: DeviceMap | None = None,
    offload_folder: str | os.PathLike[str] | None = None,
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> LoadedParts:
    """A model and its tokenizer, by name or path.

    A name is looked up in this order: embedded model, local file, local folder, hub. A folder that is called like an
    embedded model is reached as "./smollm2".

    Args:
        name_or_path: "smollm2" or "default", a hub id, a folder with a config.json or with an adapter, or a .gguf file.
        device: "auto", "cpu", "cuda", "cuda:1", "mps", "xpu", or a `torch.device`.
        device_map: How it is spread over several devices and the disk, see `resolve_placement`.
        offload_folder: Folder for what is offloaded to disk and cannot be read from the checkpoint.
        dtype: "auto" (float32 on the CPU, the checkpoint's own elsewhere), "float32", "bfloat16", "float16".
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether code in the checkpoint may run on this machine.
        allow_pickle: Whether pickled weights may be read where there are no others.

    Raises:
        UnknownNameError: If there is no such model; the message carries near matches.
        ModelLoadError: If files are missing, damaged or refused, or there is no network and no local copy.
        RemoteCodeError: If the checkpoint needs code of its own and may not run it.
        UsageError: If the device or the type does not exist, or a revision is given for a local model.
        OutOfMemoryError: If the model does not fit on the device.
    """
    placement = resolve_placement(device, device_map=device_map, offload_folder=offload_folder)
    request = _Request(
        placement=placement,
        dtype=resolve_dtype(dtype, placement.device),
        revision=revision,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    return _load(name_or_path, request)


def _load(name_or_path: str | os.PathLike[str], request: _Request) -> LoadedParts:
    name = os.fspath(name_or_path)
    embedded = embedded_name(name) if isinstance(name_or_path, str) else None
    path = Path(os.path.expanduser(name))
    is_local = (
        embedded is not None or os.path.exists(path) or not isinstance(name_or_path, str) or _looks_like_a_path(name)
    )
    if is_local and request.revision is not None:
        raise UsageError(
            f"revision={request.revision!r} was given for {name!r}, which is not on the hub. Leave it out, or give a "
            "hub id."
        )
    if embedded is not None:
        return _load_embedded(embedded, request)
    if name and os.path.isdir(path):  # unlike path.is_dir(), no error for a name that is too long for a file
        return _load_folder(path, request)
    if name and os.path.exists(path):
        return _load_file(path, request)
    if is_local:
        raise _no_such_path(name, path)
    return _load_from_hub(name, request)


def _load_embedded(name: str, request: _Request) -> LoadedParts:
    """A model that comes with a package: one file, or a checkpoint's folder."""
    place = find_embedded(name)
    if place.is_file():
        return _load_gguf(place, request, name=name, source="embedded")
    return replace(_load_folder(place, request), name=name, source="embedded")


def _looks_like_a_path(name: str) -> bool:
    """Whether a name can only be meant as a path: the hub knows none like it."""
    from layertracer.models._loading.hub import is_hub_id

    return name.endswith((".gguf", ".safetensors", os.sep)) or not is_hub_id(name)


def _load_gguf(path: Path, request: _Request, *, name: str, source: Source) -> LoadedParts:
    from layertracer.models._gguf.checkpoint import load_gguf

    label = name if source == "embedded" else str(path)
    model, digest = load_gguf(path, label=label, placement=request.placement, dtype=request.dtype)
    return LoadedParts(
        module=model.module,
        tokenizer=model.tokenizer,
        name=name,
        revision=digest,
        source=source,
        notes=model.notes,
    )


def _load_file(path: Path, request: _Request) -> LoadedParts:
    from layertracer.models._gguf.checkpoint import is_gguf

    check_file(path, str(path))
    if path.suffix == ".gguf" or is_gguf(path):
        return _load_gguf(path, request, name=path.stem, source="gguf")
    raise ModelLoadError(
        f"{path} is not a model: a single file must be a .gguf file. For {path.suffix or 'other'} files give the "
        "folder that holds them together with config.json."
    )


def _load_folder(path: Path, request: _Request) -> LoadedParts:
    from layertracer.models._loading.adapters import is_adapter
    from layertracer.models._loading.checkpoint import Checkpoint

    if is_adapter(path):
        return _load_adapter(path.resolve(), request, label=str(path), name=path.resolve().name, source="folder")
    if not (path / "config.json").is_file():
        if os.path.lexists(path / "config.json"):
            check_file(path / "config.json", str(path))
        raise ModelLoadError(_why_no_checkpoint(path))
    checkpoint = Checkpoint(
        folder=path.resolve(),
        label=str(path),
        trust_remote_code=request.trust_remote_code,
        allow_pickle=request.allow_pickle,
    )
    return _load_checkpoint(checkpoint, request, name=path.resolve().name, source="folder")


def _load_from_hub(hub_id: str, request: _Request) -> LoadedParts:
    from layertracer.models._loading.adapters import is_adapter
    from layertracer.models._loading.hub import fetch_checkpoint

    checkpoint = fetch_checkpoint(
        hub_id,
        revision=request.revision,
        trust_remote_code=request.trust_remote_code,
        allow_pickle=request.allow_pickle,
    )
    if is_adapter(checkpoint.folder):
        parts = _load_adapter(checkpoint.folder, request, label=hub_id, name=hub_id, source="hub")
        return replace(parts, revision=checkpoint.commit)
    return replace(_load_checkpoint(checkpoint, request, name=hub_id, source="hub"), revision=checkpoint.commit)


def _load_checkpoint(checkpoint: Checkpoint, request: _Request, *, name: str, source: Source) -> LoadedParts:
    from layertracer.models._loading.checkpoint import load_checkpoint

    module, tokenizer, notes = load_checkpoint(checkpoint, placement=request.placement, dtype=request.dtype)
    for note in notes:
        logger.warning("%s: %s", checkpoint.label, note)
    notes += _check_tokenizer(tokenizer, checkpoint)
    return LoadedParts(module=module, tokenizer=tokenizer, name=name, revision=None, source=source, notes=notes)


def _check_tokenizer(tokenizer: Tokenizer | None, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Notes, logged too, where the tokenizer is not what the checkpoint's file says."""
    from layertracer.models._loading.loading_report import explained_failures
    from layertracer.models._tokenizers.tokenizer_file import compare_with_file

    with explained_failures(f"The tokenizer of {checkpoint.label}", "cpu"):
        notes = within(_COMPARING_S, lambda: compare_with_file(tokenizer, checkpoint.folder))
    for note in notes:
        logger.warning("%s: %s", checkpoint.label, note)
    return notes


def _load_adapter(folder: Path, request: _Request, *, label: str, name: str, source: Source) -> LoadedParts:
    """The model that an adapter names, with the adapter on it."""
    from layertracer.models._loading.adapters import put_on, read_adapter
    from layertracer.models._loading.checkpoint import Checkpoint, load_tokenizer

    if request.adapter is not None:
        raise ModelLoadError(
            f"{request.adapter} is an adapter on {label}, which is an adapter itself. Merge {label} into its model "
            f"(merge_and_unload), save that, and enter its folder in the adapter_config.json of {request.adapter}."
        )
    adapter = read_adapter(folder, label=label, allow_pickle=request.allow_pickle)
    logger.info("%s is an adapter on %s.", label, adapter.base)
    base = _load(adapter.base, replace(request, revision=adapter.base_revision, adapter=label))
    if is_placed(base.module):
        raise ModelLoadError(
            f"{label} is an adapter on {adapter.base}, which the device_map spreads over several places; peft would "
            "place it anew. Merge the adapter into its model (merge_and_unload), save that, and load it with the map."
        )
    module, notes = put_on(base.module, adapter, device=request.placement.device)
    checkpoint = Checkpoint(folder=folder, label=label, trust_remote_code=request.trust_remote_code)
    own = load_tokenizer(checkpoint)
    notes = (*base.notes, *notes, *_check_tokenizer(own, checkpoint))
    parts = replace(base, module=module, name=name, source=source, notes=tuple(dict.fromkeys(notes)))
    return parts if own is None else replace(parts, tokenizer=own)


def _why_no_checkpoint(folder: Path) -> str:
    """What a folder without config.json lacks, and what in it might be meant."""
    names = sorted(entry.name for entry in folder.iterdir())
    ggufs = [name for name in names if name.endswith(".gguf")]
    if ggufs:
        hint = f"For a .gguf file give its own path: {folder / ggufs[0]}."
    elif inside := models_beside(folder / "any"):
        hint = f"Give the folder inside it: {inside[-1]}."
    elif "snapshots" in names:
        hint = "It is a repository in the hub's cache: give the hub id instead."
    else:
        hint = "Give the folder that save_pretrained wrote."
    found = (
        f"it holds {', '.join(map(printable_name, names[:4]))}{' …' if len(names) > 4 else ''}"
        if names
        else "it is empty"
    )
    return f"{folder} is not a checkpoint: there is no config.json, {found}. {hint}"


def _no_such_path(name: str, path: Path) -> Exception:
    from layertracer.models._loading.hub import unknown_model

    return unknown_model(str(path) if name else "", why_no_path(name, path), nearby=models_beside(path))
