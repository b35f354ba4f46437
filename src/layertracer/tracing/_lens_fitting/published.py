"""Published lenses in their own formats: tuned lenses of the package tuned-lens, Jacobian lenses of jlens.

Both are pickled. They are read by PyTorch's reader of weights alone, which builds tensors and plain values and runs no
code of the file, and only where a user says so.
"""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from layertracer._errors import DamagedRunError, RunError, UsageError, printable
from layertracer._types import read_plain_file, shown
from layertracer.tracing._lenses.affine import AffineLens
from layertracer.tracing._model import TracedModel

_CONFIG, _PARAMS, _JACOBIAN = "config.json", "params.pt", "lens.pt"
_LARGEST_CONFIG_BYTES = 2**20
_UNUSABLE = (
    EOFError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RuntimeError,
    RecursionError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
"""What reading a file of weights raises where it is none, or damaged."""
_JACOBIAN_KEYS = ("J", "n_prompts", "source_layers", "d_model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published lens on a disk.

    Attributes:
        format: Whose format it has.
        weights: The pickled file.
        config: The settings beside it; None where there are none.
    """

    format: Literal["tuned-lens", "jlens"]
    weights: Path
    config: Path | None = None


def find_published(path: Path) -> Published | None:
    """What published lens lies at a path; None where there is none."""
    if path.is_file():
        if path.name == _PARAMS and (path.parent / _CONFIG).is_file():
            return Published(format="tuned-lens", weights=path, config=path.parent / _CONFIG)
        return Published(format="jlens", weights=path) if path.suffix in {".pt", ".pth", ".bin"} else None
    if (path / _CONFIG).is_file() and (path / _PARAMS).is_file():
        return Published(format="tuned-lens", weights=path / _PARAMS, config=path / _CONFIG)
    return Published(format="jlens", weights=path / _JACOBIAN) if (path / _JACOBIAN).is_file() else None


def read_published(published: Published, model: TracedModel, *, allow_pickle: bool) -> AffineLens:
    """A published lens for a model.

    What tells its unembedding cannot be compared exactly: a tuned lens has a digest of its own making, a Jacobian lens
    none. Width and number of layers are compared; measure what it is worth with `measure_lens_quality`.

    Raises:
        RunError: If it is pickled and that was not allowed, or may not be read.
        DamagedRunError: If it is not what it says.
        UsageError: If it is for a model of another width or number of layers.
    """
    if not allow_pickle:
        raise RunError(
            f"The lens at {published.weights} is pickled. LayerTracer unpickles nothing unless it is asked to: "
            "load_lens(path, model, allow_pickle=True) takes tensors and plain values out of it and runs no code "
            "(command line: --allow-pickle)."
        )
    content = _unpickled(published.weights)
    if published.format == "jlens":
        return _jacobian_lens(content, published, model)
    return _tuned_lens(content, published, model)


def _unpickled(path: Path) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PyTorch thinks of pickles of others
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNUSABLE as error:
        raise _foreign(path, printable(str(error)).partition("\n")[0][:200]) from None
    if not isinstance(content, Mapping):
        raise _foreign(path, f"it holds {shown(type(content).__name__)} and no names")
    return content


def _tuned_lens(content: Mapping[str, Any], published: Published, model: TracedModel) -> AffineLens:
    """Translators x + W x + b, "0.weight" for the embeddings, "i.weight" for what leaves layer i − 1.

    Source:
        The package tuned-lens (AlignmentResearch): `TunedLens.save`, `TunedLens.transform_hidden`.
    """
    config = _read_config(published)
    n_layers, width = model.anatomy.n_layers, model.anatomy.d_model
    _refuse_other_shape(published, model, layers=config.get("num_hidden_layers"), width=config.get("d_model"))
    expected = {f"{row}.weight" for row in range(n_layers)}
    biases = {f"{row}.bias" for row in range(n_layers)}
    if set(content) not in (expected, expected | biases):
        raise _foreign(
            published.weights,
            f"it should hold {n_layers} translators (0.weight, 0.bias, …) and holds {_few(content)}",
        )
    weights = [_matrix(content[f"{row}.weight"], published, (width, width)).T for row in range(n_layers)]
    zero = torch.zeros(width)
    added = [_matrix(content.get(f"{row}.bias", zero), published, (width,)) for row in range(n_layers)]
    keys = ("base_model_name_or_path", "base_model_revision", "unembed_hash", "lens_type")
    facts = {key: config[key] for key in keys if isinstance(config.get(key), str)}
    return AffineLens(
        kind="tuned",
        weights=torch.stack(weights),
        biases=torch.stack(added),
        facts={**facts, "format": "tuned-lens", "file": published.weights.name},
    )


def _jacobian_lens(content: Mapping[str, Any], published: Published, model: TracedModel) -> AffineLens:
    """Matrices J[l] of the layers in `source_layers`, a row h read as J h; elsewhere nothing is translated.

    Source:
        The package jlens (Anthropic): `JacobianLens.save`, `JacobianLens.transport`.
    """
    missing = [key for key in _JACOBIAN_KEYS if key not in content]
    if missing:
        raise _foreign(published.weights, f"it has no {missing[0]!r} and holds {_few(content)}")
    n_layers, width = model.anatomy.n_layers, model.anatomy.d_model
    matrices, layers = content["J"], content["source_layers"]
    if not isinstance(matrices, Mapping) or not matrices or not all(type(layer) is int for layer in matrices):
        raise _foreign(published.weights, "its J is no dictionary of matrices by layer")
    if not isinstance(layers, list | tuple) or sorted(matrices) != sorted(layers):
        raise _foreign(published.weights, "its source_layers are not the layers of its J")
    _refuse_other_shape(published, model, layers=None, width=content["d_model"])
    if not 0 <= min(matrices) <= max(matrices) < n_layers - 1:
        raise UsageError(
            f"The lens at {published.weights} is for layers {min(matrices)} to {max(matrices)}, and of {model.name!r} "
            f"layers 0 to {n_layers - 2} can be translated. Load the model that it was fitted on."
        )
    weights = torch.zeros(n_layers, width, width)
    for layer, matrix in matrices.items():
        weights[1 + layer] = _matrix(matrix, published, (width, width)).T
    n_prompts = content["n_prompts"]
    facts = {"n_prompts": n_prompts} if type(n_prompts) is int else {}
    return AffineLens(
        kind="jacobian",
        weights=weights,
        biases=torch.zeros(n_layers, width),
        fallback=tuple(layer for layer in range(-1, n_layers - 1) if layer not in matrices),
        facts={**facts, "format": "jlens", "file": published.weights.name},
    )


def _read_config(published: Published) -> Mapping[str, Any]:
    assert published.config is not None  # as tuned lenses are found
    try:
        config = json.loads(read_plain_file(published.config, limit=_LARGEST_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise _foreign(published.config, printable(str(error))[:200]) from None
    if not isinstance(config, Mapping):
        raise _foreign(published.config, "it is no object of JSON")
    if config.get("lens_type", "linear_tuned_lens") != "linear_tuned_lens":
        raise _foreign(published.config, f"its lens_type is {shown(config['lens_type'])}, and not 'linear_tuned_lens'")
    return config


def _refuse_other_shape(published: Published, model: TracedModel, *, layers: Any, width: Any) -> None:
    own_layers, own_width = model.anatomy.n_layers, model.anatomy.d_model
    if width != own_width or (layers is not None and layers != own_layers):
        said = f"width {shown(width)}" if layers is None else f"{shown(layers)} layers and width {shown(width)}"
        raise UsageError(
            f"The lens at {published.weights} is for a model of {said}, and {model.name!r} has {own_layers} layers and "
            f"width {own_width}. Load the model that it was fitted on."
        )


def _matrix(value: Any, published: Published, shape: tuple[int, ...]) -> Tensor:
    """Numbers of a shape in float32."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or tuple(value.shape) != shape:
        got = f"{value.dtype} of shape {list(value.shape)}" if isinstance(value, Tensor) else shown(value)
        raise _foreign(published.weights, f"it holds {got} where numbers of shape {list(shape)} should be")
    numbers = value.to_dense().float() if value.layout != torch.strided else value.float()
    if not bool(numbers.isfinite().all()):
        raise _foreign(published.weights, "it holds NaN or infinity")
    return numbers


def _few(content: Mapping[str, Any]) -> str:
    names = sorted(map(str, content))
    return printable(", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")) or "nothing"


def _foreign(path: Path, reason: str) -> DamagedRunError:
    return DamagedRunError(
        f"{path} cannot be used as a lens: {reason}. Give a lens that layertracer saved, a folder of tuned-lens "
        f"({_CONFIG}, {_PARAMS}), or a file of jlens ({', '.join(_JACOBIAN_KEYS)})."
    )
