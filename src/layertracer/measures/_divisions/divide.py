"""Divisions of a model's layers into regions that behave alike, by change points of several measures at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from layertracer._errors import UsageError
from layertracer._types import Interval
from layertracer.measures._bootstrap import MIN_UNITS, layer_interval
from layertracer.measures._checked_arrays import check_finite
from layertracer.measures._divisions.change_points import best_boundaries, region_costs, split
from layertracer.measures._divisions.cka import cka_of
from layertracer.measures._resampling import (
    PROMPTS_AND_DRAWS,
    Sampling,
    check_resampling,
    chunk_sizes,
    count_units,
    make_generator,
    number_units,
    prompt_weights,
)

CKA = "cka"
"""What the layers' CKA is called beside the curves."""

_CONSTANT = 1e-9
"""Spread of a curve, relative to its size, below which it has nothing to divide."""

_FAR, _LEAST_REACH = 3.0, 0.5
"""How far beyond its quartiles a curve reaches, in their distance (Tukey's outer fences), and at the least in standard
deviations. The first layer's gain over the embeddings is often ten times any other's: beside it nothing would count."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerDivision:
    """How the layers of a model divide.

    Attributes:
        boundaries: First layers of the regions after the first; () where no division stands out.
        intervals: Of each boundary, over resamples of the prompts; None where they are too few.
        p: Share of the shuffles of all layers that divide as well or better.
        curves: By measure: its mean over prompts, and for CKA that of each layer with the one before it; NaN at the
            first layer where embeddings are all equally far apart.
        standardised: The same as they were divided: far layers pulled in to Tukey's outer fences, then with mean 0 and
            variance 1 over the layers.
        cka: CKA between all layers, which is what they were divided by; None where it was not given, or left out.
        left_out: By measure, why it took no part.
        explained: Share of what varies over layers that the regions' means account for.
        line_explained: Share that straight lines over depth account for.
    """

    boundaries: tuple[int, ...] = ()
    intervals: tuple[Interval | None, ...] = ()
    p: float = 1.0
    curves: Mapping[str, Float[np.ndarray, " layer"]] = field(default_factory=dict)
    standardised: Mapping[str, Float[np.ndarray, " layer"]] = field(default_factory=dict)
    cka: Float[np.ndarray, "layer layer"] | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    explained: float = 0.0
    line_explained: float = 0.0

    @property
    def n_regions(self) -> int:
        """How many regions there are."""
        return 1 + len(self.boundaries)


def divide_layers(
    curves: Mapping[str, Float[np.ndarray, "prompt layer"]],
    hsic: Float[np.ndarray, "prompt layer_and_one layer_and_one"] | None = None,
    *,
    level: float = 0.95,
    n_resamples: int = 999,
    seed: int = 0,
    sampling: Sampling = PROMPTS_AND_DRAWS,
) -> LayerDivision:
    """Regions of layers within which every measure is about constant.

    Each curve is standardised over the layers, so that all weigh alike, after layers that lie far out of all others
    were pulled in. The layers' CKA counts as one more measure, as the matrix of inner products that it is. All are
    divided together, by least squares (dynamic programming). How many boundaries there are is decided by shuffles: a
    division must beat those of the same layers in random orders, and so must the division of each of its regions, at
    the error rate shared among the regions. The boundaries are then placed anew, all together, and resamples of the
    prompts place as many again for their intervals.

    Shuffles tell order from none. A measure that slopes steadily over depth has an order too, and is cut into pieces:
    `line_explained` beside `explained` says whether slopes would do.

    Laws: permuting prompts leaves the boundaries; so does scaling or shifting a curve; of layers in a random order 1 −
    `level` at most are divided.

    Args:
        curves: By name: one curve a prompt. One that is not finite, or constant, is left out.
        hsic: Of each prompt, HSIC between what enters the first layer and what leaves every layer.
        level: Coverage of intervals; 1 − level is the error rate of dividing what has no order.
        n_resamples: How many shuffles of the layers, and how many resamples of the prompts.
        seed: What shuffles and resamples.
        sampling: What is taken anew together.

    Raises:
        UsageError: If no measure is given, shapes do not fit, or a number is out of range.

    Source:
        Matteson and James (2014), "A nonparametric approach for multiple change point analysis of multivariate data",
        for the test by shuffles within regions; Harchaoui and Cappé (2007), "Retrospective multiple change-point
        estimation with kernels", for dividing by inner products.
    """
    check_resampling(n_resamples, level)
    taken = _Measures.of(curves, hsic)
    if not taken.is_any:
        return LayerDivision(left_out=taken.left_out)
    gram = taken.gram(None)[0]
    boundaries, p = _find(gram, level=level, n_shuffles=n_resamples, seed=seed)
    intervals = _intervals(taken, boundaries, n_resamples=n_resamples, level=level, seed=seed, sampling=sampling)
    total = float(region_costs(gram[None])[0, 0, -1]) if len(gram) > 1 else 0.0
    rest = _cost_within(gram, boundaries)
    return LayerDivision(
        boundaries=boundaries,
        intervals=intervals,
        p=p,
        curves=taken.mean_curves(),
        standardised={name: _standardised(_without_gaps(curve)) for name, curve in taken.mean_curves().items()},
        cka=taken.mean_cka(),
        left_out=taken.left_out,
        explained=1 - rest / total if total > 0 else 0.0,
        line_explained=_line_explained(gram, total),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measures:
    """The measures that take part.

    Attributes:
        curves: By name: one curve a prompt.
        hsic: Of each prompt; None without.
        left_out: By measure, why it took no part.
    """

    curves: Mapping[str, Float[np.ndarray, "prompt layer"]]
    hsic: Float[np.ndarray, "prompt layer_and_one layer_and_one"] | None
    left_out: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        curves: Mapping[str, Float[np.ndarray, "prompt layer"]],
        hsic: Float[np.ndarray, "prompt layer_and_one layer_and_one"] | None,
    ) -> _Measures:
        """Those that can take part, checked.

        Raises:
            UsageError: If none is given, or shapes do not fit.
        """
        left_out, kept = {}, {}
        _check_shapes(curves, hsic)
        for name, given in curves.items():
            values = np.asarray(given, dtype=np.float64)
            reason = _why_not(values)
            if reason is None:
                kept[name] = check_finite(values, axes=("prompt", "layer"), caller="divide_layers")
            else:
                left_out[name] = reason
        if hsic is not None:
            reason = _why_no_cka(np.asarray(hsic, dtype=np.float64).mean(axis=0))
            if reason is not None:
                left_out[CKA], hsic = reason, None
        return cls(curves=kept, hsic=None if hsic is None else np.asarray(hsic, np.float64), left_out=left_out)

    @property
    def is_any(self) -> bool:
        """Whether any can take part."""
        return bool(self.curves) or self.hsic is not None

    @property
    def n_prompts(self) -> int:
        """Number of prompts."""
        return len(next(iter([*self.curves.values(), *([] if self.hsic is None else [self.hsic])])))

    def gram(self, weights: Float[np.ndarray, "resample prompt"] | None) -> Float[np.ndarray, "resample layer layer"]:
        """Inner products of the layers, all measures together, for each weighing of the prompts; None: all alike."""
        if weights is None:
            weights = np.full((1, self.n_prompts), 1 / self.n_prompts)
        total: Float[np.ndarray, "resample layer layer"] | None = None
        for values in self.curves.values():
            curve = _standardised(weights @ values)
            own = curve[:, :, None] * curve[:, None, :]
            total = own if total is None else total + own
        if self.hsic is not None:
            cka = cka_of(np.tensordot(weights, self.hsic[:, 1:, 1:], axes=1))
            n_layers = cka.shape[-1]
            spread = np.trace(cka, axis1=1, axis2=2) - cka.sum(axis=(1, 2)) / n_layers
            own = cka * (n_layers / np.maximum(spread, _CONSTANT))[:, None, None]
            total = own if total is None else total + own
        assert total is not None  # one of them is there
        return np.asarray(total)

    def mean_curves(self) -> dict[str, Float[np.ndarray, " layer"]]:
        """The mean of each measure, [layer]; of CKA, with the layer before."""
        means = {name: np.asarray(values.mean(axis=0)) for name, values in self.curves.items()}
        if self.hsic is not None:
            means[CKA] = np.asarray(np.diagonal(cka_of(self.hsic.mean(axis=0)), offset=1))
        return means

    def mean_cka(self) -> Float[np.ndarray, "layer layer"] | None:
        """CKA between what leaves the layers."""
        return None if self.hsic is None else cka_of(self.hsic.mean(axis=0))[1:, 1:]


def _check_shapes(
    curves: Mapping[str, Float[np.ndarray, "prompt layer"]],
    hsic: Float[np.ndarray, "prompt layer_and_one layer_and_one"] | None,
) -> None:
    shapes = {name: np.shape(values) for name, values in curves.items()}
    if hsic is not None:
        n_prompts, n_ends = np.shape(hsic)[:2]
        shapes[CKA] = (n_prompts, n_ends - 1)
    wrong = {name: list(shape) for name, shape in shapes.items() if len(shape) != 2 or 0 in shape}
    if wrong or len(set(shapes.values())) != 1:
        said = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise UsageError(
            f"divide_layers needs measures of one shape [prompt, layer], got {said or 'none'}. Give at least one, and "
            "all of the same prompts."
        )


def _why_not(values: Float[np.ndarray, "prompt layer"]) -> str | None:
    """Why a curve cannot take part; None where it can."""
    finite = np.isfinite(values)
    if not finite.all():
        layers = np.flatnonzero(~finite.all(axis=0))
        return f"it is not a finite number at {len(layers)} of {values.shape[1]} layers"
    mean = values.mean(axis=0)
    if mean.std() <= _CONSTANT * max(float(np.abs(mean).max()), np.finfo(np.float64).tiny):
        return "it is the same in all layers"
    return None


def _why_no_cka(hsic: Float[np.ndarray, "layer_and_one layer_and_one"]) -> str | None:
    """Why the layers' CKA cannot take part; None where it can. The embeddings need none."""
    cka = cka_of(hsic[1:, 1:])
    if not np.isfinite(cka).all():
        layers = np.flatnonzero(~np.isfinite(np.diagonal(cka))).tolist()
        return (
            f"no tokens are nearer to each other than others after {len(layers)} layers, layer {layers[0]} among them"
        )
    if np.trace(cka) - cka.sum() / len(cka) <= _CONSTANT * len(cka):
        return "it is the same in all layers"
    return None


def _standardised(curves: Float[np.ndarray, "*batch layer"]) -> Float[np.ndarray, "*batch layer"]:
    """Curves with mean 0 and variance 1 over the layers, far layers pulled in first; 0 where one is constant."""
    low, high = np.quantile(curves, (0.25, 0.75), axis=-1, keepdims=True)
    # Where most layers are alike to rounding, quartiles say nothing of how far is far.
    reach = np.maximum(_FAR * (high - low), _LEAST_REACH * curves.std(axis=-1, keepdims=True))
    curves = np.clip(curves, low - reach, high + reach)
    centred = curves - curves.mean(axis=-1, keepdims=True)
    spread = centred.std(axis=-1, keepdims=True)
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0))


def _without_gaps(curve: Float[np.ndarray, " layer"]) -> Float[np.ndarray, " layer"]:
    """A curve with its mean where it has no number: the first layer's CKA, if embeddings are all equally far apart."""
    return np.where(np.isnan(curve), np.nanmean(curve), curve)


def _find(
    gram: Float[np.ndarray, "layer layer"], *, level: float, n_shuffles: int, seed: int
) -> tuple[tuple[int, ...], float]:
    """The boundaries, and p of the division of all layers.

    A region is divided again where its own layers, shuffled, do not divide as well; the error rate is shared among the
    regions that there are by then. Boundaries that were found one after the other are then placed anew together.
    """
    n_layers = len(gram)
    found, spans, n_tests, p = list[int](), deque([(0, n_layers)]), 0, 1.0
    seeds = make_generator(seed).integers(2**31, size=2 * n_layers).tolist()
    while spans:
        first, end = spans.popleft()
        part = split(
            gram[first:end, first:end],
            level=(1 - level) / (1 + len(found)),
            n_shuffles=n_shuffles,
            seed=seeds[n_tests],
        )
        p = p if n_tests else part.p
        n_tests += 1
        inside = [first + boundary for boundary in part.boundaries]
        found += inside
        if inside:
            spans.extend(zip([first, *inside], [*inside, end], strict=True))
    placed = best_boundaries(region_costs(gram[None]), 1 + len(found))[1][0]
    return tuple(placed.tolist()), p


def _intervals(
    taken: _Measures,
    boundaries: tuple[int, ...],
    *,
    n_resamples: int,
    level: float,
    seed: int,
    sampling: Sampling,
) -> tuple[Interval | None, ...]:
    """Of each boundary: where resamples of the prompts place it."""
    if not boundaries or count_units(sampling, taken.n_prompts) < MIN_UNITS:
        return (None,) * len(boundaries)
    generator, numbered = make_generator(seed), number_units(sampling, taken.n_prompts)
    n_layers = len(next(iter(taken.mean_curves().values())))
    placed: list[Int[np.ndarray, "resample boundary"]] = []
    for size in chunk_sizes(n_resamples, floats_per_resample=8 * (n_layers + 1) ** 2 + 4 * taken.n_prompts):
        grams = taken.gram(prompt_weights(generator, size, numbered))
        placed.append(best_boundaries(region_costs(grams), 1 + len(boundaries))[1])
    layers = np.concatenate(placed)
    return tuple(
        layer_interval(layers[:, number], level, around=boundary, n_layers=n_layers)
        for number, boundary in enumerate(boundaries)
    )


def _cost_within(gram: Float[np.ndarray, "layer layer"], boundaries: tuple[int, ...]) -> float:
    """What varies within regions."""
    if len(gram) < 2:
        return 0.0
    costs, ends = region_costs(gram[None])[0], [*boundaries, len(gram)]
    return float(sum(costs[first, end] for first, end in zip([0, *boundaries], ends, strict=True)))


def _line_explained(gram: Float[np.ndarray, "layer layer"], total: float) -> float:
    """Share of what varies that straight lines over depth account for."""
    depth = _standardised(np.arange(len(gram), dtype=np.float64))
    return float(depth @ gram @ depth / len(gram) / total) if total > 0 else 0.0
