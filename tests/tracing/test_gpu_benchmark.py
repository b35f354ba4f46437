"""The benchmark for GPUs, at tiny sizes on the CPU: that it runs, and what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_runs_without_a_gpu(tmp_path: Path) -> None:
    """At tiny sizes every method is timed, all agree, and the floor is no slower than what was measured."""
    out = tmp_path / "results" / "gpu.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--tiny", "--device", "cpu", "--pairs", "1"]
    command += ["--models", "qwen3-0.6b", "mamba2", "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert [model["model"] for model in figures["models"]] == ["qwen3-0.6b", "mamba2"]
    for model in figures["models"]:
        assert model["method"] == "ladder"
        for job in model["jobs"]:
            assert job["methods"].keys() == {"plain_hooks", "ladder"}
            assert job["mean_js_bits"] > 1e-4
            assert job["largest_js_difference_bits"] < 1e-5
            assert 0 < job["floor"]["share_of_floor"] < 1
