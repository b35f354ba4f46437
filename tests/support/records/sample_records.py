"""Synthetic traces that look like real ones, for tests that need no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layertracer._types import Check, LayerRecord, Mask, SelfCheck, Status
from layertracer.runs import ModelRecord, PromptRecord, TraceRecord, TraceSpec

PAIRS = (
    ("wide", "narrow"),
    ("early", "late"),
    ("hot", "cold"),
    ("open", "closed"),
    ("young", "old"),
    ("rich", "poor"),
    ("loud", "quiet"),
    ("north", "south"),
)

HOSTILE_TEXTS = (
    "<script>document.title='hacked'</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"quotes\" 'both' `kinds` \\ backslash",
    "\u202egnitirw tfel-ot-thgir\u202c\u200f",
    "\x00\x07\x1b[31mcontrol\x1b[0m\x7f\x85\u2028",
    "{{ template }} {% block %} ${js} %s {0}",
    "]]> <!-- comment --> &lt;&amp; &#x3c;",
    "e\u0301\U0001f9ea\ufeff\ufffd\u00a0",
)

DEFAULT_MIXERS = ("gated_deltanet", "gated_deltanet", "gated_deltanet", "attention")


def make_record(
    n_prompts: int = 8,
    n_layers: int = 12,
    n_draws: int = 5,
    seed: int = 0,
    *,
    top_k: int = 5,
    mixers: Sequence[str] = DEFAULT_MIXERS,
    status: Status = "complete",
    n_requested: int | None = None,
    with_answers: bool = True,
    hostile: bool = False,
    perturbation: Mapping[str, Any] | None = None,
    onset: Mapping[str, Any] | None = None,
    missing: Sequence[int] = (),
) -> TraceRecord:
    """A trace whose target rises in the deep layers and whose JS divergence falls from the first ones.

    Args:
        n_prompts: Prompts that were finished.
        n_layers: Layers of the model.
        n_draws: Draws of the mask.
        seed: Seed of the noise in the curves.
        top_k: Length of the last axis of `top_ids`.
        mixers: Kinds of mixer, repeated over the layers.
        status: How the run ended.
        n_requested: Prompts that were asked for; `n_prompts` unless the run was cut short.
        with_answers: Whether the samples have answers.
        hostile: Whether texts try to become markup or to break a terminal.
        perturbation: Specification of the perturbation; a mask at the mixer unless given.
        onset: Specification of the onset criterion; `Rise` unless given.
        missing: Layers without the perturbed site.
    """
    generator = np.random.default_rng(seed)
    tokens = _token_texts(hostile)
    target_prob = _rising_prob(generator, n_prompts, n_layers)
    js_bits = _falling_js(generator, n_prompts, n_draws, n_layers)
    js_bits[..., list(missing)] = np.nan
    top_ids, top_prob = _top_tokens(generator, target_prob, top_k, tokens)
    rank = np.where(target_prob > 0.4, 1, 1 + np.round(2000 * (1 - target_prob) ** 6)).astype(np.int32)
    hit = np.zeros((n_draws, n_layers), dtype=bool)
    hit[generator.integers(0, max(n_draws, 1), n_layers), np.arange(n_layers)] = True
    return TraceRecord(
        spec=_make_spec(n_requested or n_prompts, perturbation, onset, n_draws=n_draws, with_answers=with_answers),
        model=_make_model(n_layers, mixers, hostile=hostile),
        self_check=_make_self_check(),
        provenance=_make_provenance(),
        prompts=_make_prompts(n_prompts, target_prob, tokens, with_answers=with_answers, hostile=hostile),
        target_log_prob=np.log(target_prob),
        embedding_log_prob=np.log(generator.uniform(1e-6, 1e-4, n_prompts)),
        target_rank=rank,
        entropy_bits=np.clip(np.linspace(13, 2, n_layers) + generator.normal(0, 0.4, (n_prompts, n_layers)), 0, None),
        js_bits=js_bits,
        top_ids=top_ids,
        top_prob=top_prob,
        dominant_dimension=np.where(np.arange(n_layers) % 3 == 2, 17, 306),
        dominant_ratio=np.where(np.isin(np.arange(n_layers), missing), np.nan, np.geomspace(4, 9000, n_layers)),
        dominant_hit=hit,
        tokens=tokens,
        method="ladder",
        status=status,
        error=_make_error(status),
        warnings=("3 answers have several tokens; the first one is followed.", HOSTILE_TEXTS[0])[: 1 + hostile],
        elapsed_s=41.5,
        n_requested=n_requested or n_prompts,
    )


def _token_texts(hostile: bool) -> dict[int, str]:
    words = [f" {word}" for pair in PAIRS for word in pair] + ["\n", " ->", " the", "ing", " \u00e9t\u00e9", " \u4e16"]
    texts = dict(enumerate(words, start=100))
    if hostile:
        texts |= dict(enumerate(HOSTILE_TEXTS, start=100))
    return texts


def _rising_prob(generator: np.random.Generator, n_prompts: int, n_layers: int) -> np.ndarray:
    """A logistic rise at three quarters of the depth; every fifth prompt never rises."""
    depth = np.arange(n_layers)
    middle = 0.75 * n_layers + generator.normal(0, 0.6, (n_prompts, 1))
    height = generator.uniform(0.5, 0.95, (n_prompts, 1))
    height[4::5] = 0.004
    rise = height / (1 + np.exp(-(depth - middle) * 1.6))
    return np.asarray(np.clip(rise + generator.uniform(0, 1e-3, (n_prompts, n_layers)), 1e-8, 0.999))


def _falling_js(generator: np.random.Generator, n_prompts: int, n_draws: int, n_layers: int) -> np.ndarray:
    """A decay from the first layers, with a small rise at the last one."""
    depth = np.arange(n_layers)
    mean = 0.55 * np.exp(-depth / (0.2 * n_layers)) + 0.02 + 0.05 * (depth == n_layers - 1)
    noise = generator.lognormal(0, 0.25, (n_prompts, n_draws, n_layers))
    return np.asarray(np.clip(mean * noise, 0, 1))


def _top_tokens(
    generator: np.random.Generator, target_prob: np.ndarray, top_k: int, tokens: Mapping[int, str]
) -> tuple[np.ndarray, np.ndarray]:
    n_prompts, n_layers = target_prob.shape
    ids = generator.permuted(np.tile(list(tokens), (n_prompts, n_layers, 1)), axis=-1)[..., :top_k]
    shares = np.sort(generator.dirichlet(np.ones(top_k + 1), (n_prompts, n_layers))[..., :top_k], axis=-1)[..., ::-1]
    for prompt in range(n_prompts):
        target = 101 + 2 * (prompt % len(PAIRS))
        for layer in range(n_layers):
            if target_prob[prompt, layer] > 0.4:
                others = [token for token in ids[prompt, layer] if token != target]
                ids[prompt, layer] = [target, *others][:top_k]
                shares[prompt, layer] *= 1 - target_prob[prompt, layer]
                shares[prompt, layer, 0] = target_prob[prompt, layer]
    return ids, shares


def _make_prompts(
    n_prompts: int, target_prob: np.ndarray, tokens: Mapping[int, str], *, with_answers: bool, hostile: bool
) -> tuple[PromptRecord, ...]:
    prompts = []
    for row in range(n_prompts):
        question, answer = PAIRS[row % len(PAIRS)]
        target = 101 + 2 * (row % len(PAIRS))
        final = float(target_prob[row, -1])
        is_solved = final > 0.4
        text = f"hot -> cold\nbig -> small\n{question} ->"
        prompts.append(
            PromptRecord(
                prompt_ids=(104, 117, 105, 116, 99 + target - 100, 117),
                answer_ids=(target,) if with_answers else (),
                target_ids=(target,),
                top_id=target if is_solved else 118,
                top_prob=final if is_solved else 0.31,
                solved=is_solved if with_answers else None,
                prompt_text=HOSTILE_TEXTS[row % len(HOSTILE_TEXTS)] + text if hostile else text,
                answer_text=(tokens[target] if hostile else f" {answer}") if with_answers else None,
            )
        )
    return tuple(prompts)


def _make_spec(
    n_samples: int,
    perturbation: Mapping[str, Any] | None,
    onset: Mapping[str, Any] | None,
    *,
    n_draws: int,
    with_answers: bool,
) -> TraceSpec:
    return TraceSpec(
        task={
            "name": "antonym",
            "n_shot": 2,
            "limit": n_samples,
            "seed": 0,
            "template": "{input} -> {output}",
            "chat": False,
            "start_token": None,
            "n_samples": n_samples,
        },
        perturbation=perturbation or Mask(site="mixer_output", draws=n_draws).to_dict(),
        onset=onset or {"kind": "rise", "delta": 0.05, "sigmas": 2.0, "floor": 0.01},
        target="answer" if with_answers else "model",
        target_tokens="first",
        seed=0,
    )


def _make_model(n_layers: int, mixers: Sequence[str], *, hostile: bool) -> ModelRecord:
    layers = tuple(
        LayerRecord(
            index=index,
            path=f"model.layers.{index}",
            mixer=mixers[index % len(mixers)],
            mlp="experts" if index % 6 == 5 else "dense",
            n_parameters=3_540_000,
        )
        for index in range(n_layers)
    )
    return ModelRecord(
        name="<b>planted</b>\u202e" if hostile else "planted-135m",
        class_name="PlantedForCausalLM",
        revision="0123abc",
        layers=layers,
        d_model=576,
        d_vocab=49152,
        n_parameters=28_311_552 + 3_540_000 * n_layers,
        device="cpu",
        dtype="float32",
        fingerprint="9f2c" * 16,
    )


def _make_self_check() -> SelfCheck:
    names = {
        "readout": ("nats", "the last layer's readout equals the model's own log-probabilities"),
        "identity": ("bits", "a mask that keeps everything changes nothing"),
        "hooks": ("bits", "the ladder equals one hooked forward per layer"),
        "batch": ("nats", "a prompt alone equals the same prompt in a batch"),
    }
    checks = tuple(
        Check(name=name, error=2.4e-7 * index, tolerance=1e-4, unit=unit, passed=True, meaning=meaning)
        for index, (name, (unit, meaning)) in enumerate(names.items())
    )
    return SelfCheck(checks=checks, method="ladder")


def _make_provenance() -> dict[str, Any]:
    return {
        "layertracer": "0.1.0",
        "packages": {"numpy": "2.4.6", "torch": "2.13.0", "transformers": "5.23.0"},
        "python": "3.11.9",
        "platform": "Linux-x86_64",
        "n_cpus": 2,
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": False,
        "command": ["layertracer", "trace"],
        "started_at": "2026-01-02T03:04:05+00:00",
        "finished_at": "2026-01-02T03:04:46+00:00",
    }


def _make_error(status: Status) -> dict[str, Any] | None:
    if status != "failed":
        return None
    return {"type": "NonFiniteError", "message": "NaN after layer 3 of 12 for prompt 2. Load the model in float32."}
