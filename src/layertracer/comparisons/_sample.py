"""One model on some of its prompts: its numbers, and the same numbers in every resample of these prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np
from jaxtyping import Float, Int

from layertracer._types import Interval, VulnerableLayer
from layertracer.comparisons._criteria import Reading, lens_curves
from layertracer.comparisons._results import Quantity
from layertracer.comparisons._settings import ComparisonSettings
from layertracer.measures import (
    MIN_UNITS,
    NONE_FOUND,
    TargetCurves,
    find_missing,
    find_vulnerable_layer,
    interpolate_profile,
    largest_layer,
    mirrored_interval,
    note_on_means,
    percentile_interval,
    resample_crossed_means,
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
        self.draw_seed = settings.seed + _number_of_masks(record)
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
        """Mean JS divergence of the layers that have the site, in every resample of prompts and draws."""
        return resample_crossed_means(
            self.record.js_bits[..., self.present].astype(np.float64),
            n_resamples=self.settings.n_resamples,
            seed=self.seed,
            draw_seed=self.draw_seed,
            sampling=self.record.sampling,
        )

    @property
    def has_js_interval(self) -> bool:
        """Whether anything can be said of how far another trace's divergences would lie."""
        return note_on_means(self.n_prompts, self.record.n_draws, self.record.sampling) is None

    @property
    def has_onset_interval(self) -> bool:
        """Whether there are prompts enough for the interval of an onset."""
        units = self.record.sampling.units
        return (self.n_prompts if units is None else len(set(units))) >= MIN_UNITS

    def vulnerable(self, *, level: float) -> VulnerableLayer:
        """The vulnerable layer with its contenders at some level, out of the resamples that a trace itself draws."""
        return find_vulnerable_layer(
            self.record.js_bits,
            n_resamples=self.settings.n_resamples,
            level=level,
            seed=self.settings.seed,
            sampling=self.record.sampling,
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
                sampling=self.record.sampling,
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


def _number_of_masks(record: TraceRecord) -> int:
    """A number that two runs share where their draws are the same ones: equal masks on models of equal width.

    At another width, equal seeds mask other dimensions.
    """
    what = repr((record.model.d_model, record.n_draws, sorted(record.spec.perturbation.items())))
    return int.from_bytes(hashlib.sha256(what.encode("utf-8", "backslashreplace")).digest()[:6], "big")


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


def finite_interval(
    values: Float[np.ndarray, " resample"], level: float, *, around: float | None = None
) -> tuple[Interval | None, float]:
    """The interval of the resamples that have a value, and their share; mirrored around an estimate that is biased."""
    found = values[np.isfinite(values)]
    if not found.size:
        return None, 0.0
    interval = percentile_interval(found, level) if around is None else mirrored_interval(found, level, around=around)
    return interval, found.size / values.size
