"""What a trace that stopped by itself is certain of, in words: the first thing that page and terminal say."""

from __future__ import annotations

from layertracer._types import Certificate
from layertracer.reports._values.numbers import show_count, show_number, show_ranges
from layertracer.reports._values.parts import Notice

_ENDINGS = {
    "prompts": "with all prompts read",
    "budget": "within the budget",
    "stopped": "before the trace was stopped",
}


def certificate_notice(certificate: Certificate) -> Notice:
    """Which layer is certified, or which ones can still be it; of what, and after how many cells."""
    level, cells = f"{100 * certificate.confidence:.4g} %", _show_cells(certificate)
    if certificate.layer is not None:
        title = f"Layer {certificate.layer} is the most vulnerable, certified at {level} after {cells}"
    else:
        n_left = len(certificate.contenders)
        title = f"No layer could be certified {_ENDINGS.get(certificate.ending, 'so far')} ({cells})"
        title += f"; still possible at {level}: {show_ranges(certificate.contenders)} ({show_count(n_left, 'layer')})"
    return Notice(level="note", title=title, text=" ".join((_of_what(certificate), _particle(certificate, level))))


def _show_cells(certificate: Certificate) -> str:
    return f"{certificate.n_cells:,} of {show_count(certificate.n_total, 'cell')}"


def _of_what(certificate: Certificate) -> str:
    """What is stated of which population, with the layer's own mean."""
    read = f"{certificate.n_rounds:,} of {show_count(certificate.n_prompts, 'prompt')}"
    said = (
        f"Read {read}, in an order drawn by the seed, each with draws of its own. The statement is of the population "
        "that these prompts are independent draws of, with these demonstrations and this template, and holds whenever "
        "the trace stops."
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
