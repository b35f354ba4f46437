"""What traces of tiny models really take, in a process of their own.

    python -m tests.peaks NAME ...

Prints one JSON object a line: the planned peak and the growth of resident memory as the kernel counts it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import layertracer as lt
from benchmarks.measuring import measure, resident_bytes

from tests.architectures import registry
from tests.architectures.families import BY_NAME, build_tiny

BUDGET = 200_000_000
_SIZES = {"long": (6, 600), "wide": (24, 6)}
_FEW, _SHORT = 40, 6


def build(name: str) -> nn.Module:
    """A tiny model of a family; "long" reads long prompts, "wide" has many tokens."""
    if name not in _SIZES:
        return build_tiny(name) if name in BY_NAME else registry.build(name)
    config = LlamaConfig(
        vocab_size=60_000 if name == "wide" else 101,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).eval()


def taken(name: str) -> dict[str, Any]:
    """What was planned for a trace, and what it took."""
    model = lt.wrap_model(build(name), name=name)
    n_prompts, length = _SIZES.get(name, (_FEW, _SHORT))
    rows = np.random.default_rng(0).integers(3, 90, (n_prompts, length)).tolist()
    samples = [lt.Sample(prompt_ids=tuple(row), answer_id=7) for row in rows]
    before = resident_bytes()
    mask = lt.Mask(site="block_output", draws=5)
    trace, cost = measure(lambda: lt.trace(model, samples, perturbation=mask, memory=BUDGET))
    assert trace.plan is not None
    return {
        "name": name,
        "is_measured": trace.plan["is_measured"],
        "planned_bytes": trace.plan["peak_bytes"],
        "real_bytes": cost.peak_bytes - before,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in sys.argv[1:]:
        sys.stdout.write(json.dumps(taken(each)) + "\n")
