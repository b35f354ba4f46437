"""Contenders' processes, as the driver sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.contenders import CONTENDERS

HERE = Path(__file__).parent
_LOGS = HERE / ".cache" / "logs"

_SETTINGS: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


class BenchmarkError(Exception):
    """The benchmark cannot go on; the message says why and what to do."""


def python_of(name: str) -> Path:
    """The Python of a contender's environment.

    Raises:
        BenchmarkError: If its environment is not set up.
    """
    environment = CONTENDERS[name].environment
    if environment is None:
        return Path(sys.executable)
    python = HERE / ".venvs" / environment / "bin" / "python"
    if not python.exists():
        raise BenchmarkError(f"The environment of {name} is not set up. Run `make bench-setup`, or leave it out.")
    return python


class Worker:
    """A contender's process.

    Args:
        name: The contender.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        _LOGS.mkdir(parents=True, exist_ok=True)
        self._log_path = _LOGS / f"{name}.log"
        python = python_of(name)
        surroundings = {**os.environ, **_SETTINGS}
        if CONTENDERS[name].environment is not None:
            surroundings.pop("PYTHONPATH", None)  # a peer sees its own packages only
        self._log = self._log_path.open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=HERE.parent,
            env=surroundings,
            text=True,
        )

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """The worker's answer; nothing else of the benchmark runs meanwhile.

        Raises:
            BenchmarkError: If the contender raises, or its process ends.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("A worker is always started with pipes.")
        try:
            print(json.dumps({"ask": what, **arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except (BrokenPipeError, ValueError):  # the process ended, or was ended here
            line = ""
        if not line:
            last = "\n".join(self._log_path.read_text("utf-8").splitlines()[-15:])
            raise BenchmarkError(f"{self.name} ended while it was asked to {what}. Its last words:\n{last}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(f"{self.name} failed when it was asked to {what}:\n{answer['error']}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process; a running job is not waited for."""
        self._process.terminate()
        self._process.communicate()
        self._log.close()
