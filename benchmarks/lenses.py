"""What fitting a lens of each kind takes, and what it is worth: CPU seconds of one thread, held-out KL in nats.

    OMP_NUM_THREADS=1 python -m benchmarks.lenses --models mini/attention smollm2 --kinds linear tuned

Text is what the model writes itself; writing it is part of the time, as is the report on the third part of it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import layertracer as lt
from benchmarks.machine import describe_machine
from layertracer.tracing import AffineLens, TracedModel, fit_lens

_KINDS = ("linear", "tuned", "jacobian")


def measure(model: TracedModel, kind: Any, *, n_rows: int | None) -> dict[str, Any]:
    """One lens: the time that it takes, and its report beside the logit lens's."""
    began = time.process_time()
    lens = fit_lens(model, kind=kind, n_rows=n_rows)
    elapsed_s = time.process_time() - began
    return {"model": model.name, "kind": kind, "cpu_s": round(elapsed_s, 1), **_worth(lens)}


def _worth(lens: AffineLens) -> dict[str, Any]:
    own, logit = lens.quality, lens.reports["logit"]
    return {
        "kl_nats": own.kl_nats.round(3).tolist(),
        "logit_kl_nats": logit.kl_nats.round(3).tolist(),
        "top1": own.top1.round(3).tolist(),
        "logit_top1": logit.top1.round(3).tolist(),
        "n_tokens": own.n_tokens,
        "details": {name: value for name, value in lens.details.items() if name != "reports"},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write where that is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mini/attention"])
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=list(_KINDS))
    parser.add_argument("--rows", type=int, default=None, help="passages, of all three parts together")
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = []
    for name in options.models:
        model = lt.load_model(name)
        for kind in options.kinds:
            one = measure(model, kind, n_rows=options.rows)
            found.append(one)
            print(f"{name:16} {kind:9} {one['cpu_s']:7.1f} CPU s", flush=True)
            print(f"  KL    {_line(one['kl_nats'])}\n  logit {_line(one['logit_kl_nats'])}", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps({"machine": describe_machine(), "lenses": found}, indent=2) + "\n")


def _line(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


if __name__ == "__main__":
    main()
