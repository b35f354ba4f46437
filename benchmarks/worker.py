"""One contender in a process of its own, answering on standard output what it is told on standard input.

    python -m benchmarks.worker CONTENDER

One JSON object a line, each way. The model is loaded once; then every line is a job. It runs in the contender's own
environment, so nothing here may import LayerTracer.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TextIO

import numpy as np
import torch

from benchmarks.contenders import CONTENDERS
from benchmarks.counting import count_gflop
from benchmarks.measuring import can_forget_peak, measure, product_rate, resident_bytes

Sweep = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Answer = dict[str, Any]


class Session:
    """A loaded contender.

    Attributes:
        answers: What can be asked, by name.
    """

    def __init__(self, name: str) -> None:
        self._contender = CONTENDERS[name]
        self._sweep: Sweep | None = None
        self._resident_bytes = 0
        self.answers: Mapping[str, Callable[..., Answer]] = {
            "load": self.load,
            "run": self.run,
            "count": self.count,
            "rate": self.rate,
        }

    def load(self, *, model: str, folder: str, inputs: str) -> Answer:
        """Load a model and do a small job once, which also shows what is resident without a job."""
        self._sweep = None  # the model before is given up before this one comes
        resident_bytes()
        module = importlib.import_module(f"benchmarks.contenders.{self._contender.module}")
        sweep, cost = measure(lambda: module.load(model, folder))
        sweep(*_read(inputs))
        self._sweep = sweep
        self._resident_bytes = resident_bytes()
        versions = {package: importlib.metadata.version(package) for package in self._contender.packages}
        return {"versions": versions, "can_forget_peak": can_forget_peak(), "cpu_s": cost.cpu_s}

    def run(self, *, inputs: str, outputs: str) -> Answer:
        """Do a job, with the clock running."""
        ids, keep = _read(inputs)
        divergences, cost = measure(lambda: self._loaded()(ids, keep))
        np.save(outputs, divergences.numpy())
        return asdict(cost) | {"peak_bytes": max(0, cost.peak_bytes - self._resident_bytes)}

    def count(self, *, inputs: str) -> Answer:
        """Do a job, counting its arithmetic."""
        ids, keep = _read(inputs)
        return {"gflop": count_gflop(lambda: self._loaded()(ids, keep))}

    def rate(self, *, shapes: list[tuple[int, int]]) -> Answer:
        """Measure the machine's own products of matrices."""
        return {"gflop_per_s": product_rate(shapes)}

    def _loaded(self) -> Sweep:
        if self._sweep is None:
            raise RuntimeError("Nothing is loaded yet: ask to load first.")
        return self._sweep


def _read(inputs: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [prompt, token] and masks [layer, width] as floats."""
    with np.load(inputs) as arrays:
        return torch.from_numpy(arrays["ids"]), torch.from_numpy(arrays["keep"].astype(np.float32))


def _own_standard_output() -> TextIO:
    """Standard output for answers alone: what libraries print there goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def main() -> None:
    """Answer until there are no more questions."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    answers, session = _own_standard_output(), Session(sys.argv[1])
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = session.answers[question.pop("ask")](**question)
        except Exception:  # noqa: BLE001 - whatever a contender raises is an answer: the driver tells it
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
