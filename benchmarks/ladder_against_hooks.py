"""The ladder pass against plain hooks: the same job, the same numbers, interleaved in one process.

Plain hooks run one forward for each layer and draw, with all prompts of a length in one batch, and read
the output at the last position: what a careful user would write with PyTorch alone. The ladder does the
same job through LayerTracer. Both are timed in CPU seconds, in pairs.

    OMP_NUM_THREADS=1 python benchmarks/ladder_against_hooks.py --prompts 4 --pairs 3
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

import layertracer as lt

Array = np.ndarray


def plain_hooks(model: lt.TracedModel, batches: Sequence[torch.Tensor], keep: Array) -> Array:
    """JS divergence [prompt, draw, layer] by one hooked forward for each layer and draw."""
    layers = [layer.module for layer in model.anatomy.layers]
    results = []
    for ids in batches:
        clean = last_log_probs(model, ids)
        bits = np.zeros((len(ids), keep.shape[1], keep.shape[0]))
        for layer, module in enumerate(layers):
            for draw in range(keep.shape[1]):
                mask = torch.from_numpy(keep[layer, draw])
                handle = module.register_forward_hook(lambda _m, _i, output, mask=mask: output * mask)
                try:
                    masked = last_log_probs(model, ids)
                finally:
                    handle.remove()
                bits[:, draw, layer] = js_bits(clean, masked).numpy()
        results.append(bits)
    return np.concatenate(results)


def last_log_probs(model: lt.TracedModel, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities at the last position, in float64."""
    with torch.inference_mode():
        logits = model.module(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1]
    return torch.log_softmax(logits.double(), dim=-1)


def js_bits(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """The textbook formula."""
    log_m = torch.logaddexp(log_p, log_q) - np.log(2)
    total = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    bits: torch.Tensor = total.sum(dim=-1) / (2 * np.log(2))
    return bits


def timed(run: Callable[[], Array]) -> tuple[Array, float, float]:
    """A result, its CPU seconds and its wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = run()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def compare(model: lt.TracedModel, samples: Sequence[lt.Sample], *, draws: int, pairs: int) -> dict[str, object]:
    """Both methods in turn, `pairs` times, after the first pair has shown that they agree."""
    anatomy = model.anatomy
    mask = lt.Mask(draws=draws)
    keep = mask.keep_array(n_layers=anatomy.n_layers, width=anatomy.d_model)
    lengths = sorted({len(sample.prompt_ids or ()) for sample in samples})
    in_order = [sample for length in lengths for sample in samples if len(sample.prompt_ids or ()) == length]
    batches = [torch.tensor([s.prompt_ids for s in in_order if len(s.prompt_ids or ()) == n]) for n in lengths]
    plain_s, ladder_s, walls, gap = [], [], [], 0.0
    for _ in range(pairs):
        by_hooks, cpu, _wall = timed(lambda: plain_hooks(model, batches, keep))
        by_ladder, ladder_cpu, ladder_wall = timed(lambda: lt.trace(model, in_order, perturbation=mask).js_bits)
        plain_s.append(cpu)
        ladder_s.append(ladder_cpu)
        walls.append(ladder_wall)
        gap = max(gap, float(np.abs(by_hooks - by_ladder).max()))
    ratios = [a / b for a, b in zip(plain_s, ladder_s, strict=True)]
    return {
        "model": model.name,
        "n_prompts": len(samples),
        "prompt_tokens": [len(s.prompt_ids or ()) for s in samples],
        "draws": draws,
        "threads": torch.get_num_threads(),
        "plain_hooks_cpu_s": plain_s,
        "ladder_cpu_s": ladder_s,
        "ladder_wall_s": walls,
        "ratio_of_cpu_s": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        "largest_js_difference_bits": gap,
        "machine": f"{platform.machine()}, {platform.system()}",
        "versions": {name: metadata.version(name) for name in ("layertracer", "torch", "transformers")},
    }


def main() -> None:
    """Compare on the embedded default and its antonym task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4, help="number of prompts (default 4)")
    parser.add_argument("--draws", type=int, default=5, help="draws a layer (default 5)")
    parser.add_argument("--shots", type=int, default=5, help="demonstrations in a prompt (default 5)")
    parser.add_argument("--pairs", type=int, default=3, help="how often both are run (default 3)")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    model = lt.load_model("smollm2", device="cpu")
    task = lt.load_task("antonym", n_shot=options.shots, limit=options.prompts)
    samples = [lt.Sample(prompt_ids=tuple(model.tokenizer(sample.prompt)["input_ids"]), answer_id=0) for sample in task]
    figures = compare(model, samples, draws=options.draws, pairs=options.pairs)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
