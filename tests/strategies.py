"""Hypothesis strategies: generated values of the vocabulary, for tests of laws."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import Float

from layertracer._types import Check, LayerRecord, Mask, Noise, SelfCheck, Skip
from layertracer.measures import (
    AbsRatio,
    ChangePoint,
    FirstTop1,
    HalfMax,
    OnsetCriterion,
    Ratio,
    Rise,
    TargetCurves,
)
from layertracer.runs import ModelRecord, PromptRecord, TraceRecord, TraceSpec

# ---------------------------------------------------------------- records of traces


@contextlib.contextmanager
def _keeping_random_state() -> Iterator[None]:
    """Put Python's random state back: beartype picks at random which items it checks, and Hypothesis forbids that."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


@st.composite
def built(draw: st.DrawFn, kind: type[Any], **fields: st.SearchStrategy[Any]) -> Any:
    """A value of a class whose types are checked when it is made."""
    values = {name: draw(strategy) for name, strategy in fields.items()}
    with _keeping_random_state():
        return kind(**values)


_texts = st.text(max_size=8)
_any_floats = st.floats(allow_nan=True, allow_infinity=True)
_errors = st.floats(min_value=0, allow_infinity=True) | st.just(float("nan"))
_ids = st.integers(min_value=0, max_value=2**31 - 1)
_id_tuples = st.lists(_ids, max_size=4).map(tuple)


def json_values() -> st.SearchStrategy[Any]:
    """Values that JSON can hold, and the floats that it cannot."""
    leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _any_floats | _texts
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | json_mappings(inner), max_leaves=6)


def json_mappings(values: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings from text to JSON values."""
    return st.dictionaries(_texts, json_values() if values is None else values, max_size=3)


def layer_records(index: int) -> st.SearchStrategy[LayerRecord]:
    """A layer at a place in the stack."""
    return built(
        LayerRecord,
        index=st.just(index),
        path=_texts,
        mixer=st.sampled_from(["attention", "mamba", "gated_deltanet", "none", "attention+mamba"]),
        mlp=st.sampled_from(["dense", "experts", "none"]),
        n_parameters=st.integers(0, 10**12),
    )


def model_records(n_layers: int) -> st.SearchStrategy[ModelRecord]:
    """A model of so many layers."""
    return built(
        ModelRecord,
        name=_texts,
        class_name=_texts,
        revision=st.none() | _texts,
        layers=st.tuples(*(layer_records(index) for index in range(n_layers))),
        d_model=st.integers(1, 2**20),
        d_vocab=st.integers(1, 2**20),
        n_parameters=st.integers(0, 10**13),
        device=_texts,
        dtype=_texts,
        fingerprint=_texts,
    )


def self_checks() -> st.SearchStrategy[SelfCheck]:
    """Proofs at load, passed where the error is within the tolerance."""
    checks = built(
        Check,
        name=_texts,
        error=_errors,
        tolerance=_errors,
        unit=st.sampled_from(["nats", "bits", "relative"]),
        passed=st.just(False),
        meaning=_texts,
    ).map(lambda check: replace(check, passed=check.error <= check.tolerance))
    return built(
        SelfCheck,
        checks=st.lists(checks, max_size=3).map(tuple),
        method=st.sampled_from(["ladder", "plain"]),
        row_by_row=st.booleans(),
        notes=st.lists(_texts, max_size=2).map(tuple),
    )


@st.composite
def prompt_records(draw: st.DrawFn, d_vocab: int) -> PromptRecord:
    """Prompts with and without texts and answers, for a model that predicts so many tokens."""
    answer_ids = draw(_id_tuples)
    predicted = st.integers(0, d_vocab - 1)
    judged = st.none() | st.booleans() if answer_ids else st.none()
    prompt: PromptRecord = draw(_prompt_records(answer_ids, predicted, judged))
    return prompt


def _prompt_records(
    answer_ids: tuple[int, ...], predicted: st.SearchStrategy[int], judged: st.SearchStrategy[bool | None]
) -> st.SearchStrategy[PromptRecord]:
    return built(
        PromptRecord,
        prompt_ids=_id_tuples,
        answer_ids=st.just(answer_ids),
        target_ids=st.lists(predicted, min_size=1, max_size=4).map(tuple),
        top_id=predicted,
        top_prob=st.floats(0, 1),
        solved=judged,
        prompt_text=st.none() | _texts,
        answer_text=st.none() | _texts,
        begins=judged,
        n_lead=st.integers(0, len(answer_ids)),
        other_answer_ids=st.lists(_id_tuples, max_size=2).map(tuple),
        other_answer_texts=st.lists(_texts, max_size=2).map(tuple),
    )


def perturbations() -> st.SearchStrategy[Mask | Noise | Skip]:
    """Perturbations of every kind."""
    sites = st.sampled_from(["block_output", "mixer_output", "mlp_output"])
    positions = st.sampled_from(["all", "last"])
    masks = built(
        Mask,
        fraction=st.sampled_from([0.5, 0.25, 0.2, 0.1]),
        site=sites,
        draws=st.integers(1, 9),
        scheme=st.sampled_from(["partition", "random"]),
        fill=st.sampled_from(["zero", "mean", "resample"]),
        positions=positions,
        seed=st.integers(0, 2**31),
    )
    noises = built(Noise, scale=st.floats(0, 10), site=sites, draws=st.integers(1, 9), positions=positions)
    # Of the state nothing but all of its positions can be perturbed, and masked entries are zero.
    states = built(Mask, fraction=st.sampled_from([0.5, 0.2]), site=st.just("state"), draws=st.integers(1, 9))
    return masks | noises | states | built(Skip, positions=positions)


def trace_specs() -> st.SearchStrategy[TraceSpec]:
    """Questions of every kind."""
    onsets = [
        {"kind": "rise", "delta": 0.05, "sigmas": 2.0, "floor": 0.01},
        {"kind": "half_max"},
        {"kind": "of a later version"},
    ]
    return built(
        TraceSpec,
        task=json_mappings(),
        perturbation=perturbations().map(lambda perturbation: perturbation.to_dict()),
        onset=st.sampled_from(onsets),
        target=st.sampled_from(["answer", "model"]),
        target_tokens=st.sampled_from(["first", "all"]),
        seed=st.integers(0, 2**31),
    )


def arrays(*shape: int, kind: str, high: int = 1) -> st.SearchStrategy[np.ndarray]:
    """Arrays out of a seed, with special values strewn in.

    Args:
        *shape: Their shape.
        kind: "log_prob" (up to 0), "share" (0 to 1), "ratio" (from 1, infinite or NaN), "id" (below `high`) or "bool".
        high: What ids are below.
    """
    special = {"log_prob": [-np.inf, 0], "share": [0, 1], "ratio": [1, np.inf, np.nan]}

    def fill(seed: int) -> np.ndarray:
        generator = np.random.default_rng(seed)
        if kind == "id":
            return generator.integers(0, high, shape, dtype=np.int32)
        if kind == "bool":
            return generator.random(shape) < 0.5
        values = generator.standard_cauchy(shape).astype(np.float32)
        values = {"log_prob": -np.abs(values), "share": np.abs(np.sin(values)), "ratio": 1 + np.abs(values)}[kind]
        chosen = generator.choice(np.array(special[kind], dtype=np.float32), shape)
        return np.where(generator.random(shape) < 0.2, chosen, values)

    return st.integers(0, 2**32 - 1).map(fill)


def _top_tokens(n_prompts: int, n_layers: int, top_k: int, d_vocab: int) -> st.SearchStrategy[dict[str, np.ndarray]]:
    """Different ids and their probabilities, the largest first, often equal."""

    def fill(seed: int) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(seed)
        ids = [generator.permutation(d_vocab)[:top_k] for _ in range(n_prompts * n_layers)]
        shares = np.round(generator.dirichlet(np.ones(top_k + 1), (n_prompts, n_layers)), 1 + seed % 9)[..., :top_k]
        shares = np.minimum(shares, 1 / max(1, top_k)) if seed % 5 == 0 else shares / max(1, shares.sum(-1).max())
        shape = (n_prompts, n_layers, top_k)
        return {"top_ids": np.array(ids, np.int32).reshape(shape), "top_prob": -np.sort(-shares).astype(np.float32)}

    return (
        st.integers(0, 2**32 - 1).map(fill)
        if n_prompts
        else st.just(
            {
                "top_ids": np.zeros((0, n_layers, top_k), np.int32),
                "top_prob": np.zeros((0, n_layers, top_k), np.float32),
            }
        )
    )


def _with_missing_layers(js_bits: np.ndarray, missing: list[bool]) -> np.ndarray:
    js_bits[..., np.flatnonzero(missing)] = np.nan
    return js_bits


@st.composite
def trace_records(draw: st.DrawFn) -> TraceRecord:
    """Traces of every size from no prompt on, of any text, with what a trace can measure: infinities, layers of NaN."""
    n_prompts, n_layers = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    model = draw(model_records(n_layers))
    spec = draw(trace_specs())
    n_draws, top_k = spec.perturbation["draws"], draw(st.integers(0, min(3, model.d_vocab)))
    status = draw(st.sampled_from(["complete", "interrupted", "failed"]))
    error = st.fixed_dictionaries({"type": _texts, "message": _texts})
    missing = draw(st.lists(st.booleans(), min_size=n_layers, max_size=n_layers))
    fields = {
        "spec": st.just(spec),
        "model": st.just(model),
        "self_check": self_checks(),
        "provenance": json_mappings(),
        "prompts": st.tuples(*(prompt_records(model.d_vocab) for _ in range(n_prompts))),
        "target_log_prob": arrays(n_prompts, n_layers, kind="log_prob"),
        "embedding_log_prob": arrays(n_prompts, kind="log_prob"),
        "target_rank": arrays(n_prompts, n_layers, kind="id", high=model.d_vocab).map(lambda rank: rank + 1),
        "entropy_bits": arrays(n_prompts, n_layers, kind="share").map(lambda share: share * np.log2(model.d_vocab)),
        "js_bits": arrays(n_prompts, n_draws, n_layers, kind="share").map(lambda js: _with_missing_layers(js, missing)),
        "dominant_dimension": arrays(n_layers, kind="id", high=model.d_model),
        "dominant_ratio": arrays(n_layers, kind="ratio"),
        "dominant_hit": arrays(n_draws, n_layers, kind="bool"),
        "tokens": st.dictionaries(_ids, _texts, max_size=3),
        "method": st.sampled_from(["ladder", "plain"]),
        "status": st.just(status),
        "error": error if status == "failed" else st.none(),
        "warnings": st.lists(_texts, max_size=2).map(tuple),
        "elapsed_s": st.floats(0, 1e9),
        "n_requested": st.integers(n_prompts, 100),
    }
    tops = draw(_top_tokens(n_prompts, n_layers, top_k, model.d_vocab))
    return draw(built(TraceRecord, **fields, **{name: st.just(array) for name, array in tops.items()}))


# ---------------------------------------------------------------- measures


def make_curves(
    prob: Float[np.ndarray, "*batch layer"],
    embedding_prob: Float[np.ndarray, "*batch"] | None = None,
    top1_share: Float[np.ndarray, "*batch layer"] | None = None,
) -> TargetCurves:
    """Curves from probabilities; the embeddings know as much as the first layer, and the target is top above 0.5."""
    first = prob[..., 0] if embedding_prob is None else embedding_prob
    with np.errstate(divide="ignore"):
        log_prob, embedding_log_prob = np.log(prob), np.asarray(np.log(first))
    share = (prob > 0.5).astype(float) if top1_share is None else top1_share
    return TargetCurves(log_prob=log_prob, embedding_log_prob=embedding_log_prob, top1_share=share)


@st.composite
def target_curves(
    draw: st.DrawFn, *, max_prompts: int = 6, max_layers: int = 10, smallest_percent: int = 0
) -> TargetCurves:
    """Curves of shape [prompt, layer] in whole percents, so that exact arithmetic can check them."""
    n_prompts = draw(st.integers(1, max_prompts))
    n_layers = draw(st.integers(1, max_layers))
    percent = draw(hnp.arrays(np.int64, (n_prompts, n_layers + 1), elements=st.integers(smallest_percent, 100)))
    top = draw(hnp.arrays(np.bool_, (n_prompts, n_layers)))
    return make_curves(percent[:, 1:] / 100, percent[:, 0] / 100, top.astype(float))


def onset_criteria() -> st.SearchStrategy[OnsetCriterion]:
    """Every kind of onset criterion, with parameters in their range."""
    return st.one_of(rises(), upward_criteria(), built(AbsRatio, eps=st.floats(1e-9, 1.0)), st.just(FirstTop1()))


def rises() -> st.SearchStrategy[Rise]:
    """`Rise` with any parameters, the rule of sigmas off included."""
    return built(
        Rise,
        delta=st.floats(1e-3, 1.0),
        sigmas=st.one_of(st.floats(0.0, 10.0), st.just(np.inf)),
        floor=st.floats(0.0, 0.5),
    )


def upward_criteria() -> st.SearchStrategy[OnsetCriterion]:
    """Criteria that look for a rise in the probability and find a planted step of 1 % to 60 %."""
    return st.sampled_from([Rise(), Rise(sigmas=np.inf), Ratio(), HalfMax(), ChangePoint()])


@st.composite
def js_arrays(
    draw: st.DrawFn, *, max_prompts: int = 5, max_draws: int = 4, max_layers: int = 8
) -> Float[np.ndarray, "prompt draw layer"]:
    """JS divergences of shape [prompt, draw, layer] in whole percents of a bit."""
    shape = (
        draw(st.integers(1, max_prompts)),
        draw(st.integers(1, max_draws)),
        draw(st.integers(1, max_layers)),
    )
    return draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 100))) / 100


# ---------------------------------------------------------------- tasks


def task_words() -> st.SearchStrategy[str]:
    """Words as files may hold them: any script, quotes, commas and inner spaces, no white space at the ends."""
    letters = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
    return st.text(letters, min_size=1, max_size=6).map(str.strip).filter(bool)


def word_pairs(*, min_size: int = 2, max_size: int = 12) -> st.SearchStrategy[list[tuple[str, str]]]:
    """Input and output of every pair of a task in which each word stands once, whatever its case."""

    def pair_up(words: list[str]) -> list[tuple[str, str]]:
        return list(zip(words[::2], words[1::2], strict=False))

    words = st.lists(task_words(), min_size=2 * min_size, max_size=2 * max_size, unique_by=str.casefold)
    return words.map(pair_up)
