"""Where a trace came from."""

from __future__ import annotations

import getpass
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from layertracer.runs import collect_provenance, package_version, shorten_path


def test_provenance_names_versions_platform_and_times() -> None:
    """Provenance has the versions, the platform, the number of cores and both times in UTC."""
    started = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    provenance = collect_provenance(started_at=started)
    assert provenance["python"] == platform.python_version()
    assert provenance["packages"]["numpy"] == package_version("numpy")
    assert provenance["n_cpus"] == os.cpu_count()
    assert provenance["started_at"] == "2026-01-02T03:04:05+00:00"
    finished = datetime.fromisoformat(provenance["finished_at"])
    assert abs((datetime.now(UTC) - finished).total_seconds()) < 60
    assert provenance["command"] is None


def test_provenance_tells_nothing_of_the_user() -> None:
    """Neither the home folder nor the host's name stands in the provenance."""
    home = str(Path.home())
    command = ["layertracer", "trace", f"{home}/models/mine", f"--out={home}/runs/first", "~/x/y"]
    provenance = collect_provenance(command=command)
    assert provenance["command"] == ["layertracer", "trace", ".../mine", "--out=.../first", ".../y"]
    text = json.dumps(provenance)
    assert home not in text or home == "/"
    if len(platform.node()) > 3:
        assert platform.node() not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text


def test_versions_are_read_without_importing() -> None:
    """Collecting provenance imports none of the packages whose versions it reads."""
    program = """
import sys
from layertracer.runs import collect_provenance
collect_provenance()
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_unknown_package_has_no_version() -> None:
    """A package that is not installed has no version."""
    assert package_version("no-such-package-of-layertracer") is None


@pytest.mark.parametrize(
    ("argument", "shortened"),
    [
        ("--task", "--task"),
        ("antonym", "antonym"),
        ("data/pairs.json", "data/pairs.json"),
        ("/srv/ada/pairs.json", ".../pairs.json"),
        ("--out=/srv/ada/run", "--out=.../run"),
        (r"C:\Users\ada\run", ".../run"),
        ("--template={input} -> {output}", "--template={input} -> {output}"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
    ],
)
def test_absolute_paths_are_cut_to_their_last_name(argument: str, shortened: str) -> None:
    """Only absolute paths are cut; names, relative paths and templates stay."""
    assert shorten_path(argument) == shortened
