"""From logits to numbers: how long it takes, and how far it is from float64.

The JS divergence of many rows from one, and the statistics of a lens (log-probability and rank of the target, entropy,
five top tokens), against the same numbers as PyTorch's own functions give them in float32 (`log_softmax`, `logaddexp`,
`topk`), in pairs on the same logits. The errors are those against float64 on the logits as they are, in whatever type.

    OMP_NUM_THREADS=1 python benchmarks/reduction.py --pairs 5
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layertracer.tracing._distributions.js_divergence import js_from_logits
from layertracer.tracing._distributions.log_softmax import floored_log_probs_of
from layertracer.tracing._distributions.readout_statistics import measure_lens

N_TOP = 5
D_VOCABS = (49_152, 262_144)
STEPS = {"near-equal": 1e-4, "close": 1e-2, "apart": 1.0, "far apart": 30.0}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

Lens = tuple[Tensor, Tensor, Tensor, Tensor]
"""Log-probability of the target, its rank, entropy in bits, the top tokens."""


def plain_js(logits: Tensor, reference: Tensor) -> Tensor:
    """The textbook's sum in bits, in the type of its arguments."""
    log_p, log_q = torch.log_softmax(logits, dim=-1), torch.log_softmax(reference, dim=-1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    nats = (log_p.exp() * (log_p - log_m)).nansum(dim=-1) + (log_q.exp() * (log_q - log_m)).nansum(dim=-1)
    return nats / (2 * math.log(2))


def plain_lens(logits: Tensor, targets: Tensor) -> Lens:
    """The definitions, in the type of the logits."""
    log_probs = torch.log_softmax(logits, dim=-1)
    own = log_probs.gather(-1, targets[:, None])
    entropy = -(log_probs.exp() * log_probs).nansum(dim=-1) / math.log(2)
    return own[:, 0], 1 + (log_probs > own).sum(dim=-1), entropy, log_probs.topk(N_TOP, dim=-1).indices


def lens_of(logits: Tensor, targets: Tensor) -> Lens:
    """The same from LayerTracer."""
    lens = measure_lens(logits, targets, n_top=N_TOP)
    return lens.log_prob, lens.rank, lens.entropy_bits, lens.top_ids


def js_of(logits: Tensor, reference: Tensor) -> Tensor:
    """The same from LayerTracer."""
    return js_from_logits(logits, floored_log_probs_of(reference))


def make_logits(d_vocab: int, *, n_rows: int, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [row, d_vocab], a row that they differ from by about `step`, and targets."""
    generator = torch.Generator().manual_seed(d_vocab)
    reference = 4 * torch.randn(1, d_vocab, generator=generator)
    logits = reference + step * torch.randn(n_rows, d_vocab, generator=generator)
    return logits, reference, torch.randint(0, d_vocab, (n_rows,), generator=generator)


def seconds(function: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def measure_times(d_vocab: int, *, pairs: int) -> dict[str, Any]:
    """CPU seconds per million logits, and the ratio of the plain functions' to LayerTracer's, pair by pair."""
    logits, reference, targets = make_logits(d_vocab, n_rows=24 * 2**20 // (4 * d_vocab), step=1.0)
    jobs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "js": (lambda: js_of(logits, reference), lambda: plain_js(logits, reference)),
        "lens": (lambda: lens_of(logits, targets), lambda: plain_lens(logits, targets)),
    }
    figures = {}
    for name, (ours, plain) in jobs.items():
        ours(), plain()
        found = [(seconds(ours), seconds(plain)) for _ in range(pairs)]
        millions, ratios = logits.numel() / 1e6, [slow / fast for fast, slow in found]
        figures[name] = {
            "ms_per_million_logits": statistics.median(fast for fast, _ in found) / millions * 1e3,
            "plain_ms_per_million_logits": statistics.median(slow for _, slow in found) / millions * 1e3,
            "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        }
    return figures


def measure_errors(dtype: torch.dtype) -> dict[str, float]:
    """The largest differences from float64, over vocabularies and distances."""
    worst: dict[str, float] = {}
    for d_vocab in D_VOCABS:
        for name, step in STEPS.items():
            logits, reference, targets = make_logits(d_vocab, n_rows=8, step=step)
            logits, reference = logits.to(dtype), reference.to(dtype)
            exact = plain_js(logits.double(), reference.double())
            log_prob, _, entropy, _ = plain_lens(logits.double(), targets)
            lens = lens_of(logits, targets)
            errors = {
                f"js_bits, {name}": js_of(logits, reference) - exact,
                "log_prob, share of its size": (lens[0] - log_prob) / log_prob,
                "entropy_bits": lens[2] - entropy,
            }
            if dtype == torch.float32:
                errors["js_bits, plain functions"] = plain_js(logits, reference) - exact
                plain = plain_lens(logits, targets)
                errors["log_prob, share of its size, plain functions"] = (plain[0] - log_prob) / log_prob
                errors["entropy_bits, plain functions"] = plain[2] - entropy
            for key, error in errors.items():
                worst[key] = max(worst.get(key, 0.0), float(error.abs().max()))
    return worst


def main() -> None:
    """Measure and print; write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each pair (default 5)")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    figures = {
        "pairs": options.pairs,
        "times": {f"{d_vocab} logits a row": measure_times(d_vocab, pairs=options.pairs) for d_vocab in D_VOCABS},
        "largest_errors": {str(dtype).removeprefix("torch."): measure_errors(dtype) for dtype in DTYPES},
        "machine": f"{platform.machine()}, {platform.system()}, {torch.get_num_threads()} threads",
        "versions": {name: metadata.version(name) for name in ("layertracer", "torch")},
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
