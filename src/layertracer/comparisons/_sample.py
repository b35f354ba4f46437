"""One model on some of its prompts: its numbers, and the same numbers in every resample of these prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np
from jaxtyping import Float, Int

from layertracer._types import Interval
from layertracer.comparisons._criteria import Reading, lens_curves
from layertracer.comparisons._results import Quantity
from layertracer.comparisons._settings import ComparisonSettings
from layertracer.measures import (
    NONE_FOUND,
    TargetCurves,
    find_missing,
    interpolate_profile,
    largest_layer,
    percentile_interval,
    resample_mean_curves,
    resample_onset_layers,
)
from layertracer.runs import TraceRecord

MODEL_QUANTITIES: tuple[Quantity, ...] = ("mean_js_bits", "max_js_bits", "vulnerable_depth")
"""Quantities that need no onset criterion."""


class PromptSample:
    """A model on some prompts, in a given order, resampled with one seed.

    Two samples with equally many prompts and the same seed are resampled together: where prompt k of one is prompt k of
    the other, they are paired.
    """

    def __init__(self, record: TraceRecord, *, seed: int, settings: ComparisonSettings) -> None:
        self.record, self.seed, self.settings = record, seed, settings
        self.curves: dict[str, TargetCurves] = dict(lens_curves(record))
        self._onsets: dict[tuple[str, str], Int[np.ndarray, " resample"]] = {}

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return self.record.n_prompts

    @cached_property
    def js_curves(self) -> Float[np.ndarray, "prompt layer"]:
        """JS divergence of every prompt and layer, mean over draws, bits; NaN where a layer has not the site."""
        return np.asarray(self.record.js_bits.astype(np.float64).mean(axis=1))

    @cached_property
    def present(self) -> Int[np.ndarray, " present"]:
        """The layers that have the perturbed site."""
        return np.flatnonzero(~find_missing(self.record.js_bits))

    @property
    def has_js(self) -> bool:
        """Whether any layer has the perturbed site."""
        return self.present.size > 0

    @cached_property
    def js_means(self) -> Float[np.ndarray, "resample present"]:
        """Mean JS divergence of the layers that have the site, in every resample."""
        return resample_mean_curves(
            self.js_curves[:, self.present], n_resamples=self.settings.n_resamples, seed=self.seed
        )

    def value(self, quantity: Quantity, reading: Reading | None = None) -> float | None:
        """The quantity on these prompts; None where there is none."""
        if reading is not None:
            layer = int(reading.criterion.find(self.curves[reading.lens].mean()))
            return None if layer == NONE_FOUND else float(self._to_depth(np.array(layer)))
        if not self.has_js:
            return None
        return float(self._reduce(quantity, self.js_curves[:, self.present].mean(axis=0)[None])[0])

    def resampled(self, quantity: Quantity, reading: Reading | None = None) -> Float[np.ndarray, " resample"]:
        """The quantity in every resample; NaN where there is none."""
        if reading is not None:
            layers = self.onset_layers(reading)
            return np.where(layers == NONE_FOUND, np.nan, self._to_depth(layers))
        if not self.has_js:
            return np.full(self.settings.n_resamples, np.nan)
        return self._reduce(quantity, self.js_means)

    def onset_layers(self, reading: Reading) -> Int[np.ndarray, " resample"]:
        """The layer of the task particle in every resample, -1 where there is none."""
        key = (reading.lens, reading.name)
        if key not in self._onsets:
            self._onsets[key] = resample_onset_layers(
                self.curves[reading.lens],
                reading.criterion,
                n_resamples=self.settings.n_resamples,
                seed=self.seed,
            )
        return self._onsets[key]

    def profile(self, grid: Float[np.ndarray, " depth"]) -> Float[np.ndarray, " depth"]:
        """Mean JS divergence on a grid of depths."""
        return np.asarray(interpolate_profile(self.js_curves, grid).mean(axis=0))

    def resampled_profile(self, grid: Float[np.ndarray, " depth"]) -> Float[np.ndarray, "resample depth"]:
        """The same in every resample."""
        everywhere = np.full((self.settings.n_resamples, self.record.n_layers), np.nan)
        everywhere[:, self.present] = self.js_means
        return interpolate_profile(everywhere, grid)

    def _reduce(self, quantity: Quantity, means: Float[np.ndarray, "*batch present"]) -> Float[np.ndarray, "*batch"]:
        if quantity == "mean_js_bits":
            return np.asarray(means.mean(axis=-1))
        if quantity == "max_js_bits":
            return np.asarray(means.max(axis=-1))
        return self._to_depth(self.present[largest_layer(means)])

    def _to_depth(self, layers: Int[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
        return np.asarray((layers + 1) / self.record.n_layers)


class SampleStore:
    """Samples that were drawn before: models that all share their prompts are resampled once, not once a pair."""

    def __init__(self, records: Sequence[TraceRecord], settings: ComparisonSettings) -> None:
        @cache
        def draw(model: int, rows: tuple[int, ...], seed: int) -> PromptSample:
            return PromptSample(records[model].select(rows), seed=seed, settings=settings)

        self._draw, self._sizes, self._seed = draw, [record.n_prompts for record in records], settings.seed

    def draw(self, model: int, rows: tuple[int, ...] | None = None, *, stream: int = 0) -> PromptSample:
        """A model on some of its prompts, or on all; another stream is independent of this one."""
        return self._draw(model, tuple(range(self._sizes[model])) if rows is None else rows, self._seed + stream)


def finite_interval(values: Float[np.ndarray, " resample"], level: float) -> tuple[Interval | None, float]:
    """The percentile interval of the resamples that have a value, and their share."""
    found = values[np.isfinite(values)]
    return (percentile_interval(found, level) if found.size else None), found.size / values.size
