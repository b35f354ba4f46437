"""What it takes to know weights for the right ones: a converted copy checked at load, and the fingerprint of a model.

    OMP_NUM_THREADS=1 python -m benchmarks.copies --pairs 7 --out benchmarks/results/copies.json

Loads of SmolLM2-135M's converted copy (538 MB) with the check and without, in turns; its fingerprint; and the hashes
that could have been taken, over the same weights. CPU seconds of one thread, the file in the system's page cache.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.machine import tell_figures
from layertracer.models import fingerprint
from layertracer.models._converted.file_hash import remembered_hash
from layertracer.models._gguf.checkpoint import _Copy, _folder_for
from layertracer.models._loading.checkpoint import Checkpoint, load_checkpoint
from layertracer.models._loading.embedded import find_embedded
from layertracer.models._loading.placement import resolve_placement
from layertracer.models._sources import load_parts

CANDIDATES: dict[str, Callable[[Any], object]] = {
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "blake2b": lambda data: hashlib.blake2b(data).digest(),
    "blake2s": lambda data: hashlib.blake2s(data).digest(),
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False).digest(),
    "crc32": zlib.crc32,
    "adler32": zlib.adler32,
    "sum of 64-bit words": lambda data: data.view("int64").sum(),
}


def seconds(job: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    job()
    return time.process_time() - start


def measure_load(copy: _Copy, *, pairs: int) -> dict[str, Any]:
    """Loads of a copy with its check and without, in turns, and their ratio pair by pair."""
    plain = Checkpoint(folder=copy.folder, label=copy.label, is_converted=True)

    def checked() -> object:
        return copy.load()

    def unchecked() -> object:
        module, tokenizer, _ = load_checkpoint(plain, placement=copy.placement, dtype=copy.dtype)
        touch(module)  # the file is mapped: without the check, the first forward would read it
        return tokenizer

    checked(), unchecked()
    found = []
    for pair in range(pairs):
        taken = {job: seconds(job) for job in ((checked, unchecked) if pair % 2 else (unchecked, checked))}
        found.append((taken[checked], taken[unchecked]))
    ratios = [one / other for one, other in found]
    return {
        "cpu_s": statistics.median(one for one, _ in found),
        "cpu_s_without": statistics.median(other for _, other in found),
        "difference_s": statistics.median(one - other for one, other in found),
        "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
    }


def touch(module: nn.Module) -> None:
    """Every page of the weights read once, as a forward does."""
    for parameter in module.parameters():
        parameter.detach().view(-1)[::1024].sum()


def measure_hashes(module: nn.Module, *, pairs: int) -> dict[str, float]:
    """CPU seconds of each candidate over all weights, medians of turns in which all are measured."""
    weights = [parameter.detach().view(-1).view(torch.uint8).numpy() for parameter in module.parameters()]
    found: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for _ in range(pairs):
        for name, of in CANDIDATES.items():
            found[name].append(seconds(partial(_hash_each, of, weights)))
    return {name: statistics.median(taken) for name, taken in found.items()}


def _hash_each(of: Callable[[Any], object], weights: list[Any]) -> None:
    for weight in weights:
        of(weight)


def main() -> None:
    """Measure and print; write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="measurements of each pair (default 7)")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    module = load_parts("smollm2", device="cpu").module  # converted here if it was not
    copy = _Copy(
        folder=_folder_for(remembered_hash(find_embedded("smollm2"))),
        label="smollm2",
        placement=resolve_placement("cpu"),
        dtype=torch.float32,
    )
    figures = {
        "pairs": options.pairs,
        "n_bytes": sum(parameter.nbytes for parameter in module.parameters()),
        "load": measure_load(copy, pairs=options.pairs),
        "fingerprint_cpu_s": statistics.median(
            [seconds(lambda: fingerprint(module)) for _ in range(options.pairs)],
        ),
        "hashes_cpu_s": measure_hashes(module, pairs=options.pairs),
    }
    tell_figures(figures, options.out, packages=("layertracer", "torch", "transformers", "safetensors"))


if __name__ == "__main__":
    main()
