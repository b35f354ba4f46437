"""Lenses on a disk: a safetensors file and a header with checksums, written whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from layertracer._errors import DamagedRunError, RunFormatError
from layertracer.runs import (
    LENS,
    UNUSABLE,
    Anything,
    Entries,
    Fields,
    Items,
    Text,
    Whole,
    decode_header,
    encode_header,
    expand_home,
    full_path,
    has_valid_checksum,
    read_of_folder,
    reason_of,
    require_folder,
    to_json_value,
    write_folder,
)

LENS_FILE, TENSOR_FILE = "lens.json", "lens.safetensors"
LENS_FORMAT, LENS_FORMAT_VERSION = "layertracer-lens", 1

_NO_CHECKSUM = "0" * 64
_LARGEST_HEADER_BYTES = 32 * 2**20
_SHA256 = Text(pattern=("[0-9a-f]{64}", "64 hexadecimal digits"))
_HEADER = Fields(
    required={
        "kind": Text(choices=("linear", "tuned", "jacobian")),
        "name": Text(pattern=(r"[A-Za-z_]\w{0,63}", "an identifier")),
        "n_layers": Whole(low=1, high=2**31 - 1),
        "width": Whole(low=1, high=2**31 - 1),
        "fallback": Items(Whole(low=-1, high=2**31 - 1)),
        "facts": Entries(Anything()),
        "unembedding": Entries(Anything()),
        "reports": Entries(Entries(Anything())),
        "files": Fields(
            required={TENSOR_FILE: Fields(required={"sha256": _SHA256, "n_bytes": Whole()}, closed=True)}, closed=True
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredLens:
    """A lens as it lies on a disk.

    Attributes:
        kind: "linear", "tuned" or "jacobian".
        name: What its readings are called.
        fallback: Layers at which it translates nothing.
        facts: What it was fitted on, as JSON values.
        unembedding: What tells its model's tail from others.
        reports: What it is worth, by lens.
        tensors: "weights" [layer, width, width] and "biases" [layer, width], float32.
    """

    kind: str
    name: str
    fallback: tuple[int, ...]
    facts: Mapping[str, Any]
    unembedding: Mapping[str, Any]
    reports: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, Tensor]


def write_lens(stored: StoredLens, path: Path, *, overwrite: bool) -> Path:
    """A lens as a folder, whole or not at all; the same lens gives the same bytes."""
    content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in stored.tensors.items()})
    n_layers, width = stored.tensors["biases"].shape
    head = {"format": LENS_FORMAT, "format_version": LENS_FORMAT_VERSION, "sha256": _NO_CHECKSUM}
    fields = {
        "kind": stored.kind,
        "name": stored.name,
        "n_layers": n_layers,
        "width": width,
        "fallback": stored.fallback,
        "facts": stored.facts,
        "unembedding": stored.unembedding,
        "reports": stored.reports,
        "files": {TENSOR_FILE: {"sha256": hashlib.sha256(content).hexdigest(), "n_bytes": len(content)}},
    }
    header = encode_header(head | {name: to_json_value(value) for name, value in fields.items()})
    write_folder(full_path(path), {TENSOR_FILE: content, LENS_FILE: header}, overwrite=overwrite, kind=LENS)
    return path.expanduser()


def read_lens(folder: Path) -> StoredLens:
    """A lens as it was written.

    Raises:
        RunError: If there is none, or a file may not be read.
        DamagedRunError: If a file is missing, cut short or altered, or holds what cannot be; the message names it.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    require_folder(folder, LENS)
    header = read_lens_header(folder)
    try:
        tensors = safetensors.torch.load(_read_matrices(folder, header))
        _check_tensors(tensors, header)
    except (*UNUSABLE, safetensors.SafetensorError) as error:
        raise _damaged(folder, TENSOR_FILE, reason_of(error)) from None
    return StoredLens(
        kind=header["kind"],
        name=header["name"],
        fallback=tuple(header["fallback"]),
        facts=header["facts"],
        unembedding=header["unembedding"],
        reports=header["reports"],
        tensors=tensors,
    )


def _read_matrices(folder: Path, header: Mapping[str, Any]) -> bytes:
    """The bytes of a lens's matrices, as they were written; `ValueError` where they are not."""
    entry = header["files"][TENSOR_FILE]
    content = read_of_folder(folder, TENSOR_FILE, entry["n_bytes"])
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(f"its checksum does not fit its content ({len(content)} bytes)")
    return content


def read_lens_header(folder: Path) -> dict[str, Any]:
    """What the header of a lens says; of the matrices nothing is read.

    Raises:
        RunError: If there is no lens.
        DamagedRunError: If the header is not as it was written.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    require_folder(folder, LENS)
    try:
        content = read_of_folder(folder, LENS_FILE, _LARGEST_HEADER_BYTES)
        header = decode_header(content, called=LENS_FORMAT)
    except UNUSABLE as error:
        raise _damaged(folder, LENS_FILE, reason_of(error)) from None
    if header["format_version"] > LENS_FORMAT_VERSION:
        raise RunFormatError(
            f"The lens at {folder} has format {header['format_version']}, and this version of LayerTracer reads "
            f"formats up to {LENS_FORMAT_VERSION}. Upgrade LayerTracer to read it."
        )
    if not has_valid_checksum(content):
        raise _damaged(folder, LENS_FILE, "its checksum does not fit its content")
    fault = next(iter(_HEADER.faults(header, "")), None)
    if fault is not None:
        raise _damaged(folder, LENS_FILE, fault)
    if any(layer >= header["n_layers"] - 1 for layer in header["fallback"]):
        raise _damaged(folder, LENS_FILE, f"fallback names layers that a lens of {header['n_layers']} layers lacks")
    return header


def describe_lens(path: Path) -> dict[str, Any]:
    """What a stored lens says of itself: its name and kind, what it was fitted on, its reports. No model is needed.

    Raises:
        RunError: If there is no lens.
        DamagedRunError: If the header, or the file of the matrices, is not as it was written.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    folder = expand_home(path)
    header = read_lens_header(folder)
    try:
        _read_matrices(folder, header)
    except UNUSABLE as error:
        raise _damaged(folder, TENSOR_FILE, reason_of(error)) from None
    return {name: header[name] for name in ("name", "kind", "facts", "reports", "fallback")}


def _check_tensors(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Raise `ValueError` where the matrices are not those that the header speaks of."""
    n_layers, width = header["n_layers"], header["width"]
    expected = {"weights": (n_layers, width, width), "biases": (n_layers, width)}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        raise ValueError(f"it holds {found}, and should hold {expected}")
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} is of {tensor.dtype}, and should be of torch.float32")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinity")


def _damaged(folder: Path, file: str, reason: str) -> DamagedRunError:
    return DamagedRunError(
        f"The lens at {folder} is damaged: {file} cannot be used, {reason}. A lens is read whole or not at all. "
        "Restore the folder from a copy, or fit the lens again."
    )
