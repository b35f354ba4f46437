"""What the figures were measured on, and with which code."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]

# What only presents figures, or measures something else.
_CHANGES_NO_FIGURE = {"__main__.py", "baseline.py", "plots.py", "precision.py", "report.py", "summary.py"}


def describe_machine() -> dict[str, Any]:
    """The processor, its memory, the system."""
    return {
        "cpu": _cpu_model(),
        "n_cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": 1,
    }


def tell_figures(
    figures: Mapping[str, Any],
    out: Path | None,
    *,
    packages: Sequence[str] = ("layertracer", "torch", "transformers"),
) -> None:
    """Print figures as JSON, with the machine and the versions that they were measured with; and write them, if asked.

    Args:
        figures: The figures.
        out: Where to write them; None for nowhere.
        packages: Whose versions are told.
    """
    versions = {name: metadata.version(name) for name in packages}
    text = json.dumps({**figures, "machine": describe_machine(), "versions": versions}, indent=2)
    print(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")


def source_digest() -> str:
    """A hash of everything whose change could change a figure: LayerTracer's source, and the benchmark's."""
    digest = hashlib.sha256()
    here = ROOT / "benchmarks"
    measuring = [path for path in here.glob("*.py") if path.name not in _CHANGES_NO_FIGURE]
    for path in sorted([*(ROOT / "src").rglob("*.py"), *measuring, *(here / "contenders").glob("*.py")]):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _cpu_model() -> str:
    """The processor's name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
