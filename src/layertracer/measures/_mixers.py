"""Results by kind of mixer: what the attention layers of a hybrid do, and what its other layers do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from layertracer._errors import UsageError
from layertracer._types import Interval, MixerGroup
from layertracer.measures._bootstrap import note_on_means, percentile_interval
from layertracer.measures._checked_arrays import check_js
from layertracer.measures._curves import TargetCurves, check_prompts
from layertracer.measures._resampling import PROMPTS_AND_DRAWS, Sampling, check_resampling, resample_crossed_means
from layertracer.measures._vulnerability import largest_layer


def group_by_mixer(  # noqa: PLR0913 - three arrays, and how they are resampled
    js_bits: Float[np.ndarray, "prompt draw layer"],
    curves: TargetCurves,
    mixers: Sequence[str],
    *,
    n_resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    sampling: Sampling = PROMPTS_AND_DRAWS,
) -> tuple[MixerGroup, ...]:
    """JS divergence and gain in target probability, for each kind of mixer.

    With `L` the layers of a kind, and `S` those of them that have the perturbed site,

        mean JS = 1 / (prompts · draws · |S|) Σ JS[prompt, draw, i], i in S
        mean gain = 1 / (prompts · |L|) Σ (P[prompt, i] − P[prompt, i−1]), i in L

    The interval is over resamples of prompts and draws, as for the vulnerable layer; all kinds share them. One prompt
    or one random draw gives none. The layers are those of the model and are not resampled.

    Kinds sit at different depths: a difference between two of them is also one of depth, and no statement about the
    mixers alone. `mean_depth` says how far apart they sit.

    Laws: the mean JS weighted by `n_perturbed` is the mean over all layers; the gains weighted by `n_layers` add up to
    the rise from the embeddings to the output; permuting layers of one kind changes no number of any kind; a single
    kind has the numbers of the whole model; equal seeds give equal results.

    Args:
        js_bits: JS divergence from the unperturbed output, in bits; NaN at layers without the perturbed site.
        curves: The target's curves, of shape [prompt, layer].
        mixers: Kind of every layer's mixer.
        n_resamples: Number of resamples.
        level: Coverage of the intervals, in (0, 1).
        seed: Seed of the resamples.
        sampling: What is taken anew: prompts by themselves and random draws, where left out.

    Returns:
        One group a kind, in order of first appearance.

    Raises:
        UsageError: If shapes do not fit, there is no prompt, draw or layer, a divergence is not finite at a layer that
            has the site, no layer has it, or a number is out of range.

    Example:
        >>> js_bits = np.array([[[0.1, 0.8, 0.3]]])
        >>> curves = TargetCurves(
        ...     log_prob=np.log([[0.1, 0.2, 0.7]]), embedding_log_prob=np.log([0.1]), top1_share=np.zeros((1, 3))
        ... )
        >>> for group in group_by_mixer(js_bits, curves, ["mamba", "attention", "mamba"]):
        ...     print(group.mixer, group.layers, round(group.mean_js_bits, 2), round(group.mean_gain_prob, 2))
        mamba (0, 2) 0.2 0.25
        attention (1,) 0.8 0.1

    Source:
        Owen (2007), "The pigeonhole bootstrap", for crossed designs.
    """
    js, present = check_js(js_bits, "group_by_mixer")
    check_prompts(curves, "group_by_mixer")
    check_resampling(n_resamples, level)
    _check_fit(js_bits.shape, curves.log_prob.shape, n_mixers=len(mixers))
    kinds = tuple(dict.fromkeys(mixers))
    kind_of = np.array([kinds.index(mixer) for mixer in mixers])
    measured, of_present = np.unique(kind_of[present], return_inverse=True)
    # [prompt, draw, measured kind]: the mean over its layers comes first, as layers are not resampled.
    by_kind = np.stack([js[..., of_present == index].mean(axis=-1) for index in range(len(measured))], axis=-1)
    resamples = resample_crossed_means(by_kind, n_resamples=n_resamples, seed=seed, sampling=sampling)
    note = note_on_means(js.shape[0], js.shape[1], sampling)
    intervals = (
        {}
        if note
        else {
            int(kind): percentile_interval(np.clip(resamples[:, index], 0.0, 1.0), level)
            for index, kind in enumerate(measured.tolist())
        }
    )
    gains = mean_gain_prob(curves)
    profile = js.mean(axis=(0, 1))
    return tuple(
        _make_group(
            mixer,
            layers=np.flatnonzero(kind_of == kind),
            perturbed=present[kind_of[present] == kind],
            profile=profile[kind_of[present] == kind],
            interval=intervals.get(kind),
            gains=gains,
        )
        for kind, mixer in enumerate(kinds)
    )


def mean_gain_prob(curves: TargetCurves) -> Float[np.ndarray, " layer"]:
    """Mean gain in target probability of each layer over prompts; the first layer's is over the embeddings."""
    before = np.concatenate([curves.embedding_prob[:, None], curves.prob[:, :-1]], axis=1)
    return np.asarray((curves.prob - before).mean(axis=0))


def _make_group(
    mixer: str,
    *,
    layers: Int[np.ndarray, " layer"],
    perturbed: Int[np.ndarray, " perturbed"],
    profile: Float[np.ndarray, " perturbed"],
    interval: Interval | None,
    gains: Float[np.ndarray, " all_layers"],
) -> MixerGroup:
    """One kind, out of the mean JS divergence of those of its layers that were perturbed."""
    largest = int(largest_layer(profile)) if profile.size else None
    return MixerGroup(
        mixer=mixer,
        layers=tuple(layers.tolist()),
        n_perturbed=perturbed.size,
        mean_depth=float((layers + 1).mean() / gains.size),
        mean_js_bits=float(profile.mean()) if profile.size else None,
        interval=interval,
        vulnerable_layer=None if largest is None else int(perturbed[largest]),
        max_js_bits=None if largest is None else float(profile[largest]),
        mean_gain_prob=float(gains[layers].mean()),
    )


def _check_fit(js_shape: tuple[int, ...], curve_shape: tuple[int, ...], *, n_mixers: int) -> None:
    n_prompts, _, n_layers = js_shape
    if curve_shape != (n_prompts, n_layers) or n_mixers != n_layers:
        raise UsageError(
            f"group_by_mixer got js_bits of {n_prompts} prompts and {n_layers} layers, curves of shape "
            f"{list(curve_shape)} and {n_mixers} mixers. Take all three from one trace."
        )
