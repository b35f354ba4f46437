"""Figures over layers: JS by site, other measures of importance, on the task and on running text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from layertracer._types import LayerMeasure
from layertracer.evidence import EvidenceRecord, SiteEffect
from layertracer.reports._drawing.plotly_layout import Figure
from layertracer.reports._drawing.strip_rows import draw_strip_rows
from layertracer.reports._evidence.wording import TASK, rows_words
from layertracer.reports._values.parts import Strip
from layertracer.reports._values.visible import plain

MAX_STRIPS = 14
_NO_SITE = "nothing to perturb here"


def effect_strips(record: EvidenceRecord, *, beside_text: bool = False) -> tuple[Strip, ...]:
    """JS by site, on the task; or on the task and on running text, one below the other, at sites that have both."""
    if not beside_text:
        return tuple(_effect_strip(one, names_rows=False) for one in record.effects if one.rows == TASK)[:MAX_STRIPS]
    sites = list(dict.fromkeys(one.site for one in record.effects if one.rows != TASK))
    chosen = [one for site in sites for one in record.effects if one.site == site]
    return tuple(_effect_strip(one, names_rows=True) for one in chosen)[:MAX_STRIPS]


def _effect_strip(effect: SiteEffect, *, names_rows: bool) -> Strip:
    mean = effect.mean_js_bits
    where = f", {rows_words(effect.rows)}" if names_rows else ""
    is_known = bool(np.isfinite(mean).any())
    label = f"most vulnerable {effect.layer}" if effect.is_clear else f"largest {effect.layer}, not clear"
    return Strip(
        title=f"JS at {plain(effect.site, 20)}{where}",
        unit="bits",
        values=mean,
        kind="magnitude",
        marked=effect.layer if is_known else None,
        mark_label=label if is_known else None,
        missing=_NO_SITE if np.isnan(mean).any() else None,
    )


def measure_strips(measures: Mapping[str, LayerMeasure], rows: str = "") -> tuple[Strip, ...]:
    """Other measures of a layer's importance."""
    return tuple(_measure_strip(measures[name], rows) for name in sorted(measures))[:MAX_STRIPS]


def _measure_strip(measure: LayerMeasure, rows: str) -> Strip:
    mean = measure.mean
    is_known = bool(np.isfinite(mean).any())
    is_signed = bool(np.nanmin(mean) < 0) if is_known else False
    largest = int(np.nanargmax(np.abs(mean))) if is_known else None
    where = f", {rows}" if rows else ""
    return Strip(
        title=f"{plain(measure.name.replace('_', ' '), 28)}{where}",
        unit=plain(measure.unit, 12),
        values=mean,
        kind="signed" if is_signed else "magnitude",
        marked=largest,
        mark_label=None if largest is None else f"largest {largest}",
        missing="none here" if np.isnan(mean).any() else None,
    )


def draw_strips(strips: tuple[Strip, ...], n_layers: int) -> Figure | None:
    """Rows of cells; None where there are none."""
    if not strips:
        return None
    figure = draw_strip_rows(strips, n_layers)
    figure["layout"]["margin"]["l"] = 16
    figure["layout"]["xaxis"]["range"] = [-0.7, n_layers - 0.3]
    return figure
