"""The tables of a report: numbers per layer and per prompt, provenance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from layertracer.measures import Sensitivity
from layertracer.reports._values.facts import fact_name, fact_value
from layertracer.reports._values.named import measure_columns
from layertracer.reports._values.numbers import show_duration, show_number, show_parameters, show_share
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Curve, Fact, Table
from layertracer.reports._values.prompts import prompt_label, target_label, token_label
from layertracer.reports._values.visible import isolate, visible_line
from layertracer.reports._values.wording import anatomy_facts, criterion_name, missing_part, perturbation_clause
from layertracer.runs import PromptRecord, TraceRecord


def layer_table(record: TraceRecord, overview: Overview) -> Table:
    """Every number per layer that the figures draw."""
    target, js, gains = overview.target, overview.js, overview.strips[0].values
    missing = set(record.layers_without_site)
    dominant_columns, dominant_cells = _dominant_columns(record)
    measured = measure_columns(record)
    columns = (
        *("Layer", "Mixer", "Target probability", "Interval", "Gain", "JS, bits", "Interval"),
        *dominant_columns,
        *measured,
    )
    rows = tuple(
        (
            str(layer.index),
            visible_line(layer.mixer),
            show_number(target.mean[i]),
            _show_band(target, i),
            show_number(gains[i], digits=2, sign=True),
            missing_part(record.spec) if i in missing else show_number(js.mean[i]),
            _show_band(js, i),
            *dominant_cells[i],
            *(cells[i] for cells in measured.values()),
        )
        for i, layer in enumerate(record.model.layers)
    )
    return Table(columns=columns, rows=rows, numeric=frozenset({0, *range(2, len(columns))}))


def _show_band(curve: Curve, layer: int) -> str:
    """Both ends of a curve's interval at a layer; a dash where there is none."""
    if not np.isfinite(curve.low[layer]):
        return "–"
    return f"{show_number(curve.low[layer], digits=2)} to {show_number(curve.high[layer], digits=2)}"


def _dominant_columns(record: TraceRecord) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and cells on the dominant dimensions; none where there are no such."""
    dominant, missing = record.dominant, set(record.layers_without_site)
    if not dominant.is_known:
        return (), [()] * record.n_layers
    cells: list[tuple[str, ...]] = [
        (
            "–" if i in missing else str(int(dominant.dimension[i])),
            show_number(float(dominant.ratio[i]), digits=2),
            show_share(float(dominant.js_share[i])),
            show_share(float(dominant.draw_share[i])),
        )
        for i in range(record.n_layers)
    ]
    return ("Largest dimension", "× median", "Share of JS", "By chance"), cells


def sensitivity_table(sweep: Sensitivity) -> Table:
    """The task particle at every value of its criterion's parameter."""
    texts = tuple(
        (f"{value:g}", "none" if layer is None else str(layer), show_share(share))
        for value, layer, share in zip(sweep.values, sweep.layers, sweep.share_found, strict=True)
    )
    columns = (f"Value of {sweep.parameter}", "Layer of the mean curve", "Found on")
    return Table(columns=columns, rows=texts, numeric=frozenset({0, 1, 2}))


def prompt_table(record: TraceRecord, n_rows: int) -> Table:
    """One row per prompt."""
    columns = ("#", "Prompt", "Target", "Own top token", "Its probability", "Solved", "Final probability",
               "Final rank", "Task particle", "Largest JS at")  # fmt: skip
    return Table(columns=columns, rows=tuple(_prompt_rows(record, n_rows)), numeric=frozenset({0, 4, 6, 7, 8, 9}))


def _prompt_rows(record: TraceRecord, n_rows: int) -> Iterator[tuple[str, ...]]:
    particles = record.task_particle.per_prompt
    vulnerable = record.vulnerable_layer.per_prompt if record.n_draws else ()
    final = record.target_prob[:, -1]
    for row, prompt in enumerate(record.prompts[:n_rows]):
        particle = particles[row]
        yield (
            str(row),
            isolate(prompt_label(record, row)),
            isolate(target_label(record, row)),
            isolate(token_label(record, prompt.top_id)),
            show_number(prompt.top_prob),
            _solved(prompt),
            show_number(float(final[row])),
            f"{int(record.target_rank[row, -1]):,}",
            "none" if particle is None else str(particle),
            str(vulnerable[row]) if vulnerable else "–",
        )


def _solved(prompt: PromptRecord) -> str:
    """Whether the model gives the answer: all of it, or its beginning."""
    if prompt.solved is None:
        return "–" if prompt.begins is None else "begins" if prompt.begins else "no"
    return "yes" if prompt.solved else "begins" if prompt.begins else "no"


def question_facts(record: TraceRecord) -> tuple[Fact, ...]:
    """What was asked."""
    spec = record.spec
    tokens = "its first token" if spec.target_tokens == "first" else "all of its tokens"
    followed = "the sample's answer" if spec.target == "answer" else "the model's own top token"
    task = [
        Fact(f"Task {visible_line(str(key)).replace('_', ' ')}", fact_value(value)) for key, value in spec.task.items()
    ]
    return (
        *task,
        Fact("Target", f"{followed}, {tokens}"),
        Fact("Onset criterion", criterion_name(spec.onset)),
        Fact("Perturbation", f"{perturbation_clause(spec)}; {fact_value(spec.perturbation)}"),
        Fact("Bootstrap seed", str(spec.seed)),
    )


def provenance_facts(record: TraceRecord) -> tuple[Fact, ...]:
    """Which model ran where, and with what."""
    model = record.model
    facts = [
        Fact("Model", visible_line(model.name)),
        Fact("Class", visible_line(model.class_name)),
        Fact("Revision", visible_line(model.revision or "–")),
        Fact("Anatomy", ", ".join(anatomy_facts(model))),
        Fact("Parameters", f"{model.n_parameters:,} ({show_parameters(model.n_parameters)})"),
        Fact("Fingerprint of weights and settings", visible_line(model.fingerprint)),
        Fact("Method", "ladder (one pass)" if record.method == "ladder" else "plain (one hooked forward at a time)"),
        Fact("Prompts", f"{record.n_prompts:,} of {record.n_requested:,}, {record.n_draws} draws"),
        Fact("Time", show_duration(record.elapsed_s)),
    ]
    return (*facts, *(Fact(fact_name(key), fact_value(value)) for key, value in record.provenance.items()))
