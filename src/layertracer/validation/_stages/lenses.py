"""Lenses beside the logit lens: fitted where that is asked, and what they read of the task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layertracer.evidence import LensQuality
from layertracer.tracing import Lens, LensReport, Progress, fit_lens, measure_lens_quality
from layertracer.validation._question import Text
from layertracer.validation._setting import Setting
from layertracer.validation._stages.keeping import Found
from layertracer.validation._stages.readings import LOGIT, read_lens

Tell = Callable[[Progress], None]

_QUALITIES = ("kl_nats", "bias_nats", "top1")


def name_of(lens: str | Lens) -> str:
    """What a lens is called that is fitted, or is to be."""
    return lens if isinstance(lens, str) else lens.name


def text_of_lenses(setting: Setting) -> Text:
    """Running text that lenses are fitted and judged on; None for what the model writes itself."""
    return setting.question.text if setting.question.with_text else None


def read_fitted(setting: Setting, asked: str | Lens, tell: Tell) -> Found:
    """What a lens reads of the task, and how well it reads text that it was not fitted on.

    Raises:
        LayerTracerError: As `fit_lens`.
    """
    text = text_of_lenses(setting)
    if isinstance(asked, str):
        lens: Any = fit_lens(
            setting.model,
            text,
            kind=asked,  # type: ignore[arg-type]  # one of them
            seed=setting.options.seed,
            on_progress=tell,
        )
        reports: Mapping[str, LensReport] = lens.reports
    else:
        lens = asked
        measured = measure_lens_quality(setting.model, text, [lens], seed=setting.options.seed)
        reports = {report.lens: report for report in measured}
    found = read_lens(setting, lens, tell)
    arrays: dict[str, NDArray[Any]] = dict(found.arrays)
    for name, report in reports.items():
        arrays |= {f"{quality}.{name}": np.asarray(getattr(report, quality)) for quality in _QUALITIES}
    facts = {name: {"fallback": list(report.fallback), "n_tokens": report.n_tokens} for name, report in reports.items()}
    return replace(found, facts={**found.facts, "reports": facts}, arrays=arrays)


def lens_qualities(found: Mapping[str, Found]) -> tuple[LensQuality, ...]:
    """How well each lens reads, the logit lens first, by the first stage that says it.

    Args:
        found: Stages of lenses, by the lens's name.
    """
    qualities: dict[str, LensQuality] = {}
    for one in found.values():
        for name, said in one.facts.get("reports", {}).items():
            arrays = {quality: one.arrays[f"{quality}.{name}"].astype(np.float64) for quality in _QUALITIES}
            made = LensQuality(lens=name, fallback=tuple(said["fallback"]), n_tokens=said["n_tokens"], **arrays)
            qualities.setdefault(name, made)
    return tuple(sorted(qualities.values(), key=lambda one: one.lens != LOGIT))
