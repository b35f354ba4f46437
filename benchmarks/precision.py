"""What bfloat16 and float16 change: the same traces in three types, on the embedded default and on tiny models.

The readout of every layer and the JS divergence of every mask are computed in float32, bfloat16 and float16, with the
same prompts and masks, and compared with those in float32. What differs is the model's own rounding: LayerTracer takes
its logits to float32 before the softmax, whatever the model runs in.

    OMP_NUM_THREADS=1 python benchmarks/precision.py --prompts 8
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import layertracer as lt

ROOT = Path(__file__).parent.parent
FAMILIES = ("qwen3", "gemma2", "qwen3_moe", "mamba2", "qwen3_next", "jamba", "rwkv")
TYPES = (torch.float32, torch.bfloat16, torch.float16)


def measure(load: Callable[[torch.dtype], lt.TracedModel], samples: Sequence[lt.Sample]) -> dict[str, Any]:
    """The differences from float32, for each of the two narrow types."""
    figures = {}
    exact = None
    for dtype in TYPES:
        model = load(dtype)
        trace = lt.trace(model, samples, perturbation=lt.Mask(site="block_output"))
        log_probs = lt.read_layers(model, samples).log_probs.numpy()
        if exact is None:
            exact = trace, log_probs
        else:
            name = str(dtype).removeprefix("torch.")
            figures[name] = differences(*exact, trace, log_probs) | {"method": model.self_check.method}
    return figures


def differences(
    exact: lt.Trace, exact_log_probs: np.ndarray, trace: lt.Trace, log_probs: np.ndarray
) -> dict[str, float | bool]:
    """How far a trace and its readouts are from the exact ones."""
    likely = exact_log_probs >= np.log(1e-3)
    gaps = np.abs(log_probs - exact_log_probs)
    js = np.abs(trace.js_bits - exact.js_bits)
    return {
        "log_prob_nats_last_layer_max": float(gaps[:, -1][likely[:, -1]].max()),
        "log_prob_nats_any_layer_median": float(np.median(gaps[likely])),
        "log_prob_nats_any_layer_max": float(gaps[likely].max()),
        "js_bits_mean": float(js.mean()),
        "js_bits_max": float(js.max()),
        "js_bits_mean_curve_max": float(np.abs((trace.js_bits - exact.js_bits).mean((0, 1))).max()),
        "js_bits_largest": float(exact.js_bits.max()),
        "same_particle": trace.task_particle.layer == exact.task_particle.layer,
        "same_vulnerable_layer": trace.vulnerable_layer.layer == exact.vulnerable_layer.layer,
    }


def load_default(dtype: torch.dtype) -> lt.TracedModel:
    """The embedded default."""
    return lt.load_model("smollm2", device="cpu", dtype=dtype)


def tiny(family: str) -> Callable[[torch.dtype], lt.TracedModel]:
    """A tiny model of a family, with no parameter at its default."""
    sys.path.insert(0, str(ROOT))
    families: Any = importlib.import_module("tests.support.models.families")
    return lambda dtype: lt.wrap_model(families.build_tiny(family).to(dtype), name=family)


def main() -> None:
    """Measure and print; write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=8, help="number of prompts (default 8)")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    ids = np.random.default_rng(0).integers(3, 101, size=(options.prompts, 12))
    random = [lt.Sample(prompt_ids=tuple(row.tolist()), answer_id=7) for row in ids]
    models: dict[str, Any] = {
        "smollm2, antonyms": measure(load_default, list(lt.load_task("antonym", n_shot=5, limit=options.prompts)))
    }
    for family in FAMILIES:
        models[f"tiny {family}, random tokens"] = measure(tiny(family), random)
    figures = {
        "n_prompts": options.prompts,
        "models": models,
        "machine": f"{platform.machine()}, {platform.system()}",
        "versions": {name: metadata.version(name) for name in ("layertracer", "torch", "transformers")},
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
