"""Lenses fitted to a model: text split three ways, translators fitted, chosen and reported on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import UsageError
from layertracer._types import checked_name, checked_whole, shown
from layertracer.models import without_gradients
from layertracer.tracing._failures import shielded
from layertracer.tracing._lens_fitting.jacobian import JACOBIAN_LEAST, fit_jacobian
from layertracer.tracing._lens_fitting.kl_gradient import refuse_without_gradient
from layertracer.tracing._lens_fitting.lens_bench import LensBench, lens_bench
from layertracer.tracing._lens_fitting.quality import kl_by_row, report_on
from layertracer.tracing._lens_fitting.text_split import PassageSizes, TextSplit, as_text_source, split_text
from layertracer.tracing._lens_fitting.tuned import fit_tuned
from layertracer.tracing._lens_fitting.unembedding import describe_unembedding
from layertracer.tracing._lenses.affine import KINDS, AffineLens, LensKind
from layertracer.tracing._lenses.linear import LinearLens
from layertracer.tracing._lenses.logit import LogitLens
from layertracer.tracing._model import TracedModel
from layertracer.tracing._readings import Progress
from layertracer.tracing._texts.text_rows import TextSource

_LEAST_TOKENS = 8
"""Tokens of a passage for kinds that look at single positions."""
_N_CHOOSE = 256
"""Tokens that are chosen by: they are read again and again."""
_DEFAULTS: Mapping[LensKind, tuple[int, int]] = {"linear": (64, 128), "tuned": (64, 128), "jacobian": (16, 64)}
"""Passages and their tokens where nobody says: a Jacobian takes a backward pass for every dimension of the stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What is to be fitted."""

    kind: LensKind
    name: str
    n_steps: int
    n_batch: int
    seed: int
    on_progress: Callable[[Progress], None] | None


@without_gradients()
def fit_lens(  # noqa: PLR0913 - takes its settings by name, as `read_layers` does
    model: TracedModel,
    texts: TextSource | Sequence[Sequence[int]] = None,
    *,
    kind: LensKind = "tuned",
    name: str | None = None,
    n_rows: int | None = None,
    row_tokens: int | None = None,
    n_steps: int = 120,
    n_batch: int = 32,
    seed: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
) -> AffineLens:
    """A lens fitted to a model on text, and reported on text that it was not fitted on.

    The passages are split three ways: to fit on, to choose by (when to stop, and where the logit lens is as good), and
    to report on. A layer whose translation is no better than none on the second part falls back to the logit lens, and
    `fallback` names it. Positions from the second of each passage on count.

    Laws: equal arguments give equal lenses; the last layer is never translated; the model is as it was: its parameters,
    their gradients, and its mode.

    Args:
        model: From `load_model` or `wrap_model`.
        texts: A file, a text, texts, rows of token ids, samples, a task, or None for text that the model writes itself.
        kind: "linear": least squares (Din et al. 2023). "tuned": affine, KL to the final output (Belrose et al. 2023).
            "jacobian": mean Jacobians, see `fit_jacobian`.
        name: What its readings are called; its kind by default.
        n_rows: Passages, of all three parts together; None for 64, of a Jacobian lens 16.
        row_tokens: Tokens of a passage; None for 128, of a Jacobian lens 64, or fewer where the text is short.
        n_steps: The most steps of a tuned lens.
        n_batch: Tokens of each of them.
        seed: Seed of all that is drawn, and of text that the model writes itself.
        on_progress: Told how far it is.

    Raises:
        UsageError: If an argument makes no sense, the model has an encoder or a stream of several vectors a token, no
            gradient comes through it where one is needed, or a text has no tokenizer.
        TaskError: If the text is too short.
        NonFiniteError: If the output, or what the lens makes of a layer, is not finite.
        SelfCheckError: If the model's tail does not read single positions as the model does.
        OutOfMemoryError: If it does not fit.
        ModelError: If the model's own code raises anything else.
    """
    if kind not in KINDS:
        raise UsageError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {shown(kind)}. Choose one of them.")
    asked = _Asked(
        kind=kind,
        name=checked_name("lens", kind if name is None else name),
        n_steps=_positive("n_steps", n_steps),
        n_batch=_positive("n_batch", n_batch),
        seed=checked_whole("seed", seed),
        on_progress=shielded(on_progress),
    )
    with lens_bench(model, doing="while a lens was fitted") as bench:
        if kind != "linear":
            refuse_without_gradient(bench, kind=kind)
        sizes = PassageSizes(
            n_rows=_DEFAULTS[kind][0] if n_rows is None else n_rows,
            row_tokens=row_tokens,
            most_tokens=_DEFAULTS[kind][1],
            least=JACOBIAN_LEAST if kind == "jacobian" else _LEAST_TOKENS,
        )
        text = split_text(model, as_text_source(texts), sizes, seed=asked.seed)
        return _fit(bench, text, asked)


def _fit(bench: LensBench, text: TextSplit, asked: _Asked) -> AffineLens:
    """Fit, choose and report."""
    every = bench.gather(text.choose)
    choose = every[:, :: -(-every.shape[1] // _N_CHOOSE)]
    lens, facts = _FITTERS[asked.kind](bench, text, choose, asked)
    own, logit = kl_by_row(bench, choose, lens), kl_by_row(bench, choose, LogitLens())
    fallback = tuple(int(row) - 1 for row in np.flatnonzero(~(own < logit)))
    facts = {
        **facts,
        "text": text.said,
        "n_chosen_by": choose.shape[1],
        "n_passages": {"fit": len(text.fit), "choose": len(text.choose), "report": len(text.report)},
        "seed": asked.seed,
        "model": bench.model.name,
        "notes": list(text.notes),
    }
    lens = replace(lens, name=asked.name, fallback=fallback, facts=facts, unembedding=describe_unembedding(bench.model))
    reports = report_on(bench, bench.gather(text.report), [lens], on_progress=asked.on_progress)
    return replace(lens, reports={report.lens: report for report in reports})


def _fit_linear(bench: LensBench, text: TextSplit, choose: Tensor, asked: _Asked) -> tuple[AffineLens, dict[str, Any]]:
    """Least squares, layer by layer, so that little of it is there in float64 at once."""
    del choose, asked
    fit = bench.gather(text.fit)
    lenses = [LinearLens.fitted(torch.stack((rows, fit[-1]))) for rows in fit[:-1]]
    lens = AffineLens(
        kind="linear",
        weights=torch.cat([one.weights for one in lenses]),
        biases=torch.cat([one.biases for one in lenses]),
    )
    return lens, {"n_positions": fit.shape[1]}


def _fit_tuned(bench: LensBench, text: TextSplit, choose: Tensor, asked: _Asked) -> tuple[AffineLens, dict[str, Any]]:
    fit = bench.gather(text.fit)
    found = fit_tuned(
        bench,
        fit,
        choose,
        n_steps=asked.n_steps,
        n_batch=asked.n_batch,
        seed=asked.seed,
        on_progress=asked.on_progress,
    )
    steps = {"n_steps": found.n_steps, "n_batch": asked.n_batch, "step_by_layer": list(found.steps)}
    return found.lens, {"n_positions": fit.shape[1], **steps}


def _fit_jacobian(
    bench: LensBench, text: TextSplit, choose: Tensor, asked: _Asked
) -> tuple[AffineLens, dict[str, Any]]:
    del choose
    found: Float[Tensor, "layer width width"] = fit_jacobian(bench, text.fit, on_progress=asked.on_progress)
    lens = AffineLens(kind="jacobian", weights=found.mT, biases=torch.zeros(found.shape[:2]))
    return lens, {"n_prompts": len(text.fit)}


_FITTERS: Mapping[LensKind, Callable[[LensBench, TextSplit, Tensor, _Asked], tuple[AffineLens, dict[str, Any]]]] = {
    "linear": _fit_linear,
    "tuned": _fit_tuned,
    "jacobian": _fit_jacobian,
}


def _positive(name: str, value: int) -> int:
    number = checked_whole(name, value)
    if number < 1:
        raise UsageError(f"{name} must be at least 1, got {number}.")
    return number
