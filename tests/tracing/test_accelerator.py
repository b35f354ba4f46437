"""What a pass does on an accelerator, as far as that shows without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What the program says that runs passes on a device without values."""
    registration = pytest.importorskip("torch.utils.backend_registration")
    if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this PyTorch lets no device be registered from Python")
    # A process of its own, since a device stays registered to its end. The package is found where it was found here.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *sys.path]))}
    command = [sys.executable, "-m", "tests.support.models.fake_accelerator"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout.splitlines()


@pytest.mark.parametrize("n_devices", [1, 2])
@pytest.mark.parametrize("perturbation", ["zero", "mean", "resample", "mixer", "last", "noise", "skip"])
@pytest.mark.parametrize("model", ["plain", "llama"])
def test_a_pass_never_waits_for_the_device(model: str, perturbation: str, n_devices: int, said: list[str]) -> None:
    """From token ids to divergences, on one device or two, nothing is fetched, uploaded, waited for or mixed."""
    assert f"clean: {model}, {perturbation}, {n_devices} device(s)" in said


@pytest.mark.parametrize("trap", ["item", "bool", "nonzero", "mask", "list", "upload", "fetch", "mixing"])
def test_waiting_would_be_noticed(trap: str, said: list[str]) -> None:
    """Whatever makes a program wait for a device, or mixes devices, stops the pass into which it is put."""
    assert any(line.startswith(f"stopped: {trap} ") for line in said)
