"""Which of the things that were measured agree: layers by layers, and prompts by prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from layertracer._types import LayerMeasure
from layertracer.evidence import Agreement, CausalRecord, ParticleReading, SiteEffect
from layertracer.measures import Correlation, correlate_layers, correlate_prompts, holm
from layertracer.validation._findings.causal_depth import causal_depths

LAYERS, TEXT_LAYERS, TASK_AND_TEXT, PROMPTS = "layers", "layers on running text", "task and running text", "prompts"
METHODS = ("pearson", "spearman")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What is compared.

    Attributes:
        particles: Task particles by lens and criterion.
        effects: JS by site, on the task and on running text.
        importance: Other measures on the task.
        text_importance: Likewise on running text.
        causal: Causal tracing; None where there is none.
        units: What of the prompts would be taken anew together.
        seed: Seed of resamples and permutations.
    """

    particles: Sequence[ParticleReading]
    effects: Sequence[SiteEffect]
    importance: Mapping[str, LayerMeasure]
    text_importance: Mapping[str, LayerMeasure]
    causal: CausalRecord | None
    units: Sequence[int] | None
    seed: int


def js_name(site: str) -> str:
    """What JS at a site is called."""
    return f"js_bits at {site}"


def particle_name(reading: ParticleReading) -> str:
    """What a particle is called."""
    return f"particle ({reading.lens}, {reading.criterion})"


def find_agreements(compared: Compared) -> tuple[Agreement, ...]:
    """All that can be compared, with Holm's correction in each family.

    A family is the hypotheses of one question: JS at every site with every measure, on the task and on running text;
    JS on the task with that on text; particles with causal depths, by Pearson's correlation and by Spearman's.
    """
    found = [
        *_of_layers(compared, "task", compared.importance, LAYERS),
        *_of_layers(compared, "text", compared.text_importance, TEXT_LAYERS),
        *_task_and_text(compared),
        *_of_prompts(compared),
    ]
    return corrected(found)


def corrected(agreements: Sequence[Agreement]) -> tuple[Agreement, ...]:
    """The same with Holm's correction, family by family."""
    by_family: dict[str, list[int]] = {}
    for index, one in enumerate(agreements):
        by_family.setdefault(one.family, []).append(index)
    found = list(agreements)
    for indices in by_family.values():
        for index, p in zip(indices, holm([agreements[index].p for index in indices]), strict=True):
            found[index] = replace(found[index], p_holm=p)
    return tuple(found)


def _of_layers(compared: Compared, rows: str, measures: Mapping[str, LayerMeasure], family: str) -> Iterator[Agreement]:
    """JS at every site with every measure."""
    for effect in compared.effects:
        if effect.rows != rows:
            continue
        for name, measure in measures.items():
            correlation = _correlate(effect.js_bits, sized(measure), compared, is_task=rows == "task")
            yield _agreement(js_name(effect.site), name, family, correlation)


def sized(measure: LayerMeasure) -> Float[np.ndarray, "prompt layer"]:
    """A measure so that larger is more important: of those with a sign, how far from 0 they are."""
    values = measure.values.astype(np.float64)
    return values if measure.info.low is not None and measure.info.low >= 0 else np.abs(values)


def _task_and_text(compared: Compared) -> Iterator[Agreement]:
    """JS on the task with JS on running text, at every site."""
    on_text = {effect.site: effect for effect in compared.effects if effect.rows == "text"}
    for effect in compared.effects:
        if effect.rows == "task" and effect.site in on_text:
            correlation = correlate_layers(
                effect.js_bits, on_text[effect.site].js_bits, is_paired=False, seed=compared.seed
            )
            yield _agreement(
                f"{js_name(effect.site)} on the task",
                f"{js_name(effect.site)} on running text",
                TASK_AND_TEXT,
                correlation,
            )


def _correlate(
    one: Float[np.ndarray, "prompt layer"],
    other: Float[np.ndarray, "prompt layer"],
    compared: Compared,
    *,
    is_task: bool,
) -> Correlation:
    """Over layers, on the prompts that both have: the first ones, where one is of fewer."""
    n = min(len(one), len(other))
    units = list(compared.units)[:n] if is_task and compared.units is not None else None
    return correlate_layers(one[:n], other[:n], units=units, seed=compared.seed)


def _of_prompts(compared: Compared) -> Iterator[Agreement]:
    """Every particle with every depth of the causal effect, prompt by prompt."""
    if compared.causal is None:
        return
    depths = causal_depths(compared.causal)
    for reading in compared.particles:
        for depth, values in depths.items():
            layers = np.array([np.nan if layer is None else float(layer) for layer in reading.per_prompt])
            n = min(len(layers), len(values))
            units = None if compared.units is None else list(compared.units)[:n]
            for method in METHODS:
                correlation = correlate_prompts(
                    layers[:n],
                    values[:n],
                    method=method,  # type: ignore[arg-type]  # one of them
                    units=units,
                    seed=compared.seed,
                )
                yield _agreement(particle_name(reading), depth, f"{PROMPTS}, {method}", correlation)


def _agreement(one: str, other: str, family: str, found: Correlation) -> Agreement:
    return Agreement(
        one=one,
        other=other,
        family=family,
        method=found.method,
        value=found.value,
        interval=found.interval,
        p=found.p,
        p_holm=None,
        n_units=found.n_units,
        units=found.units,
        note=found.note,
    )
