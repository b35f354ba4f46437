"""Records whose numbers all follow from logits, so that they obey every law that a stored run is held to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layertracer._types import Audit, LayerMeasure, Mask, MeasureInfo
from layertracer.runs import EffectRecord, LensRecord, TraceRecord

from tests.support.records.sample_records import make_record

D_VOCAB = 50
ANSWER = 7

BLOCK_INFLUENCE = MeasureInfo(
    name="block_influence",
    unit="ratio",
    meaning="1 minus the cosine of what enters and leaves the layer",
    low=0,
    high=2,
)
"""A layer measure with bounds."""

SURPRISE = MeasureInfo(name="surprise_nats", unit="nats", meaning="a number that no version of the tool knows")
"""A layer measure without bounds."""


def record_of(logits: np.ndarray, *, top_k: int = 3, **changes: Any) -> TraceRecord:
    """A record with what follows from logits [prompt, layer, token], of which token 7 is the answer, by sorting."""
    n_prompts, n_layers, d_vocab = logits.shape
    prob = np.exp(logits - logits.max(axis=-1, keepdims=True))
    prob /= prob.sum(axis=-1, keepdims=True)
    order = np.argsort(-logits, axis=-1, kind="stable")
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.nan_to_num(-prob * np.log2(prob)).sum(axis=-1)
        log_prob = np.log(prob[..., ANSWER])
    rank = (order == ANSWER).argmax(axis=-1) + 1
    top_ids = order[..., :top_k]
    base = make_record(n_prompts=n_prompts, n_layers=n_layers, n_draws=2, top_k=1)
    prompts = tuple(
        dataclasses.replace(
            prompt,
            prompt_ids=(1, 2),
            answer_ids=(ANSWER,),
            target_ids=(ANSWER,),
            top_id=int(order[row, -1, 0]),
            top_prob=float(prob[row, -1, order[row, -1, 0]]),
            begins=bool(order[row, -1, 0] == ANSWER),
            solved=bool(order[row, -1, 0] == ANSWER),
        )
        for row, prompt in enumerate(base.prompts)
    )
    fields: dict[str, Any] = {
        "model": dataclasses.replace(base.model, d_vocab=d_vocab),
        "prompts": prompts,
        "target_log_prob": np.minimum(log_prob, 0),
        "target_rank": rank,
        "entropy_bits": entropy,
        "top_ids": top_ids,
        "top_prob": np.take_along_axis(prob, top_ids, axis=-1),
        "tokens": {token: str(token) for token in range(d_vocab)},
        "audit": Audit(share=0.1, n_cells=9, n_forwards=3, n_drawn=2, worst_nats=1e-7, worst_bits=1e-8),
    }
    return dataclasses.replace(base, **fields | changes)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities, in double precision."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def js_by_definition(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """JS divergence in bits: the mean divergence from the mixture."""
    p, q = np.exp(log_p), np.exp(log_q)
    mixture = np.log((p + q) / 2)
    nats = (p * (log_p - mixture) + q * (log_q - mixture)).sum(axis=-1) / 2
    return np.asarray(np.clip(nats / np.log(2), 0, 1))


def effect_of(
    perturbation: Mapping[str, Any], clean: np.ndarray, perturbed: np.ndarray, *, missing: Sequence[int] = ()
) -> EffectRecord:
    """An effect that follows from clean logits [prompt, token] and perturbed ones [prompt, draw, layer, token]."""
    log_p, log_q = log_softmax(clean)[:, None, None], log_softmax(perturbed)
    rows = {"js_bits": js_by_definition(log_p, log_q), "target_log_prob": np.minimum(log_q[..., ANSWER], 0)}
    for values in rows.values():
        values[..., list(missing)] = np.nan
    n_draws, n_layers = perturbed.shape[1:3]
    return EffectRecord(
        key="",
        perturbation=perturbation,
        rows=rows,
        dominant_dimension=np.arange(n_layers),
        dominant_ratio=np.linspace(2, 50, n_layers),
        dominant_hit=np.arange(n_draws)[:, None] == np.arange(n_layers) % n_draws,
    )


def lens_of(name: str, logits: np.ndarray, *, top_k: int = 3) -> LensRecord:
    """What a lens reads from logits [prompt, layer, token] of its own."""
    read = record_of(logits, top_k=top_k)
    return LensRecord(
        name=name,
        meaning="an affine map of the residual stream, fitted on other prompts",
        target_log_prob=read.target_log_prob,
        embedding_log_prob=np.full(len(logits), -5.0),
        target_rank=read.target_rank,
        entropy_bits=read.entropy_bits,
        top_ids=read.top_ids,
        top_prob=read.top_prob,
        details={"fitted_on": "512 prompts", "fingerprint": "9f2c"},
    )


def named_record(n_prompts: int = 6, n_layers: int = 4, *, seed: int = 0, **changes: Any) -> TraceRecord:
    """A record of three perturbations at two sites, two layer measures and a lens.

    The mixer of layer 1 and the MLP of layer 2 decide; layer 0 has no MLP.
    """
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1, (n_prompts, n_layers, D_VOCAB))
    logits[:, -1, ANSWER] += 5
    lens_logits = 0.5 * logits + 0.5 * logits[:, -1:]
    specs = [Mask(site="mixer_output", draws=5).to_dict(), Mask(site="mlp_output", draws=2, scheme="random").to_dict()]
    specs.append(Mask(site="mlp_output", draws=1, seed=1, scheme="random").to_dict())
    effects = []
    for spec, fragile in zip(specs, (1, 2, 2), strict=True):
        noise = generator.normal(0, 0.3, (n_prompts, spec["draws"], n_layers, D_VOCAB))
        noise[:, :, fragile, ANSWER] -= 4
        missing = (0,) if spec["site"] == "mlp_output" else ()
        effects.append(effect_of(spec, logits[:, -1], logits[:, -1][:, None, None] + noise, missing=missing))
    base = record_of(logits)
    spec = dataclasses.replace(
        base.spec, perturbation=specs[0], further_perturbations=tuple(specs[1:]), lenses=("linear",)
    )
    influence = np.linspace(0.9, 0.1, n_layers) + generator.uniform(0, 0.01, (n_prompts, n_layers))
    fields: dict[str, Any] = {
        "spec": spec,
        "js_bits": effects[0].js_bits,
        "dominant_dimension": effects[0].dominant_dimension,
        "dominant_ratio": effects[0].dominant_ratio,
        "dominant_hit": effects[0].dominant_hit,
        "effects": {str(number): effect for number, effect in enumerate(effects)},
        "measures": {
            "block_influence": LayerMeasure(info=BLOCK_INFLUENCE, values=influence),
            "surprise_nats": LayerMeasure(info=SURPRISE, values=np.where(np.arange(n_layers) == 2, np.nan, -influence)),
        },
        "lenses": {"linear": lens_of("linear", lens_logits)},
    }
    return dataclasses.replace(base, **fields | changes)
