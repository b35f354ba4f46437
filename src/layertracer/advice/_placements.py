"""A placement as a file of JSON: small, for people and for anybody's script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layertracer._errors import DamagedRunError, LayerTracerError, RunError, RunFormatError, printable_name
from layertracer._files import write_whole
from layertracer._types import FileTooLargeError, NotAFileError, read_plain_file, substitute_from_dict
from layertracer.advice._records import Placement
from layertracer.runs import Anything, Entries, Fields, Items, Nullable, Text, Whole, expand_home

PLACEMENT_FORMAT, PLACEMENT_FORMAT_VERSION = "layertracer-placement", 1

_MOST_BYTES = 2**20
_MOST_LAYERS = 2**16
_MOST_DEPTH = 16
_LAYER = Whole(low=0, high=_MOST_LAYERS)
_RULE = Fields(
    required={
        "format": Text(choices=(PLACEMENT_FORMAT,)),
        "format_version": Whole(low=1, high=2**31 - 1),
        "model": Fields(required={"name": Text(), "n_layers": Whole(low=1, high=_MOST_LAYERS)}),
        "substitute": Entries(Anything()),
        "kept": Items(_LAYER),
        "placeable": Items(_LAYER),
    },
    optional={
        "chosen_by": Text(),
        "config": Nullable(Entries(Anything())),
        "linear_config": Nullable(Entries(Anything())),
        "notes": Items(Text()),
        "cost": Nullable(Entries(Anything())),
    },
)
"""What a file must hold; what later versions of LayerTracer add beside it is left alone."""


def save_placement(placement: Placement, path: Path, *, overwrite: bool = False) -> Path:
    """Write a placement to a file of JSON, whole or not at all.

    Laws: `load_placement` gives back its layers, substitute, model and configuration.

    Args:
        placement: The placement.
        path: The file.
        overwrite: Whether a file that lies there is replaced.

    Returns:
        The file.

    Raises:
        RunError: If something lies there that may not be replaced, or the disk refuses.
    """
    path = expand_home(path)
    try:
        if path.is_dir():
            raise RunError(f"{path} is a folder, and a placement is one file. Name a file in it, e.g. {path}/p.json.")
        if not overwrite and path.exists():
            raise RunError(f"{path} exists. Give another name, or overwrite=True to replace it.")
        write_whole(path, (json.dumps(_to_tree(placement), indent=2, allow_nan=False) + "\n").encode())
    except (OSError, ValueError) as error:
        raise RunError(f"The placement cannot be written to {path} ({error}). Check the path and its rights.") from None
    return path


def _to_tree(placement: Placement) -> dict[str, Any]:
    """What the file holds."""
    tree: dict[str, Any] = {
        "format": PLACEMENT_FORMAT,
        "format_version": PLACEMENT_FORMAT_VERSION,
        "model": {"name": placement.model, "n_layers": placement.n_layers},
        "substitute": placement.substitute.to_dict(),
        "kept": list(placement.layers),
        "placeable": list(placement.placeable),
        "chosen_by": placement.chosen_by,
        "config": None if placement.config is None else dict(placement.config),
        "linear_config": None if placement.linear_config is None else dict(placement.linear_config),
        "notes": list(placement.notes),
    }
    judgement = placement.judgement
    if judgement is not None:  # for people: it is not read back, what it was measured on does not come with it
        kl = {} if math.isnan(judgement.kl_nats) else {"kl_nats": judgement.kl_nats, "nll_change": judgement.nll_change}
        tree["cost"] = kl | {"accuracy": {name: own.share for name, own in judgement.accuracy.items()}}
    return tree


def load_placement(path: Path) -> Placement:
    """A placement out of the file that `save_placement` wrote: layers, substitute, model, configuration; no judgement.

    Raises:
        RunError: If there is no such file, or it cannot be read.
        DamagedRunError: If it is no placement, or holds what cannot be; the message has the place.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    path = expand_home(path)
    tree = _read(path)
    version = tree.get("format_version") if tree.get("format") == PLACEMENT_FORMAT else None
    if isinstance(version, int) and not isinstance(version, bool) and version > PLACEMENT_FORMAT_VERSION:
        raise RunFormatError(
            f"{path} has format version {printable_name(version)}; this version of LayerTracer reads up to "
            f"{PLACEMENT_FORMAT_VERSION}. Update LayerTracer."
        )
    fault = next(iter(_RULE.faults(tree, "the placement")), None) or _why_impossible(tree)
    if fault is not None:
        raise _damaged(path, fault)
    try:
        substitute = substitute_from_dict(tree["substitute"])
    except LayerTracerError as error:
        raise _damaged(path, str(error).rstrip(".")) from None
    return Placement(
        layers=tuple(tree["kept"]),
        substitute=substitute,
        n_layers=tree["model"]["n_layers"],
        placeable=tuple(tree["placeable"]),
        model=tree["model"]["name"],
        chosen_by=tree.get("chosen_by", ""),
        config=tree.get("config"),
        linear_config=tree.get("linear_config"),
        notes=tuple(tree.get("notes", ())),
    )


def _read(path: Path) -> Mapping[str, Any]:
    """The object of a file of JSON.

    Raises:
        RunError: If it cannot be read.
        DamagedRunError: If it is none.
    """
    try:
        content = read_plain_file(path, limit=_MOST_BYTES)
    except FileNotFoundError:
        raise RunError(f"There is no placement at {path}. Give the file that Placement.save wrote.") from None
    except (FileTooLargeError, NotAFileError, OSError, ValueError) as error:
        raise RunError(f"The placement {path} cannot be read ({error}). Give the file that save wrote.") from None
    try:
        tree = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is no JSON of ours ({printable_name(error)})") from None
    if not isinstance(tree, dict):
        raise _damaged(path, "it is no object")
    if _depth(tree) > _MOST_DEPTH:
        raise _damaged(path, f"it is nested more than {_MOST_DEPTH} deep")
    return tree


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no name stands twice: which of two is meant nobody can tell."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _depth(value: object) -> int:
    """How deep lists and objects are nested; no deeper than asked for is looked."""
    level, depth = [value], 0
    while level and depth <= _MOST_DEPTH:
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        level, depth = inner, depth + 1
    return depth


def _why_impossible(tree: Mapping[str, Any]) -> str | None:
    """What no placement can be."""
    n_layers = tree["model"]["n_layers"]
    for name in ("kept", "placeable"):
        layers = tree[name]
        if layers != sorted(set(layers)):
            return f"{name} must be ascending, each layer once"
        if layers and layers[-1] >= n_layers:
            return f"{name} names layer {layers[-1]} of a model of {n_layers} layers"
    odd = sorted(set(tree["kept"]) - set(tree["placeable"]))
    return f"kept names layer {odd[0]}, which is not placeable" if odd else None


def _damaged(path: Path, fault: str) -> DamagedRunError:
    return DamagedRunError(f"{path} is no placement that can be used: {fault}. Write it again with Placement.save.")
