"""How much arithmetic LayerTracer needs for small fixed jobs, kept so that no change doubles it unseen.

    python -m benchmarks.baseline      count again and write benchmarks/baseline.json (`make bench-baseline`)

Counts do not depend on the machine, and so tests can hold a change against them (tests/benchmarks).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import layertracer as lt
from benchmarks.counting import count_gflop, counting_row_tokens
from benchmarks.jobs import Job, keep_masks, token_ids
from benchmarks.models import Shape, build

PATH = Path(__file__).parent / "baseline.json"
_SHAPE = Shape(n_layers=6, width=64, d_vocab=256)
_MEMORY = "256MiB"  # a fixed budget: how much is free here must not decide how a pass is cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """What a trace of a job needs.

    Attributes:
        gflop: All products of matrices, in 10⁹ operations.
        layer_row_tokens: Vectors that enter a layer's first product, over rows, tokens and layers.
    """

    gflop: float
    layer_row_tokens: int


def _job(name: str, n_prompts: int, n_shared: int, n_own: int) -> Job:
    return Job(name=name, title=name, model="", n_prompts=n_prompts, n_shared=n_shared, n_own=n_own, rounds=1)


def jobs() -> dict[str, tuple[Job, lt.Mask]]:
    """The jobs, with the mask of each, by name."""
    everywhere = lt.Mask.explicit(keep_masks(n_layers=_SHAPE.n_layers, width=_SHAPE.width)[:, None])
    return {
        "few_shot": (_job("few_shot", 12, 24, 4), everywhere),
        "no_shared_prefix": (_job("no_shared_prefix", 6, 0, 20), everywhere),
        "last_position": (_job("last_position", 6, 0, 20), replace(everywhere, positions="last")),
    }


def count() -> dict[str, Arithmetic]:
    """The arithmetic of every job, by this code."""
    module = build(_SHAPE)
    model = lt.wrap_model(module, name="baseline")
    first_products = [layer.self_attn.q_proj for layer in module.model.layers]
    counted = {}
    for name, (job, mask) in jobs().items():
        ids = token_ids(job, d_vocab=_SHAPE.d_vocab)
        samples = [lt.Sample(prompt_ids=tuple(row), answer_id=3) for row in ids.tolist()]
        trace = partial(lt.trace, model, samples, perturbation=mask, memory=_MEMORY, share_prefix=True, audit=0)
        trace()  # what is proved once for a model is not the job's
        with counting_row_tokens(first_products) as passages:
            gflop = count_gflop(trace)
        counted[name] = Arithmetic(gflop=round(gflop, 6), layer_row_tokens=passages.n_row_tokens)
    return counted


def read() -> dict[str, Arithmetic]:
    """What is stored."""
    stored: Mapping[str, Mapping[str, Any]] = json.loads(PATH.read_text("utf-8"))
    return {name: Arithmetic(**figures) for name, figures in stored.items()}


def relative_growth(now: Arithmetic, then: Arithmetic) -> float:
    """How much more is needed now, as a share of then; the larger of the two counts."""
    return float(np.max([now.gflop / then.gflop - 1, now.layer_row_tokens / then.layer_row_tokens - 1]))


def main() -> None:
    """Count, say what changed, and write."""
    before = read() if PATH.exists() else {}
    counted = count()
    for name, now in counted.items():
        change = f"{100 * relative_growth(now, before[name]):+.1f} %" if name in before else "new"
        print(f"{name:<18} {now.gflop:.4f} GFLOP, {now.layer_row_tokens} row-tokens through layers ({change})")
    figures = {name: {"gflop": now.gflop, "layer_row_tokens": now.layer_row_tokens} for name, now in counted.items()}
    PATH.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
