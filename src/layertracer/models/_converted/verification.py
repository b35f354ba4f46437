"""Verification that the weights of a converted copy are those that were converted.

Kept with the copy is what the weights were in memory at conversion, so that an error of writing shows as well as one of
the disk. Held against it is what came to lie in memory, so that what was checked is what runs; where weights were
cast or offloaded, the file that they came from, after it was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from layertracer.models._converted.copies import DamagedEntryError, Entry
from layertracer.models._loading.loading_report import some_of
from layertracer.models._weights.digests import digest_all, digest_values
from layertracer.models._weights.shapes import named_weights


def describe_weights(module: nn.Module) -> dict[str, str]:
    """Type, shape and SHA-256 of every weight of a module in memory, by name."""
    weights = named_weights(module)
    digests = digest_all(weights)
    return {name: _describe(tensor, digests[name]) for name, tensor in weights.items()}


def check_written(folder: Path, weights: Mapping[str, str]) -> None:
    """Hold files that were just written against the weights in memory that they were made of.

    Weights that transformers keeps in another form (experts of which each has a file entry of its own, say) are passed
    over here; whoever loads them sees them in memory again.

    Args:
        folder: What `save_pretrained` wrote.
        weights: What `describe_weights` says of the model.

    Raises:
        OSError: If a weight in a file is not the one in memory.
    """
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                tensor = file.get_tensor(name)
                wanted = weights.get(name)
                is_same_form = wanted is not None and wanted.startswith(_form(tensor))
                if is_same_form and wanted != _describe(tensor, digest_values(tensor)):
                    raise OSError(f"{path.name} does not hold {name} as it was written")


def check_loaded(module: nn.Module, entry: Entry) -> None:
    """Hold a model that was loaded from a converted copy against what was said when the copy was made.

    Args:
        module: The model, wherever and in whatever type it was loaded.
        entry: The copy.

    Raises:
        DamagedEntryError: If a weight is another one.
    """
    weights = named_weights(module)
    if not _are_in_place(weights, entry.weights):
        entry.check_weight_files()
        return
    digests = digest_all(weights)
    wrong = [name for name, tensor in weights.items() if _describe(tensor, digests[name]) != entry.weights[name]]
    if wrong:
        raise DamagedEntryError(
            f"{len(wrong)} of {len(weights)} weights are not as they were written: {some_of(wrong)}"
        )


def _are_in_place(weights: Mapping[str, Tensor], written: Mapping[str, str]) -> bool:
    """Whether all weights lie in some memory in the form in which they were written, neither cast nor offloaded."""
    return weights.keys() == written.keys() and all(
        not tensor.is_meta and written[name].startswith(_form(tensor)) for name, tensor in weights.items()
    )


def _describe(tensor: Tensor, digest: Any) -> str:
    return f"{_form(tensor)}{digest}"


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} "
