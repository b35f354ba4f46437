"""Layer measures and lenses of a trace, whatever they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from layertracer._types import LayerMeasure, TaskParticle
from layertracer.reports._values.findings import prob_curve
from layertracer.reports._values.numbers import show_interval, show_number, show_share
from layertracer.reports._values.parts import Curve, Strip, Table
from layertracer.reports._values.visible import shorten, visible_line
from layertracer.runs import LensRecord, TraceRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class LensAnswer:
    """What a lens reads.

    Attributes:
        name: Its name.
        meaning: What it does.
        particle: Where the target first rises through it.
        target: Mean probability of the target after each layer.
        embedding: The same read from the embeddings.
    """

    name: str
    meaning: str
    particle: TaskParticle
    target: Curve
    embedding: float


def lens_answers(record: TraceRecord) -> tuple[LensAnswer, ...]:
    """What the lenses beside the logit lens read; nothing where no prompt was finished."""
    return tuple(_answer(record, lens) for lens in record.lenses.values()) if record.n_prompts else ()


def _answer(record: TraceRecord, lens: LensRecord) -> LensAnswer:
    return LensAnswer(
        name=visible_line(lens.name),
        meaning=shorten(visible_line(lens.meaning), 400),
        particle=lens.task_particle,
        target=prob_curve(record, lens.target_prob),
        embedding=float(lens.embedding_prob.mean()),
    )


def lenses_table(record: TraceRecord, answers: tuple[LensAnswer, ...]) -> Table:
    """One row per lens, the logit lens first: where the task starts through it."""
    particles = [("logit", "the stream as it is", record.task_particle)]
    particles += [(answer.name, answer.meaning, answer.particle) for answer in answers]
    rows = tuple(
        (
            name,
            "none" if particle.layer is None else str(particle.layer),
            show_interval(particle.interval),
            show_share(particle.share_found),
            meaning,
        )
        for name, meaning, particle in particles
    )
    return Table(columns=("Lens", "Task particle", "Interval", "Found on", "What it does"), rows=rows,
                 numeric=frozenset({1, 2, 3}))  # fmt: skip


def lens_strips(answers: tuple[LensAnswer, ...]) -> tuple[Strip, ...]:
    """What each lens reads of the target after every layer."""
    return tuple(
        Strip(
            title=f"Target probability through the lens {answer.name}",
            unit="probability",
            values=answer.target.mean,
            kind="magnitude",
            marked=answer.particle.layer,
            mark_label=None if answer.particle.layer is None else f"task particle {answer.particle.layer}",
        )
        for answer in answers
    )


def measure_strips(record: TraceRecord) -> tuple[Strip, ...]:
    """The mean of every layer measure."""
    return tuple(_measure_strip(measure) for measure in record.measures.values())


def _measure_strip(measure: LayerMeasure) -> Strip:
    finite = measure.mean[np.isfinite(measure.mean)]
    return Strip(
        title=measure_title(measure),
        unit=visible_line(measure.unit),
        values=measure.mean,
        kind="signed" if (finite < 0).any() else "magnitude",
        marked=None,
        mark_label=None,
        missing="no value here" if finite.size < measure.mean.size else None,
    )


def measure_title(measure: LayerMeasure) -> str:
    """A measure's name as a heading."""
    words = visible_line(measure.name).replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def measure_columns(record: TraceRecord) -> dict[str, list[str]]:
    """A column of every layer measure's means, by its heading."""
    return {
        f"{measure_title(measure)}, {visible_line(measure.unit)}": [
            "–" if np.isnan(value) else show_number(float(value)) for value in measure.mean
        ]
        for measure in record.measures.values()
    }
