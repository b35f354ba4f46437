"""The rounds: one worker for each contender, one at a time, in turns."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders import CONTENDERS, REFERENCE, SUBJECT
from benchmarks.jobs import Job, keep_masks, token_ids
from benchmarks.machine import describe_machine, source_digest
from benchmarks.models import ModelFacts, facts_of, folder_of
from benchmarks.processes import BenchmarkError, Worker

MAX_GAP_BITS = 1e-4
"""How far a contender's divergences may be from plain hooks'."""

_MAX_RELATIVE_ERROR = 1e-6  # of arithmetic that should be the sum of its parts


class Field:
    """The contenders' workers, each started when it is first needed.

    Attributes:
        facts: Of the model that is loaded.
        versions: Of each contender's packages.
        can_forget_peak: Whether every peak of memory is that of its run.
        loading_cpu_s: What loading the model took each contender.
    """

    def __init__(self) -> None:
        self.facts: ModelFacts
        self.versions: dict[str, dict[str, str]] = {}
        self.can_forget_peak = True
        self.loading_cpu_s: dict[str, float] = {}
        self._workers: dict[str, Worker] = {}
        self._seen_regular: set[str] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Field:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="layertracer-bench-")))
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        self._stack.close()

    def load(self, model: str, names: Sequence[str]) -> None:
        """Have contenders load a model, one after the other, and do a small job once."""
        self.facts = facts_of(model)
        warm_up = self.write_inputs("warm-up", _small_job(model))
        for name in names:
            tell(f"  loading {CONTENDERS[name].label}")
            if name not in self._workers:
                self._workers[name] = self._stack.enter_context(Worker(name))
            told = self._workers[name].ask("load", model=model, folder=str(folder_of(model)), inputs=warm_up)
            self.versions[name] = told["versions"]
            self.loading_cpu_s[name] = told["cpu_s"]
            self.can_forget_peak = self.can_forget_peak and told["can_forget_peak"]

    def write_inputs(self, label: str, job: Job, *, n_masks: int | None = None) -> str:
        """A job's prompts and masks in a file; with `n_masks`, only the masks of as many first layers."""
        path = self._folder / f"{label}.npz"
        ids = token_ids(job, d_vocab=self.facts.d_vocab)
        keep = keep_masks(n_layers=self.facts.n_layers, width=self.facts.width)
        np.savez(path, ids=ids, keep=keep[:n_masks])
        return str(path)

    def run(self, name: str, inputs: str) -> tuple[NDArray[np.floating[Any]], dict[str, Any]]:
        """A contender's divergences [prompt, layer] for a job, and what it took."""
        outputs = self._folder / f"{name}.npy"
        cost = self._workers[name].ask("run", inputs=inputs, outputs=str(outputs))
        return np.load(outputs), cost

    def count_gflop(self, name: str, job: Job) -> float:
        """A contender's arithmetic for a job.

        Where every prompt costs the same, and every layer's mask the same on top of the clean run, one prompt with one
        mask and with two is enough. That they do is seen on prompts of a few tokens.

        Raises:
            BenchmarkError: If arithmetic that is said to be regular is not.
        """
        if not CONTENDERS[name].is_regular:
            return self._counted(name, job)
        if name not in self._seen_regular:
            few = _resized(job, n_prompts=2, n_tokens=8)
            expected, counted = self._extrapolated(name, few, n_masks=3), self._counted(name, few, n_masks=3)
            if abs(counted - expected) > _MAX_RELATIVE_ERROR * counted:
                raise BenchmarkError(
                    f"{name} does {counted:.6g} GFLOP for 2 prompts and 3 masks, where {expected:.6g} follow from 1 "
                    "prompt with 1 and 2 masks. Set is_regular=False for it, so that whole jobs are counted."
                )
            self._seen_regular.add(name)
        return self._extrapolated(name, job, n_masks=self.facts.n_layers)

    def _extrapolated(self, name: str, job: Job, *, n_masks: int) -> float:
        """Arithmetic of a job with some masks, from one prompt with one mask and with two."""
        one_prompt = _resized(job, n_prompts=1, n_tokens=job.n_tokens)
        one, two = (self._counted(name, one_prompt, n_masks=n) for n in (1, 2))
        return job.n_prompts * (one + (n_masks - 1) * (two - one))

    def _counted(self, name: str, job: Job, *, n_masks: int | None = None) -> float:
        inputs = self.write_inputs("count", job, n_masks=n_masks)
        return float(self._workers[name].ask("count", inputs=inputs)["gflop"])

    def product_rate(self) -> float:
        """The machine's rate of matrix products at this model's shapes, in 10⁹ operations a CPU second."""
        rates = self._workers[REFERENCE].ask("rate", shapes=self.facts.products)["gflop_per_s"]
        return float(max(rates.values()))


def run_job(job: Job, field: Field, names: Sequence[str]) -> dict[str, Any]:
    """Everything that is measured of one job.

    Raises:
        BenchmarkError: If a contender fails, or its numbers are not those of plain hooks.
    """
    inputs = field.write_inputs("job", job)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    rates, load = [], os.getloadavg()[0]
    for number in range(job.rounds + job.pair_rounds):
        reference: NDArray[np.floating[Any]] | None = None
        rates.append(field.product_rate())
        for name in names if number < job.rounds else _pair(runs):
            divergences, cost = field.run(name, inputs)
            reference = divergences if name == REFERENCE else reference
            gap = None if reference is None else checked_gap(name, job, divergences, reference)
            runs[name].append({"round": number, **cost, "gap_bits": gap})
            tell(f"  round {number + 1}  {CONTENDERS[name].label:<26} {cost['cpu_s']:8.2f} CPU s")
    tell("  counting arithmetic")
    return {
        "spec": asdict(job),
        "facts": asdict(field.facts),
        "machine": describe_machine() | {"load_average_at_start": round(load, 2)},
        "versions": {name: field.versions[name] for name in names},
        "loading_cpu_s": {name: field.loading_cpu_s[name] for name in names},
        "source": source_digest(),
        "measured_on": datetime.now(UTC).date().isoformat(),
        "peak_is_of_the_run": field.can_forget_peak,
        "product_gflop_per_s": rates,
        "gflop": {name: field.count_gflop(name, job) for name in names},
        "runs": runs,
    }


def _pair(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """The fastest of the others so far, and LayerTracer."""
    others = [name for name in runs if name != SUBJECT]
    return [min(others, key=lambda name: min(run["cpu_s"] for run in runs[name])), SUBJECT]


def checked_gap(
    name: str, job: Job, divergences: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]]
) -> float:
    """The largest difference from plain hooks, in bits, once it is known to be small."""
    if divergences.shape != reference.shape:
        raise BenchmarkError(f"{name} gave divergences of shape {divergences.shape}, plain hooks {reference.shape}.")
    gap = float(np.abs(divergences - reference).max())
    if not gap <= MAX_GAP_BITS:  # NaN is not small either
        raise BenchmarkError(
            f"{name} and plain hooks disagree at {job.name}: by {gap:.3g} bits at most, {MAX_GAP_BITS:g} are allowed. "
            "Different numbers must not be timed against each other."
        )
    return gap


def _small_job(model: str) -> Job:
    """What every contender does once before the clock runs."""
    return Job(name="warm-up", title="warm-up", model=model, n_prompts=1, n_shared=0, n_own=8, rounds=1)


def _resized(job: Job, *, n_prompts: int, n_tokens: int) -> Job:
    """A job with other prompts, none of whose tokens are shared."""
    return replace(job, n_prompts=n_prompts, n_shared=0, n_own=n_tokens)


def tell(line: str) -> None:
    """Progress, on the terminal."""
    print(line, flush=True)
