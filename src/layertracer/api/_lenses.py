"""Lenses fitted to a model, and read from a disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from layertracer._types import LensGrid, checked_name, checked_whole
from layertracer.api._asked import LensLike, ModelLike, ProgressLike, TaskLike, prompts_for
from layertracer.api._asked_rows import text_for
from layertracer.api._progress import telling_progress
from layertracer.api._taken import refused, take_choice, take_flag, take_model

if TYPE_CHECKING:
    from layertracer.tracing import AffineLens
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    AffineLens = Any

LENS_KINDS = ("linear", "tuned", "jacobian")
"""Kinds of lenses that can be fitted."""


def fit_lens(  # noqa: PLR0913 - what users call takes its settings by name
    model: ModelLike,
    texts: Any = None,
    *,
    kind: str = "tuned",
    name: str | None = None,
    n_rows: SupportsIndex | None = None,
    row_tokens: SupportsIndex | None = None,
    seed: SupportsIndex = 0,
    progress: ProgressLike = None,
) -> AffineLens:
    """A lens fitted to a model: what each layer's residual stream is translated into before the model's tail reads it.

    Text is split three ways: to fit on, to choose by (when to stop, and where the logit lens is as good), to report on.
    A layer whose translation is no better than none falls back to the logit lens: `lens.fallback` names it.
    `lens.reports` has KL(final ‖ lens), bias and top-1 agreement by layer, for the lens and the logit lens;
    `lens.save(folder)` keeps it, and `lens=` of `trace` and `read_layers` takes it.

    Laws: equal arguments give equal lenses; the last layer is never translated; weights, gradients and their
    flags stay (a module is put into evaluation mode).

    Args:
        model: As for `trace`.
        texts: A file or a text, a list of texts, rows of token ids, a task, or None for text that the model writes
            itself.
        kind: "linear": least squares. "tuned": affine, fitted to the final output. "jacobian": mean Jacobians.
        name: What its readings are called; its kind by default.
        n_rows: Passages, of all three parts together; None for 64 (a Jacobian lens: 16).
        row_tokens: Tokens of a passage; None for 128 (a Jacobian lens: 64), or fewer where the text is short.
        seed: Seed of all that is drawn.
        progress: True for a bar, or a function of one object with `done`, `total` and `stage`.

    Raises:
        UsageError: If an argument is not of a kind that is taken, or the model is none for lenses.
        TaskError: If the text is too short.
        NonFiniteError: If the model's output, or what the lens makes of a layer, is not finite.
        SelfCheckError: If the model's tail does not read single positions as the model does.
        OutOfMemoryError: If it does not fit.
        ModelError: If the model's own code raises anything else.

    Source:
        Din et al. (2023), arXiv 2303.09435 (linear); Belrose et al. (2023), arXiv 2303.08112 (tuned); Anthropic's
        public package jlens (2026) (jacobian).
    """
    from layertracer.tracing import fit_lens as fit

    taken = take_model(model)
    with telling_progress(progress, f"Fitting a lens to {taken.name}", unit="step") as advance:
        return fit(
            taken,
            text_for(taken, "texts", texts),
            kind=take_choice("kind", kind, LENS_KINDS),  # type: ignore[arg-type]  # one of them
            name=name,
            n_rows=None if n_rows is None else checked_whole("n_rows", n_rows),
            row_tokens=None if row_tokens is None else checked_whole("row_tokens", row_tokens),
            seed=checked_whole("seed", seed),
            on_progress=advance,
        )


def load_lens(
    path: str | os.PathLike[str], model: ModelLike, *, name: str | None = None, allow_pickle: bool = False
) -> AffineLens:
    """A fitted lens from a disk, for a model.

    Args:
        path: The folder that `lens.save` or `layertracer lens fit` made; or a published lens: the folder of a tuned
            lens (`config.json`, `params.pt`), or the file of a Jacobian lens.
        model: The model that it is for, as for `trace`.
        name: What its readings are called here; None for its own name.
        allow_pickle: Whether a published lens's pickled file may be read: tensors and plain values are taken out of it,
            and no code in it runs.

    Raises:
        RunError: If there is no lens, or it is pickled and that was not allowed.
        DamagedRunError: If it is cut short, altered, holds NaN, or is something else.
        RunFormatError: If it was written by a newer version of LayerTracer.
        UsageError: If it is for a model of another width, another number of layers or another unembedding, or
            the name is no identifier.
    """
    from layertracer.tracing import load_lens as load

    if not isinstance(path, str | os.PathLike):
        raise refused("path", path, "Give the folder of a lens.")
    lens = load(Path(path), take_model(model), allow_pickle=take_flag("allow_pickle", allow_pickle))
    return lens if name is None else lens.renamed(checked_name("lens", name))


def read_grid(
    model: ModelLike,
    prompt: TaskLike,
    *,
    lens: LensLike = "logit",
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
) -> LensGrid:
    """What lenses read at every position and layer of one prompt: the most probable next token, and its probability.

    Laws: the last row is the model's own output at every position.

    Args:
        model: As for `trace`.
        prompt: One prompt: a text, token ids, a sample; of several the first.
        lens: A lens, or several, read beside the logit lens.
        chat: Whether the prompt is put into the tokenizer's chat template.
        system: Text of a system's turn before it.
        template_arguments: What else the chat template is given.

    Returns:
        The grid; `layertracer.reports.write_grid_report(grid, path)` draws it.

    Raises:
        UnknownNameError: If there is no such lens.
        UsageError: If an argument is not of a kind that is taken, or the model has an encoder.
        TaskError: If there is no prompt, or it is too long.
        NonFiniteError: If the output, or what a lens makes of a layer, is not finite.
        SelfCheckError: If the model's tail does not read single positions as the model does.
        ModelError: If the model's own code raises anything else.
    """
    from layertracer.tracing import read_grid as read

    taken = take_model(model)
    samples = prompts_for(taken, [prompt] if isinstance(prompt, str) else prompt, needs_answers=False)
    chat_asked = {"chat": take_flag("chat", chat), "system": system, "template_arguments": template_arguments}
    return read(taken, samples, lens=lens, **chat_asked)
