"""What a trace that stopped by itself is certain of, in words: the first thing that page and terminal say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layertracer._types import Certificate, name_draws
from layertracer.reports._values.numbers import show_count, show_number, show_ranges
from layertracer.reports._values.parts import Notice
from layertracer.runs import TraceSpec

_ENDINGS = {
    "prompts": "with all prompts read",
    "budget": "within the budget",
    "stopped": "before the trace was stopped",
}


def certificate_notice(certificate: Certificate, spec: TraceSpec) -> Notice:
    """Which layer is certified, or which ones can still be it; of what, and after how many cells."""
    level, cells = f"{100 * certificate.confidence:.4g} %", _show_cells(certificate)
    if certificate.layer is not None:
        title = f"Layer {certificate.layer} is the most vulnerable, certified at {level} after {cells}"
    else:
        n_left = len(certificate.contenders)
        title = f"No layer could be certified {_ENDINGS.get(certificate.ending, 'so far')} ({cells})"
        title += f"; still possible at {level}: {show_ranges(certificate.contenders)} ({show_count(n_left, 'layer')})"
    text = f"{_of_what(certificate, spec)} {_particle(certificate, level)}"
    return Notice(level="note", title=title, text=text)


def _show_cells(certificate: Certificate) -> str:
    return f"{certificate.n_cells:,} of {show_count(certificate.n_total, 'cell')}"


def _of_what(certificate: Certificate, spec: TraceSpec) -> str:
    """What is stated of which population, with the layer's own mean."""
    read = f"{certificate.n_rounds:,} of {show_count(certificate.n_prompts, 'prompt')}"
    own = "" if name_draws(spec.perturbation) == "given" else ", each with draws of its own"
    said = (
        f"Read {read}, in an order drawn by the seed{own}. The statement is of the population that these prompts are "
        f"independent draws of{_with_what(spec.task)}, and holds whenever the trace stops."
    )
    layer = certificate.layer
    if layer is None:
        return said
    low, high = certificate.low_js_bits[layer], certificate.high_js_bits[layer]
    mean, n_rounds = certificate.mean_js_bits[layer], len(certificate.js_bits[layer])
    if mean is None or low is None or high is None:
        return said
    ends = f"{show_number(low)} to {show_number(high)} in the population (all layers at once)"
    return f"{said} Its mean is {show_number(mean)} bits in its {show_count(n_rounds, 'round')}, {ends}."


def _with_what(task: Mapping[str, Any]) -> str:
    """Which demonstrations and templates the prompts are made with, and that others are not spoken of."""
    n_sets, n_templates = task.get("demonstration_sets") or 1, len(task.get("templates") or ())
    parts = []
    if task.get("n_shot"):
        parts.append("these demonstrations" if n_sets == 1 else f"these {n_sets:,} sets of demonstrations")
    if n_templates > 1:
        parts.append(f"these {n_templates:,} templates")
    elif n_templates or task.get("template"):
        parts.append("this template")
    return f", for {' and '.join(parts)} (it says nothing of others)" if parts else ""


def _particle(certificate: Certificate, level: str) -> str:
    """Where most prompts have their particle."""
    particle = certificate.particle
    if particle.layer is not None:
        where = f"at layer {particle.layer} than at any other one"
        return f"More prompts have their task particle {where} (certified at {level})."
    if particle.contenders == (None,):
        return f"More prompts have no task particle than have it at any one layer (certified at {level})."
    layers = [layer for layer in particle.contenders if layer is not None]
    none = ", or have none" if None in particle.contenders else ""
    return f"Most prompts may have their task particle at {show_ranges(layers)}{none}: that is not certified."
