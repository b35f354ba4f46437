"""Synthetic traces of several models on the same prompts, with a known particle and a known robustness."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from layertracer._types import LayerRecord, Noise
from layertracer.runs import TraceRecord

from tests.support.records.sample_records import make_record

ATTENTION = ("attention",)
MAMBA = ("mamba2",)
HYBRID = ("gated_deltanet", "gated_deltanet", "gated_deltanet", "attention")


def make_model(
    name: str,
    n_parameters: int = 1_000_000,
    *,
    seed: int = 0,
    n_prompts: int = 16,
    n_layers: int = 8,
    mixers: Sequence[str] = ATTENTION,
    particle: int | None = None,
    js_scale: float = 1.0,
) -> TraceRecord:
    """A model whose target rises at the layer `particle`, and whose JS divergence falls from the first layers.

    All models have the same prompts, some of which are harder for all of them.

    Args:
        name: Its name, which also makes its fingerprint.
        n_parameters: Its size.
        seed: Seed of what is its own.
        n_prompts: Prompts.
        n_layers: Layers.
        mixers: Kinds of mixers, repeated over the layers.
        particle: Layer of the rise; three quarters of the depth unless given.
        js_scale: Factor on its divergences.
    """
    record = make_record(n_prompts, n_layers, 2, seed, perturbation=Noise(site="mixer_output", draws=2).to_dict())
    rise = round(0.75 * n_layers) if particle is None else particle
    generator = np.random.default_rng(seed)
    height = generator.uniform(0.6, 0.9, (n_prompts, 1))
    prob = np.where(np.arange(n_layers) >= rise, height, 1e-3) * generator.uniform(0.9, 1.0, (n_prompts, n_layers))
    decay = 0.3 * js_scale * np.exp(-2 * np.arange(n_layers) / n_layers)
    hardness = np.random.default_rng(99).lognormal(0, 0.4, (n_prompts, 1, 1))
    js_bits = decay * hardness * generator.lognormal(0, 0.1, (n_prompts, 2, n_layers))
    prompts = tuple(
        dataclasses.replace(prompt, prompt_text=f"word {row:02d} ->", answer_text=f" answer {row:02d}", solved=True)
        for row, prompt in enumerate(record.prompts)
    )
    layers = tuple(
        LayerRecord(
            index=index, path=f"layers.{index}", mixer=mixers[index % len(mixers)], mlp="dense", n_parameters=1000
        )
        for index in range(n_layers)
    )
    model = dataclasses.replace(
        record.model, name=name, n_parameters=n_parameters, fingerprint=name, layers=layers, revision=None
    )
    return dataclasses.replace(
        record,
        model=model,
        prompts=prompts,
        target_log_prob=np.log(prob),
        embedding_log_prob=np.full(n_prompts, np.log(1e-4)),
        target_rank=np.where(prob > 0.5, 1, 50),
        js_bits=np.clip(js_bits, 0, 1),
    )


def make_sizes(
    exponent: float, *, n_sizes: int = 5, mixers: Sequence[str] = ATTENTION, family: str = "plain"
) -> list[TraceRecord]:
    """Models of one family, each twice as large as the last, whose divergence follows a power of their size."""
    return [
        make_model(
            f"{family}-{size}",
            1_000_000 * 2**size,
            seed=size,
            mixers=mixers,
            js_scale=float(0.5 * 2 ** (exponent * size)),
        )
        for size in range(n_sizes)
    ]
