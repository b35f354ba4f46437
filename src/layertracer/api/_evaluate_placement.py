"""What a placement of substitutes costs, without any search."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from layertracer._errors import UsageError
from layertracer._types import Substitute, checked_substitute, checked_whole
from layertracer.advice import Placement, PlacementEvaluation
from layertracer.advice import load_placement as load_stored
from layertracer.api._asked import ModelLike
from layertracer.api._asked_rows import tasks_for, text_for
from layertracer.api._taken import refused, take_model, take_path

if TYPE_CHECKING:
    from layertracer.tracing import TracedModel
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    TracedModel = Any


def evaluate_placement(  # noqa: PLR0913 - what users call takes its settings by name
    model: ModelLike,
    rows: Any = None,
    *,
    kept: Any = None,
    substitute: Substitute | None = None,
    placement: Any = None,
    tasks: Any = (),
    row_tokens: SupportsIndex | None = None,
    n_rows: SupportsIndex = 16,
    n_prompts: SupportsIndex = 32,
    seed: SupportsIndex = 0,
    audit: float = 0.1,
    memory: str | int | None = None,
) -> PlacementEvaluation:
    """What it costs that only some layers keep their mixers, beside the full model.

    Every position from `size + sinks` of a window on is read, counted from 0, and the answers of tasks, whose prompts
    must be longer than that. A row is read as it is, from its first token on.

    Laws: with all layers kept, or where a window reaches over every row, the divergence is 0 exactly; the same inputs
    and seed give the same numbers.

    Args:
        model: From `load_model` or `wrap_model`; or what those take.
        rows: What the divergence is measured on: rows of token ids (lists, an array, a tensor), all of which are taken
            as they are; a file, a text or a list of texts, which are cut into passages; None for text that the model
            writes itself; False for none.
        kept: Layers that keep their mixers, e.g. [0, 5, 11].
        substitute: What stands in the other layers: `Window(64, sinks=4)`, `NoMixer()` or `MeanMixer()`.
        placement: Instead of the two, a placement: of `design`, of `load_placement`, or the path of its file.
        tasks: Tasks whose prompts are to be solved: names ("recall" and other built-in ones are made longer than the
            window), files, what `load_task` returns, or prompts with answers; one or several.
        row_tokens: Tokens of a passage of text; at least 160, and thrice what a window sees, where left out.
        n_rows: Passages of a text, at most.
        n_prompts: Prompts of a built-in task that is given by its name.
        seed: Seed of built-in tasks, of text that the model writes, of intervals, and of what the audit draws.
        audit: Share of what is measured that is measured again, one row and one forward at a time.
        memory: Memory that passes may take, e.g. "4GiB".

    Returns:
        `kl_nats`, `kl_interval`, `nll_change`, `nll_interval`, `accuracy` by task, `kept`, and what must be said.

    Raises:
        UsageError: If it is not said which layers are kept, or what stands in the others, a layer cannot be
            substituted, or a window leaves every row or prompt as it is; the message has their lengths.
        TaskError: If a text or a task cannot be read, or the model solves too few prompts and there is nothing else.
        SiteError: If the substitute can stand in no layer of the model, or it has an encoder.
        RunError: If the file of a placement cannot be read, or is none.
        NonFiniteError: If a distribution is not finite.
        OutOfMemoryError: If not even one row fits.
    """
    from layertracer.hybrids import Judged, evaluate

    given = None if placement is None else _take_placement(placement, kept=kept, substitute=substitute)
    layers, stands = _take_layers(kept, substitute) if given is None else (given.layers, given.substitute)
    taken = take_model(model)
    if given is not None:
        _refuse_other_model(given, taken)
    judged = Judged(
        text=None if rows is False else text_for(taken, "rows", rows),
        with_text=rows is not False,
        tasks=tasks_for(taken, tasks),
        n_rows=_at_least_one("n_rows", n_rows),
        n_prompts=_at_least_one("n_prompts", n_prompts),
        row_tokens=None if row_tokens is None else _at_least_one("row_tokens", row_tokens),
    )
    return evaluate(taken, stands, layers, judged, seed=checked_whole("seed", seed), audit=audit, memory=memory)


def load_placement(path: str | Path) -> Placement:
    """A placement out of the file that `Placement.save` wrote; needs no torch.

    Args:
        path: The file.

    Returns:
        Its layers, substitute, model and configuration; what it cost is not read back.

    Raises:
        RunError: If there is no such file, or it cannot be read.
        DamagedRunError: If it is no placement, or holds what cannot be; the message has the place.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    return load_stored(take_path("path", path))


def _take_placement(placement: object, *, kept: object, substitute: object) -> Placement:
    """A placement, out of one or the path of its file.

    Raises:
        UsageError: If it is neither, or layers or a substitute are given beside it.
    """
    if kept is not None or substitute is not None:
        raise UsageError(
            "placement= says which layers are kept and what stands in the others: leave kept= and substitute= out."
        )
    if isinstance(placement, str | os.PathLike):
        return load_placement(Path(placement))
    if not isinstance(placement, Placement):
        raise refused("placement", placement, "Give one of design or load_placement, or the path of its file.")
    return placement


def _take_layers(kept: object, substitute: object) -> tuple[tuple[int, ...], Substitute]:
    """The layers kept, and what stands in the others.

    Raises:
        UsageError: If one is missing, or none of what it must be.
    """
    plain = kept.tolist() if hasattr(kept, "tolist") else kept
    if isinstance(plain, str | bytes) or not isinstance(plain, Iterable):
        raise refused("kept", kept, "Give the layers that keep their mixers, e.g. kept=[0, 5, 11], or a placement=.")
    hint = "Give the indices of layers from 0, e.g. kept=[0, 5, 11]."
    layers = tuple(checked_whole("Each layer of kept", layer, hint=hint) for layer in plain)
    if substitute is None:
        raise UsageError("It is not said what stands in the layers that are not kept. Give substitute=lt.Window(64).")
    return tuple(sorted(set(layers))), checked_substitute(substitute)


def _refuse_other_model(placement: Placement, model: TracedModel) -> None:
    """Raise for a placement of a model of another depth.

    Raises:
        UsageError: If that is so.
    """
    if placement.n_layers != model.anatomy.n_layers:
        raise UsageError(
            f"The placement is of {placement.model!r} with {placement.n_layers} layers, and {model.name!r} has "
            f"{model.anatomy.n_layers}. Give a placement of this model."
        )


def _at_least_one(name: str, given: object) -> int:
    number = checked_whole(name, given)
    if number < 1:
        raise UsageError(f"{name} must be at least 1, got {number}.")
    return number
