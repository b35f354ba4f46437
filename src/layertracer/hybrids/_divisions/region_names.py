"""Names of regions of layers: what sets each apart, in words of the measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from layertracer.measures import LayerDivision


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureWords:
    """How a measure is spoken of.

    Attributes:
        subject: What it measures.
        unit: Its unit.
        high: What a region is called where it is high beside other layers.
        low: Where it is low.
    """

    subject: str
    unit: str
    high: str
    low: str


WORDS: Mapping[str, MeasureWords] = {
    "gain_nats": MeasureWords(
        subject="the target's gain", unit="nats a layer", high="the answer rises", low="the answer does not rise"
    ),
    "js_bits": MeasureWords(
        subject="JS divergence of the perturbation", unit="bits", high="breaks easily", low="hard to break"
    ),
    "kl_nats": MeasureWords(
        subject="KL(final ‖ readout)", unit="nats", high="far from the output", low="near the output"
    ),
    "entropy_bits": MeasureWords(
        subject="entropy of the readout", unit="bits", high="readout undecided", low="readout settled on a token"
    ),
    "cka": MeasureWords(
        subject="CKA with the layer before", unit="ratio", high="carries on as it was", low="tokens are rearranged"
    ),
}
"""Measures that layers are divided by."""

_READS_IN = "reads in"
"""The first region, where it is set apart by a readout that is not there yet."""


def spans_of(found: LayerDivision, n_layers: int) -> list[tuple[int, int]]:
    """First and last layer of each region."""
    firsts = [0, *found.boundaries]
    return list(zip(firsts, [*(first - 1 for first in firsts[1:]), n_layers - 1], strict=True))


def name_regions(found: LayerDivision, spans: Sequence[tuple[int, int]]) -> list[str]:
    """A name for each region: the measure that is furthest from its mean over all layers, high or low.

    No two regions have one name: where the word is taken, the next measure has its say beside it.
    """
    taken: list[str] = []
    for first, last in spans:
        levels = _levels(found.standardised, first, last)
        words = [_word(name, level) for name, level in sorted(levels.items(), key=lambda item: -abs(item[1]))]
        if not taken and levels.get("kl_nats", 0.0) > 0 and levels.get("gain_nats", 0.0) <= 0:
            words.insert(0, _READS_IN)
        name = words[0]
        for word in words[1:]:
            if name not in taken:
                break
            name = f"{name}, {word}"
        taken.append(name)
    return taken


def tell_apart(found: LayerDivision, spans: Sequence[tuple[int, int]]) -> list[str]:
    """Of each region, the measure that differs most from the region before, with both of its means.

    The first region is held against the one behind it.
    """
    said = []
    for number, (first, last) in enumerate(spans):
        other = spans[number - 1] if number else spans[1]
        here, there = (_levels(found.standardised, *span) for span in ((first, last), other))
        name = max(here, key=lambda measure: abs(here[measure] - there[measure]))
        own, others = (float(found.curves[name][begin : end + 1].mean()) for begin, end in ((first, last), other))
        words = WORDS[name]
        where = "in the region before" if number else "in the next region"
        said.append(f"{words.subject} {own:.3g} {words.unit}, {others:.3g} {where}")
    return said


def _levels(standardised: Mapping[str, Float[np.ndarray, " layer"]], first: int, last: int) -> dict[str, float]:
    """Mean of each measure over a region, in standard deviations over all layers."""
    return {name: float(curve[first : last + 1].mean()) for name, curve in standardised.items()}


def _word(name: str, level: float) -> str:
    return WORDS[name].high if level > 0 else WORDS[name].low
