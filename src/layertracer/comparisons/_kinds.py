"""Kinds of mixers inside every hybrid, at equal depth."""

from __future__ import annotations

from collections.abc import Sequence

from layertracer.comparisons._results import MixerContrast
from layertracer.comparisons._sample import PromptSample
from layertracer.comparisons._settings import ComparisonSettings
from layertracer.measures import contrast_kinds, make_generator, measure_robustness


def contrast_mixers(
    samples: Sequence[PromptSample], labels: Sequence[str], settings: ComparisonSettings
) -> tuple[MixerContrast, ...]:
    """The contrasts of every model with several kinds of mixers; every model's permutations start from the seed."""
    contrasts = []
    for sample, label in zip(samples, labels, strict=True):
        if not sample.has_js:
            continue
        mixers = [layer.mixer for layer in sample.record.model.layers]
        profile = measure_robustness(sample.record.js_bits).profile_bits
        found = contrast_kinds(profile, mixers, generator=make_generator(settings.seed), n_bands=settings.n_bands)
        contrasts += [MixerContrast(label=label, contrast=contrast) for contrast in found]
    return tuple(contrasts)
