"""The mask sweep on a GPU: the ladder against plain hooks, and both against what the device can do.

Models are built from configurations with random weights, so that nothing is downloaded: Qwen3 at the sizes 0.6B, 1.7B
and 8B, a hybrid of gated delta nets and attention like Qwen3.5, and Mamba2. The job is one mask for each layer and the
JS divergence at the last position. Both methods run in pairs, in one process, and must give the same divergences.

The floor is the larger of two times: the arithmetic of the ladder over the measured rate of a matrix product of its
shapes, and the bytes of the weights, read once, over the measured bandwidth.

    python benchmarks/gpu.py --out benchmarks/results/gpu.json
    python benchmarks/gpu.py --tiny --device cpu
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

import layertracer as lt

Settings = Mapping[str, Any]
Array = np.ndarray

_QWEN3 = {"model_type": "qwen3", "vocab_size": 151936, "head_dim": 128, "num_key_value_heads": 8}
_PATTERN = ["linear_attention", "linear_attention", "linear_attention", "full_attention"]
MODELS: dict[str, Settings] = {
    "qwen3-0.6b": _QWEN3
    | {"tie_word_embeddings": True}
    | {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "qwen3-1.7b": _QWEN3
    | {"tie_word_embeddings": True}
    | {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
    "qwen3-8b": _QWEN3
    | {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32},
    "qwen3.5-like": {
        "model_type": "qwen3_5_text",
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 24,
        "layer_types": _PATTERN * 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 16,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
    },
    "mamba2": {
        "model_type": "mamba2",
        "vocab_size": 50288,
        "hidden_size": 2560,
        "num_hidden_layers": 64,
        "num_heads": 80,
        "head_dim": 64,
        "state_size": 128,
        "n_groups": 1,
    },
}
_TINY = {
    "vocab_size": 211,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
_TINY_OF_TYPE: dict[str, Settings] = {
    "qwen3_5_text": {
        "layer_types": _PATTERN,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "mamba2": {"num_heads": 4, "state_size": 8},
}
_TOLERANCE_BITS = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is measured.

    Attributes:
        n_prompts: Prompts in a batch.
        length: Tokens of each.
        pairs: How often both methods are run.
    """

    n_prompts: int
    length: int
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run.

    Attributes:
        js_bits: Divergences [prompt, layer].
        wall_s: Its duration.
        peak_bytes: Largest memory beyond the weights; None where the device does not say.
    """

    js_bits: Array
    wall_s: float
    peak_bytes: int | None


def build(settings: Settings, *, tiny: bool, device: torch.device, dtype: torch.dtype) -> Any:
    """A model with random weights, built where it runs."""
    chosen = dict(settings)
    kind = chosen.pop("model_type")
    if tiny:
        chosen |= {name: value for name, value in _TINY.items() if name in chosen}
        chosen |= _TINY_OF_TYPE.get(kind, {})
    config = AutoConfig.for_model(kind, **chosen)
    library = cast(Any, AutoModelForCausalLM)  # it comes without types
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.device(device):
        torch.manual_seed(0)
        model = library.from_config(config, dtype=dtype)
        with torch.no_grad():
            for parameter in model.parameters():  # no norm at its default, and logits that spread
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model.to(device).eval().requires_grad_(False)


def plain_hooks(model: lt.TracedModel, ids: torch.Tensor, keep: Array) -> Array:
    """JS divergence [prompt, layer] by one hooked forward for each layer."""
    clean = last_log_probs(model, ids)
    found = []
    for index, layer in enumerate(model.anatomy.layers):
        mask = torch.from_numpy(keep[index, 0]).to(ids.device)
        handle = layer.module.register_forward_hook(lambda _module, _args, output, mask=mask: masked(output, mask))
        try:
            found.append(js_bits(clean, last_log_probs(model, ids)))
        finally:
            handle.remove()
    stacked: Array = torch.stack(found, dim=1).cpu().numpy()
    return stacked


def masked(output: Any, mask: torch.Tensor) -> Any:
    """A layer's output with the masked dimensions of its stream zero."""
    if isinstance(output, tuple):
        return (output[0] * mask, *output[1:])
    return output * mask


@torch.inference_mode()
def last_log_probs(model: lt.TracedModel, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities at the last position, in float32; the head sees no other one."""
    logits = model.module(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1]
    return torch.log_softmax(logits.float(), dim=-1)


def js_bits(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """The textbook formula."""
    log_m = torch.logaddexp(log_p, log_q) - np.log(2)
    total = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    bits: torch.Tensor = total.sum(dim=-1) / (2 * np.log(2))
    return bits.clamp(min=0)


def timed(run: Callable[[], Array], device: torch.device) -> Measured:
    """One run, until the device has finished."""
    gc.collect()
    before = 0
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    began = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall_s = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else None
    return Measured(js_bits=result, wall_s=wall_s, peak_bytes=peak)


def matrix_rate(n_rows: int, width: int, inner: int, *, device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a matrix product of these sizes, the best of several runs."""
    left, right = (torch.randn(*size, device=device, dtype=dtype) for size in ((n_rows, width), (width, inner)))
    n_repeats = 10

    def run() -> Array:
        for _ in range(n_repeats):
            left @ right
        return np.empty(0)

    best = min(timed(run, device).wall_s for _ in range(5))
    return 2 * n_rows * width * inner * n_repeats / best


def bandwidth(n_bytes: int, *, device: torch.device) -> float:
    """Bytes a second that the device reads and writes in a copy, the best of several runs."""
    source = torch.empty(n_bytes, dtype=torch.uint8, device=device).zero_()
    target = torch.empty_like(source)

    def run() -> Array:
        for _ in range(10):
            target.copy_(source)
        return np.empty(0)

    return 2 * n_bytes * 10 / min(timed(run, device).wall_s for _ in range(5))


def count_flops(run: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and attentions in a run."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def compare(model: lt.TracedModel, job: Job, *, compiled: lt.TracedModel | None) -> dict[str, object]:
    """Both methods in turn, their agreement, and their distance from the floor."""
    device, anatomy = model.device, model.anatomy
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, anatomy.d_vocab, (job.n_prompts, job.length), generator=generator)
    samples = [lt.Sample(prompt_ids=tuple(row)) for row in ids.tolist()]
    mask = lt.Mask(site="block_output", draws=1, fraction=0.5, scheme="random")
    keep = mask.keep_array(n_layers=anatomy.n_layers, width=anatomy.d_model)

    def ladder(which: lt.TracedModel) -> Array:
        return lt.trace(which, samples, perturbation=mask, target="model").js_bits[:, 0]

    methods: dict[str, Callable[[], Array]] = {
        "plain_hooks": lambda: plain_hooks(model, ids.to(device), keep),
        "ladder": lambda: ladder(model),
    }
    if compiled is not None:
        methods["ladder_compiled"] = lambda: ladder(compiled)
    warm = {name: run() for name, run in methods.items()}
    gap = max(float(np.abs(one - warm["plain_hooks"]).max()) for one in warm.values())
    runs: dict[str, list[Measured]] = {name: [] for name in methods}
    for _ in range(job.pairs):
        for name, run in methods.items():
            runs[name].append(timed(run, device))
    return {
        "n_prompts": job.n_prompts,
        "length": job.length,
        "methods": {name: summarize(found, runs["plain_hooks"]) for name, found in runs.items()},
        "mean_js_bits": float(warm["plain_hooks"].mean()),
        "largest_js_difference_bits": gap,
        "agrees": gap <= _TOLERANCE_BITS[model.dtype],
        "floor": floor(model, job, n_flops=count_flops(methods["ladder"]), runs=runs["ladder"]),
    }


def summarize(runs: Sequence[Measured], plain: Sequence[Measured]) -> dict[str, object]:
    """The times of a method, and how much less they are than plain hooks', pair by pair."""
    ratios = [one.wall_s / other.wall_s for one, other in zip(plain, runs, strict=True)]
    return {
        "wall_s": [run.wall_s for run in runs],
        "median_wall_s": statistics.median(run.wall_s for run in runs),
        "times_faster": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
        "peak_bytes": runs[-1].peak_bytes,
    }


def floor(model: lt.TracedModel, job: Job, *, n_flops: int, runs: Sequence[Measured]) -> dict[str, float]:
    """The least time that the device needs for the ladder's arithmetic and for reading the weights once."""
    device, anatomy = model.device, model.anatomy
    n_rows = job.n_prompts * job.length * (1 + anatomy.n_layers // 2)  # the rows of a layer in the middle
    inner = max(parameter.shape[0] for parameter in anatomy.layers[0].module.parameters() if parameter.ndim == 2)
    rate = matrix_rate(n_rows, anatomy.d_model, inner, device=device, dtype=model.dtype)
    n_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.module.parameters())
    speed = bandwidth(2**28 if device.type == "cuda" else 2**24, device=device)
    floor_s = max(n_flops / rate, n_bytes / speed)
    return {
        "flops": n_flops,
        "matrix_product_flops_per_s": rate,
        "weight_bytes": n_bytes,
        "bandwidth_bytes_per_s": speed,
        "arithmetic_s": n_flops / rate,
        "weights_s": n_bytes / speed,
        "floor_s": floor_s,
        "share_of_floor": floor_s / statistics.median(run.wall_s for run in runs),
    }


def measure(name: str, options: argparse.Namespace, *, device: torch.device, dtype: torch.dtype) -> dict[str, object]:
    """All jobs on one model."""
    module = build(MODELS[name], tiny=options.tiny, device=device, dtype=dtype)
    model = lt.wrap_model(module, name=name)
    compiled = lt.wrap_model(module, name=name, compile=True) if options.compile else None
    jobs = [(1, 16), (8, 22)] if options.tiny else [(1, 16), (8, 22), (4, 512)]
    return {
        "model": name,
        "n_layers": model.anatomy.n_layers,
        "n_parameters": sum(parameter.numel() for parameter in module.parameters()),
        "method": model.self_check.method,
        "self_check": dict(model.self_check.errors),
        "compile_notes": [] if compiled is None else list(compiled.self_check.notes),
        "jobs": [
            compare(model, Job(n_prompts=rows, length=length, pairs=options.pairs), compiled=compiled)
            for rows, length in jobs
        ],
    }


def main() -> None:
    """Measure every model that fits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=tuple(MODELS), help="which (default all)")
    parser.add_argument("--device", default="cuda", help="device (default cuda)")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), help="default: bfloat16, float32 on cpu")
    parser.add_argument("--pairs", type=int, default=3, help="how often the methods are run (default 3)")
    parser.add_argument("--compile", action="store_true", help="measure compiled layers as well")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to see that the program runs")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    device = torch.device(options.device)
    dtype = getattr(torch, options.dtype or ("float32" if device.type == "cpu" else "bfloat16"))
    results = []
    for name in options.models:
        results.append(measure(name, options, device=device, dtype=dtype))
        print(json.dumps(results[-1], indent=2), flush=True)
    figures = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "dtype": str(dtype).removeprefix("torch."),
        "tiny": options.tiny,
        "threads": torch.get_num_threads(),
        "versions": {name: metadata.version(name) for name in ("layertracer", "torch", "transformers")},
        "models": results,
    }
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    disagreeing = [one["model"] for one in results if not all(job["agrees"] for job in one["jobs"])]  # type: ignore[attr-defined]  # a list, see `measure`
    if disagreeing:
        raise SystemExit(f"The ladder and plain hooks differ on {', '.join(map(str, disagreeing))}.")


if __name__ == "__main__":
    main()
