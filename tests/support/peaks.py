"""What traces and readouts of tiny models really take, in a process of their own.

    python -m tests.support.peaks NAME ...

Prints one JSON object a line: the planned peak, of a readout the size of its result, and the growth of resident memory
as the kernel counts it. A trace that is refused has no planned peak.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

import layertracer as lt
from benchmarks.measuring import measure, resident_bytes
from layertracer.tracing import _readout as _lens

from tests.support.models import registry
from tests.support.models.families import BY_NAME, build_tiny

BUDGET = 200_000_000
TIGHT = {"capped": 60_000_000, "written-out": 100_000_000, "beyond": 60_000_000}
"""Budgets that leave nothing for an allocator to keep."""
FREE = 130_000_000
"""What a readout is told is free: little more than its result."""
READOUT = "readout"
_SIZES = {"long": (6, 600), "wide": (24, 6), "written-out": (2, 700), "beyond": (2, 900), READOUT: (60, 6)}
_FEW, _SHORT = 40, 6
_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def build(name: str) -> nn.Module:
    """A tiny model of a family, or one that takes much.

    "long" reads long prompts, "wide" and "readout" have many tokens, "capped" has many and makes two more tensors of
    their logits, "written-out" and "beyond" write out what attention looks at.
    """
    if name == "capped":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Gemma2ForCausalLM(Gemma2Config(**_SHAPE, vocab_size=50_000, head_dim=16, sliding_window=32)).eval()
    if name not in _SIZES:
        return build_tiny(name) if name in BY_NAME else registry.build(name)
    config = LlamaConfig(
        **_SHAPE,
        vocab_size=60_000 if name in ("wide", READOUT) else 101,
        max_position_embeddings=1024,
        attn_implementation="eager" if name in TIGHT else "sdpa",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


def taken(name: str) -> dict[str, Any]:
    """What was planned for a trace, and what it took."""
    model = lt.wrap_model(build(name), name=name)
    samples = _samples(name)
    mask = lt.Mask(site="block_output", draws=1 if name in TIGHT else 5)
    before, budget = resident_bytes(), TIGHT.get(name, BUDGET)

    def trace() -> lt.Trace | None:
        try:
            return lt.trace(model, samples, perturbation=mask, memory=budget)
        except lt.OutOfMemoryError:
            return None

    done, cost = measure(trace)
    plan = None if done is None else done.plan
    return {
        "name": name,
        "is_measured": plan is None or plan["is_measured"],
        "planned_bytes": None if plan is None else plan["peak_bytes"],
        "real_bytes": cost.peak_bytes - before,
    }


def read() -> dict[str, Any]:
    """How large the result of a readout is, and what it took."""
    model, samples = lt.wrap_model(build(READOUT), name=READOUT), _samples(READOUT)
    before = resident_bytes()
    with mock.patch.object(_lens, "free_bytes", return_value=FREE):
        readout, cost = measure(lambda: lt.read_layers(model, samples))
    result = readout.log_probs.nbytes + readout.embedding_log_probs.nbytes
    return {"name": READOUT, "result_bytes": result, "real_bytes": cost.peak_bytes - before}


def _samples(name: str) -> list[lt.Sample]:
    n_prompts, length = _SIZES.get(name, (_FEW, _SHORT))
    generator = np.random.default_rng(0)
    lengths = generator.integers(60, 81, n_prompts) if name == "capped" else [length] * n_prompts
    return [lt.Sample(prompt_ids=tuple(generator.integers(3, 90, n).tolist()), answer_id=7) for n in lengths]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in sys.argv[1:]:
        sys.stdout.write(json.dumps(read() if each == READOUT else taken(each)) + "\n")
