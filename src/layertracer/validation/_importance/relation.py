"""Faithfulness of a linear relation: whether one linear map says of held-out subjects what the model says.

The map is o = β J s + b: s leaves a layer at the subject's last token, o leaves the last layer at the end of the
prompt, J is the mean Jacobian of o with respect to s over a few subjects and b the mean of o − J s (Hernandez et al.
2024). The layer and β are chosen on some held-out subjects, and judged on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from layertracer._errors import TaskError, UsageError
from layertracer._types import Interval, Sample
from layertracer.measures import wilson
from layertracer.tasks import Task, read_ids
from layertracer.tracing import (
    NotMeasured,
    SubjectStates,
    TracedModel,
    TraceOptions,
    encode_facts,
    map_subjects,
    read_subjects,
    top_tokens,
)

_LEAST_JUDGED = 4
BETAS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
"""Factors that are chosen from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationFaithfulness:
    """How often a linear map says what the model says.

    Attributes:
        layer: The layer that was chosen.
        beta: The factor that was chosen.
        faithfulness: Share of held-out subjects for which the map gives the model's own next token; NaN where it is not
            measured.
        interval: Its interval (Wilson); None likewise.
        without_subject: The same share for the mean object of the fitted subjects, whatever the subject: what the
            relation says of anyone.
        n_fit: Subjects that the map is of.
        n_chosen_on: Subjects on which layer and factor were chosen.
        n_test: Subjects that it was judged on.
        by_layer: On the subjects that layer and factor were chosen on, the best share of each layer.
        why_not: Why it is not measured; "" where it is.
    """

    layer: int | None
    beta: float
    faithfulness: float
    interval: Interval | None
    without_subject: float
    n_fit: int
    n_chosen_on: int
    n_test: int
    by_layer: dict[int, float]
    why_not: str = ""


def relation_faithfulness(
    model: TracedModel,
    samples: Task | Sequence[Sample],
    *,
    layers: Sequence[int] | None = None,
    n_fit: int = 5,
    betas: Sequence[float] = BETAS,
    seed: int = 0,
    **chat: Any,
) -> RelationFaithfulness:
    """How often one linear map of subjects gives the model's own object.

    Subjects are told apart by their tokens; no subject is both fitted on, chosen on and judged.

    Args:
        model: From `load_model` or `wrap_model`.
        samples: Prompts of one relation, each with its subject (`subject` or `subject_span`), up to where the object
            begins. What the model says there is the object, whatever the samples' answers are.
        layers: Layers that are chosen from; all but the last by default.
        n_fit: How many subjects the map is of.
        betas: Factors that are chosen from.
        seed: Draws which subjects are which.
        **chat: How a chat is written, as for a trace.

    Raises:
        TaskError: If there are too few subjects, or one is not found in its prompt.
        UsageError: If layers do not exist.
    """
    n_layers = model.anatomy.n_layers
    chosen_from = tuple(range(n_layers - 1)) if layers is None else tuple(layers)
    _check(chosen_from, n_layers=n_layers)
    prompts, spans = _read(model, samples, TraceOptions(seed=seed, **chat))
    fit, choose, test = _split(prompts, spans, n_fit=n_fit, seed=seed)
    ends = [end - 1 for _, end in spans]
    try:
        states = read_subjects(model, prompts, ends)
        maps = _fit(model, prompts, ends, states=states, layers=chosen_from, fit=fit)
    except NotMeasured as reason:
        return _unmeasured(str(reason), len(fit), len(choose), len(test))
    shares = {
        (layer, beta): one.share_right(model, states, choose, beta=beta)
        for layer, one in maps.items()
        for beta in betas
    }
    layer, beta = max(shares, key=lambda pair: (shares[pair], -pair[0], -pair[1]))
    faithfulness = maps[layer].share_right(model, states, test, beta=beta)
    return RelationFaithfulness(
        layer=layer,
        beta=beta,
        faithfulness=faithfulness,
        interval=wilson(round(faithfulness * len(test)), len(test)),
        without_subject=_share(top_tokens(model, states.objects[fit].mean(axis=0)[None]), states, test),
        n_fit=len(fit),
        n_chosen_on=len(choose),
        n_test=len(test),
        by_layer={one: max(shares[one, factor] for factor in betas) for one in chosen_from},
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Map:
    """The map of one layer."""

    layer: int
    matrix: Float[np.ndarray, "width width"]
    bias: Float[np.ndarray, " width"]

    def share_right(self, model: TracedModel, states: SubjectStates, rows: Sequence[int], *, beta: float) -> float:
        """Share of some subjects for which it gives the model's own next token."""
        objects = beta * states.subjects[rows, self.layer] @ self.matrix.T + self.bias
        return _share(top_tokens(model, objects), states, rows)


def _fit(
    model: TracedModel,
    prompts: Sequence[Sequence[int]],
    ends: Sequence[int],
    *,
    states: SubjectStates,
    layers: Sequence[int],
    fit: Sequence[int],
) -> dict[int, _Map]:
    """The maps of all layers from some prompts."""
    own = replace(states, subjects=states.subjects[fit], objects=states.objects[fit], top_ids=states.top_ids[fit])
    positions = [ends[one] for one in fit]
    maps = map_subjects(model, [prompts[one] for one in fit], positions, layers=layers, states=own)
    return {
        layer: _Map(layer=layer, matrix=maps.matrices[which], bias=maps.biases[which])
        for which, layer in enumerate(layers)
    }


def _share(found: Int[np.ndarray, " row"], states: SubjectStates, rows: Sequence[int]) -> float:
    return float((found == states.top_ids[rows]).mean())


def _check(layers: Sequence[int], *, n_layers: int) -> None:
    outside = [layer for layer in layers if not 0 <= layer < n_layers]
    if outside or not layers:
        raise UsageError(f"layers must be of 0 to {n_layers - 1}, got {list(layers)}. Leave them out for all.")


def _read(
    model: TracedModel, samples: Task | Sequence[Sample], options: TraceOptions
) -> tuple[list[tuple[int, ...]], list[tuple[int, int]]]:
    """Token ids of each prompt up to where its object begins, and where its subject stands."""
    prompts, spans = [], []
    for number, sample in enumerate(encode_facts(model, samples, options)):
        if sample.subject_span is None:
            raise TaskError(
                f"Sample {number} has no subject, or it is not found in its prompt. Give subject= (its words as they "
                "stand in the prompt) or subject_span= (its first position and the one behind its last)."
            )
        prompts.append(read_ids(sample))
        spans.append(sample.subject_span)
    return prompts, spans


def _split(
    prompts: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]], *, n_fit: int, seed: int
) -> tuple[list[int], list[int], list[int]]:
    """Prompts to fit, to choose and to judge on, one of each subject."""
    subjects = (tuple(prompt[first:end]) for prompt, (first, end) in zip(prompts, spans, strict=True))
    by_subject = {subject: number for number, subject in enumerate(subjects)}
    mixed = np.random.default_rng([seed, len(by_subject)]).permutation(list(by_subject.values())).tolist()
    n_held = len(mixed) - n_fit
    if n_fit < 1 or n_held < 2 * _LEAST_JUDGED:
        raise TaskError(
            f"A linear relation needs {n_fit} subjects to fit on and {2 * _LEAST_JUDGED} to hold out, got {len(mixed)} "
            "different ones. Give more subjects of the relation, or a smaller n_fit."
        )
    return mixed[:n_fit], mixed[n_fit : n_fit + n_held // 2], mixed[n_fit + n_held // 2 :]


def _unmeasured(reason: str, n_fit: int, n_chosen_on: int, n_test: int) -> RelationFaithfulness:
    return RelationFaithfulness(
        layer=None,
        beta=float("nan"),
        faithfulness=float("nan"),
        interval=None,
        without_subject=float("nan"),
        n_fit=n_fit,
        n_chosen_on=n_chosen_on,
        n_test=n_test,
        by_layer={},
        why_not=reason,
    )
