"""Figures of doses: JS by how much is masked, and with and without dominant dimensions."""

from __future__ import annotations

import numpy as np

from layertracer.evidence import DoseResponse, EvidenceRecord
from layertracer.reports._drawing.curves import curve, dashed
from layertracer.reports._drawing.plotly_layout import Figure, Trace, layer_axis
from layertracer.reports._evidence.panels import stack_panels
from layertracer.reports._values.numbers import show_number
from layertracer.reports._values.visible import plain

MAX_SITES = 6
_PANEL = 210
_FAINTEST = 0.3


def show_fraction(fraction: float) -> str:
    """A share of dimensions as a percentage, however small.

    Example:
        >>> show_fraction(0.01), show_fraction(0.005), show_fraction(0.8)
        ('1 %', '0.5 %', '80 %')
    """
    return f"{100 * fraction:.3g} %"


def draw_doses(record: EvidenceRecord) -> Figure | None:
    """JS by layer on a logarithmic axis, a line for each share of dimensions masked, darker the more."""
    doses = record.doses[:MAX_SITES]
    if not doses:
        return None
    n_layers = record.model["n_layers"]
    titles = [f"JS at {plain(dose.site, 20)}, bits (log)" for dose in doses]
    panels = stack_panels(titles, [_PANEL] * len(doses))
    told: set[float] = set()
    data: list[Trace] = []
    for dose, name in zip(doses, panels.names, strict=True):
        for number, fraction in enumerate(dose.fractions):
            data.append(_dose_line(dose, number, name, is_told=fraction not in told))
            told.add(fraction)
    return panels.figure(
        data,
        {"type": "log", "nticks": 4, "tickformat": ".1~g"},
        xaxis={**layer_axis(n_layers, anchor=panels.names[-1]), "range": [-0.7, n_layers - 0.3]},
        layers={"n": n_layers, "embedding": False},
    )


def _dose_line(dose: DoseResponse, number: int, axis_name: str, *, is_told: bool) -> Trace:
    fraction, n_doses = dose.fractions[number], len(dose.fractions)
    rank = float(dose.rank_correlation[number])
    beside = f", order beside {show_fraction(dose.reference)}: {show_number(rank, digits=2, sign=True)}"
    said = "" if np.isnan(rank) else beside
    values = np.where(dose.js_bits[number] > 0, dose.js_bits[number], np.nan)  # a logarithm has no 0
    shown = show_fraction(fraction)
    line = curve(
        list(range(len(values))),
        values,
        color="var(--js)",
        axis_name=axis_name,
        template=f"{shown} masked, layer %{{x}}: %{{y:.3~g}} bits{said}",
        name=f"{shown}{' (reference)' if fraction == dose.reference else ''}" if is_told else "",
    )
    line["opacity"] = round(_FAINTEST + (1 - _FAINTEST) * number / max(1, n_doses - 1), 3)
    return line if fraction != dose.reference else line | {"line": {**line["line"], "width": 4}}


def dominant_doses(record: EvidenceRecord) -> list[DoseResponse]:
    """Doses at sites where dominant dimensions were told from the others."""
    return [one for one in record.doses if one.without_dominant is not None or one.only_dominant is not None]


def reference_curve(dose: DoseResponse) -> np.ndarray:
    """JS by layer at the reference share."""
    curve_: np.ndarray = dose.js_bits[dose.fractions.index(dose.reference)]
    return curve_


def draw_dominant(record: EvidenceRecord) -> Figure | None:
    """JS by layer with all dimensions, without the dominant ones, and with them alone; None where not measured."""
    doses = dominant_doses(record)[:MAX_SITES]
    if not doses:
        return None
    n_layers = record.model["n_layers"]
    titles = [f"JS at {plain(dose.site, 20)}, bits, {show_fraction(dose.reference)} masked" for dose in doses]
    panels = stack_panels(titles, [_PANEL] * len(doses))
    data: list[Trace] = []
    for number, (dose, axis_name) in enumerate(zip(doses, panels.names, strict=True)):
        lines = (
            ("all dimensions", reference_curve(dose), "var(--js)", "solid"),
            ("dominant ones never masked", dose.without_dominant, "var(--target)", "6px,3px"),
            ("they alone masked", dose.only_dominant, "var(--loss)", "2px,2px"),
        )
        for name, values, color, dash in lines:
            if values is not None:
                at, template = list(range(n_layers)), f"{name}: %{{y:.3~g}} bits"
                shown = curve(
                    at, values, color=color, axis_name=axis_name, template=template, name="" if number else name
                )
                data.append(dashed(shown, dash))
    return panels.figure(
        data,
        {"rangemode": "tozero", "nticks": 5, "tickformat": ".2~g"},
        xaxis={**layer_axis(n_layers, anchor=panels.names[-1]), "range": [-0.7, n_layers - 0.3]},
        hovermode="x unified",
        layers={"n": n_layers, "embedding": False},
    )
