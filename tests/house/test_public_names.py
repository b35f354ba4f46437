"""The names of the package `layertracer`."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import layertracer
from layertracer import _errors

ROOT = Path(__file__).parents[2]

LARGE_LIBRARIES = "torch.*,transformers.*,pandas.*,pyarrow.*,matplotlib.*,numpy.*,jaxtyping.*,rich.*,jinja2.*"

# Names that other people's code calls.
PROMISED = {
    "AbsRatio",
    "ChangePoint",
    "Comparison",
    "ComparisonSettings",
    "FirstTop1",
    "HalfMax",
    "Mask",
    "Noise",
    "Ratio",
    "Readout",
    "Rise",
    "Sample",
    "Skip",
    "Task",
    "Trace",
    "TracedModel",
    "compare",
    "js_divergence",
    "list_tasks",
    "load_model",
    "load_run",
    "load_task",
    "read_layers",
    "trace",
    "wrap_model",
}


def test_the_installed_package_is_tested() -> None:
    """Tests see the installed wheel, not the source folder."""
    assert "site-packages" in Path(layertracer.__file__).parts


def test_all_equals_the_visible_names() -> None:
    """`dir(layertracer)` lists `__all__`, sorted and without repetition, and nothing else."""
    assert dir(layertracer) == layertracer.__all__ == sorted(set(layertracer.__all__))


def test_promised_names_are_public() -> None:
    """Every promised name is in `__all__`."""
    assert set(layertracer.__all__) >= PROMISED


def test_every_error_is_public() -> None:
    """Every class of `_errors` is a public name."""
    found = inspect.getmembers(_errors, inspect.isclass)
    classes = {name for name, value in found if value.__module__ == _errors.__name__}
    assert classes == {name for name in layertracer.__all__ if name.endswith("Error")}


@pytest.mark.parametrize("name", layertracer.__all__)
def test_every_public_name_resolves(name: str) -> None:
    """Each public name resolves, to the same object each time."""
    assert getattr(layertracer, name) is getattr(layertracer, name)


def test_unknown_name_is_refused() -> None:
    """A name that is not public raises AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="module 'layertracer' has no attribute 'load_modle'"):
        layertracer.load_modle  # noqa: B018  the access itself is what raises


def test_star_import_brings_the_public_names() -> None:
    """`from layertracer import *` brings every public name."""
    namespace: dict[str, object] = {}
    exec("from layertracer import *", namespace)  # noqa: S102  a star import is possible at module level only
    assert set(layertracer.__all__) <= set(namespace)


def test_version_is_that_of_the_project() -> None:
    """`__version__` is the version in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert layertracer.__version__ == project["version"]


@pytest.mark.parametrize(
    "package", ["advice", "api", "cli", "comparisons", "measures", "models", "reports", "runs", "tasks", "tracing"]
)
def test_packages_say_what_they_export(package: str) -> None:
    """Each package has an `__all__` whose names all resolve, and a docstring."""
    module = importlib.import_module(f"layertracer.{package}")
    assert module.__doc__
    assert module.__all__
    assert all(hasattr(module, name) for name in module.__all__)


def test_type_checker_sees_the_public_names(tmp_path: Path) -> None:
    """A strict type checker knows the public names of the installed package, and finds a wrong type."""
    names = [name for name in layertracer.__all__ if name != "__version__"]
    usage, settings = tmp_path / "usage.py", tmp_path / "mypy.ini"
    usage.write_text(
        f"from layertracer import {', '.join(names)}, __version__\n"
        'version: str = __version__\nmask: Mask = Mask(fraction=0.5)\nwrong: int = Sample(prompt="a")\n',
        "utf-8",
    )
    # What LayerTracer builds on takes a minute to analyse and says nothing about its names.
    settings.write_text(f"[mypy]\nstrict = true\n[mypy-{LARGE_LIBRARIES}]\nfollow_imports = skip\n", "utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        f"--config-file={settings}",
        f"--cache-dir={tmp_path / 'cache'}",
        str(usage),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    errors = [line for line in done.stdout.splitlines() if line.startswith("usage.py") and ": error:" in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert 'usage.py:4: error: Incompatible types in assignment (expression has type "Sample"' in errors[0]
