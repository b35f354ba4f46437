"""Whose code raised an exception: LayerTracer's own, or what it ran."""

from __future__ import annotations

import sysconfig
import traceback
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1])
_STANDARD = (sysconfig.get_path("stdlib"), "<frozen")
_SITES = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_TOOLS = (
    "beartype", "click", "gguf", "huggingface_hub", "jaxtyping", "jinja2", "matplotlib", "numpy", "pandas", "plotly",
    "psutil", "pyarrow", "rich", "safetensors", "tokenizers", "torch", "tqdm",
)  # fmt: skip
"""Packages that do what they are asked to: what they raise is the fault of whoever called them."""

_MODULES = "torch/nn/modules/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an exception was raised.

    Attributes:
        is_ours: Whether LayerTracer's own code raised it, or called what raised it with no model in between.
        where: File and line, for people.
    """

    is_ours: bool
    where: str


def find_origin(error: BaseException) -> Origin:
    """Where an exception was raised: the innermost code that is no tool's.

    A module of PyTorch that is run is a part of the model. What passes operators on, as a watcher of them does, is no
    cause of what they raise.

    Args:
        error: An exception that was caught.
    """
    ran_module = False
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        where = f"{_shortened(frame.filename)}, line {frame.lineno}"
        if frame.filename.startswith(_PACKAGE):
            if frame.name == "__torch_dispatch__":
                continue
            return Origin(is_ours=not ran_module, where=where)
        ran_module = ran_module or _MODULES in frame.filename.replace("\\", "/")
        if not _is_tool(frame.filename):
            return Origin(is_ours=False, where=where)
    return Origin(is_ours=not ran_module, where="nowhere in Python")


def _is_tool(filename: str) -> bool:
    """Whether a file belongs to Python itself, or to a package that does what it is asked to."""
    for site in _SITES:
        if filename.startswith(site):
            return Path(filename).relative_to(site).parts[0].removesuffix(".py") in _TOOLS
    return filename.startswith(_STANDARD)


def _shortened(filename: str) -> str:
    """A path without the folder in which packages are installed, or LayerTracer lies."""
    for folder in (*_SITES, str(Path(_PACKAGE).parent)):
        if filename.startswith(folder):
            return str(Path(filename).relative_to(folder))
    return filename
