"""Whether layers of one kind of mixer are more vulnerable than the others at equal depth: a permutation test."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from jaxtyping import Bool, Float, Int

from layertracer._errors import UsageError
from layertracer.measures._depth import relative_depth

MAX_EXACT = 50_000
"""Up to so many arrangements of the labels are all looked at."""

_LEAST_BAND = 4
"""Layers of a band in the automatic choice: with fewer, kind and depth can hardly be told apart inside a band."""

_CHUNK = 4096
_NOTHING = 1e-12
"""Sums of squares below this, relative to their largest, are rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindContrast:
    """The layers of one kind of mixer against all others of a model, at equal depth.

    Attributes:
        mixer: The kind.
        n_layers: Its layers that take part: those with the perturbed site in a band that holds other kinds, too.
        n_others: Layers of other kinds that take part.
        n_bands: Number of bands of relative depth that hold both.
        ratio: JS divergence of a layer of this kind over that of a layer of another kind at equal depth, 1 where they
            are alike; None where kind and depth cannot be told apart.
        depth_gap: Mean difference in relative depth between this kind and the others inside a band.
        p_value: Two-sided p-value; None where there is nothing to permute.
        n_arrangements: Number of arrangements of the labels within bands that were looked at.
        is_exact: Whether these were all there are; otherwise they were drawn at random.
        note: Why there is no answer; None where there is one.
    """

    mixer: str
    n_layers: int
    n_others: int
    n_bands: int
    ratio: float | None
    depth_gap: float | None
    p_value: float | None
    n_arrangements: int
    is_exact: bool
    note: str | None = None


def contrast_kinds(
    profile_bits: Float[np.ndarray, " layer"],
    mixers: Sequence[str],
    *,
    generator: np.random.Generator,
    n_bands: int | None = None,
    n_permutations: int = 9999,
) -> tuple[KindContrast, ...]:
    """Each kind of mixer against the other layers of the same model, by permuting kinds within bands of depth.

    The layer is the unit. With y the logarithm of a layer's mean JS divergence, z = 1 for layers of the kind and 0 for
    others, d the relative depth, all three centred within each band, and M the projection off d,

        ratio = exp(zᵀM y / zᵀM z),    statistic r = |zᵀM y| / √(zᵀM z · yᵀM y)

    that is, least squares with an intercept for every band and one slope over depth for all bands, and the partial
    correlation. The slope is needed because many hybrids put a kind at the same place of every group of layers: without
    it, "the last of each four" and "deeper" would be the same. Under the hypothesis that kind does not matter, labels
    are exchangeable within a band; p is the share of their arrangements with at least as large an r. Where there are
    at most 50,000 of them, all are looked at; otherwise `n_permutations` are drawn, and p = (1 + count) / (1 + drawn).

    With two kinds there is one contrast, of the one that appears first; with more, one for each kind against all
    others, and their p-values are not adjusted for being several.

    Laws: multiplying all divergences by a constant changes nothing; a divergence that falls or rises exponentially with
    depth alone gives a ratio of 1; equal generators give equal results; labels that are exchanged throughout turn the
    ratio into its inverse and leave the p-value.

    Args:
        profile_bits: Mean JS divergence of every layer, in bits; NaN at layers without the perturbed site.
        mixers: Kind of every layer's mixer.
        generator: Source of the random arrangements, where there are too many to look at all.
        n_bands: Number of bands of equal relative depth; None for as many as leave each band at least 4 layers and two
            kinds.
        n_permutations: Number of random arrangements.

    Returns:
        The contrasts; empty where fewer than two kinds have the site.

    Raises:
        UsageError: If lengths differ, or a number is out of range.

    Example:
        >>> js_bits = np.array([0.40, 0.36, 0.32, 0.60, 0.26, 0.23, 0.21, 0.38])
        >>> kinds = ["mamba", "mamba", "mamba", "attention"] * 2
        >>> (contrast,) = contrast_kinds(js_bits, kinds, generator=np.random.default_rng(0))
        >>> contrast.mixer, round(contrast.ratio, 2), contrast.n_bands, contrast.p_value, contrast.is_exact
        ('mamba', 0.49, 2, 0.0625, True)

    Source:
        Freedman and Lane (1983) and Anderson and Robinson (2001) for permutation tests of partial correlations; Phipson
        and Smyth (2010), "Permutation p-values should never be zero".
    """
    profile = np.asarray(profile_bits, dtype=np.float64)
    if len(mixers) != profile.size or n_permutations < 1 or (n_bands is not None and n_bands < 1):
        raise UsageError(
            f"contrast_kinds needs one mixer a layer, at least one band and one permutation, got {profile.size} "
            f"layers, {len(mixers)} mixers, n_bands={n_bands} and n_permutations={n_permutations}."
        )
    present = np.flatnonzero(~np.isnan(profile))
    kinds = list(dict.fromkeys(mixers[layer] for layer in present.tolist()))
    if len(kinds) < 2:
        return ()
    labels = np.array([mixers[layer] for layer in present.tolist()])
    bands = _assign_bands(present, labels, n_layers=profile.size, n_bands=n_bands)
    depth = relative_depth(profile.size)[present]
    return tuple(
        _contrast(kind, labels == kind, _Layers(profile[present], depth, bands), generator, n_permutations)
        for kind in (kinds[:1] if len(kinds) == 2 else kinds)
    )


def _assign_bands(
    present: Int[np.ndarray, " present"], labels: np.ndarray, *, n_layers: int, n_bands: int | None
) -> Int[np.ndarray, " present"]:
    """The band of every layer that has the site, from 0."""

    def split(n: int) -> Int[np.ndarray, " present"]:
        return np.asarray(present * n // n_layers)

    if n_bands is not None:
        return split(n_bands)
    for n in range(n_layers // _LEAST_BAND, 1, -1):
        bands = split(n)
        inside = [bands == band for band in range(n)]
        if all(one.sum() >= _LEAST_BAND and len(set(labels[one].tolist())) > 1 for one in inside):
            return bands
    return split(1)


class _Sizes(TypedDict):
    """How many layers and bands take part."""

    n_layers: int
    n_others: int
    n_bands: int


class _Layers:
    """The layers that take part in contrasts: log divergence, depth, and which lie in one band."""

    def __init__(
        self, js_bits: Float[np.ndarray, " item"], depth: Float[np.ndarray, " item"], bands: Int[np.ndarray, " item"]
    ) -> None:
        self.js_bits, self.depth, self.bands = js_bits, depth, bands

    def select(self, rows: Bool[np.ndarray, " item"]) -> _Layers:
        """Some of the layers."""
        return _Layers(self.js_bits[rows], self.depth[rows], self.bands[rows])

    def centre(self, values: Float[np.ndarray, "*batch item"]) -> Float[np.ndarray, "*batch item"]:
        """Values minus the mean of their band."""
        member = (self.bands[:, None] == np.unique(self.bands)).astype(np.float64)
        means = (values @ member) / member.sum(axis=0)
        return np.asarray(values - means @ member.T)


def _contrast(
    mixer: str,
    is_kind: Bool[np.ndarray, " item"],
    layers: _Layers,
    generator: np.random.Generator,
    n_permutations: int,
) -> KindContrast:
    mixed = [band for band in np.unique(layers.bands) if len(set(is_kind[layers.bands == band].tolist())) == 2]
    rows = np.isin(layers.bands, mixed)
    label, inside = is_kind[rows], layers.select(rows)
    sizes: _Sizes = {"n_layers": int(label.sum()), "n_others": int((~label).sum()), "n_bands": len(mixed)}
    if not mixed:
        return _unanswered(mixer, "no band of depth holds this kind and another one", sizes)
    if not (inside.js_bits > 0).all():
        return _unanswered(mixer, "a layer has a JS divergence of 0, which has no logarithm", sizes)
    z, d = inside.centre(label.astype(np.float64)), inside.centre(inside.depth)
    y = inside.centre(np.log(inside.js_bits))
    y = y - d * (d @ y) / (d @ d)
    gap = float(z @ d / (z @ z))
    observed, spread = _correlate(z, d, y)
    if spread <= _NOTHING * float(z @ z):
        reason = "kind and depth cannot be told apart: inside the bands, one follows from the other"
        return _unanswered(mixer, reason, sizes, depth_gap=gap)
    arrangements, is_exact = _arrange(label, inside.bands, generator, n_permutations)
    n_extreme, n_seen = 0, 0
    for chunk in arrangements:
        statistic, _ = _correlate(inside.centre(chunk), d, y)
        n_extreme += int((statistic >= observed - 1e-9).sum())
        n_seen += len(chunk)
    return KindContrast(
        mixer=mixer,
        **sizes,
        ratio=math.exp(float(z @ y) / float(spread)),
        depth_gap=gap,
        p_value=n_extreme / n_seen if is_exact else (1 + n_extreme) / (1 + n_seen),
        n_arrangements=n_seen,
        is_exact=is_exact,
    )


def _unanswered(mixer: str, note: str, sizes: _Sizes, *, depth_gap: float | None = None) -> KindContrast:
    return KindContrast(
        mixer=mixer,
        **sizes,
        ratio=None,
        depth_gap=depth_gap,
        p_value=None,
        n_arrangements=0,
        is_exact=True,
        note=note,
    )


def _correlate(
    z: Float[np.ndarray, "*batch item"], d: Float[np.ndarray, " item"], y: Float[np.ndarray, " item"]
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"]]:
    """|partial correlation| of kind and divergence, and zᵀM z; 0 where kind is depth, or nothing is left of y."""
    size = (z**2).sum(axis=-1)
    spread = np.asarray(size - (z @ d) ** 2 / (d @ d))
    left = float(y @ y)
    statistic = np.zeros(spread.shape)
    is_told = (spread > _NOTHING * size) & (left > _NOTHING)
    np.divide(np.abs(z @ y), np.sqrt(np.maximum(spread, 0.0) * left), out=statistic, where=is_told)
    return statistic, spread


def _arrange(
    label: Bool[np.ndarray, " item"],
    bands: Int[np.ndarray, " item"],
    generator: np.random.Generator,
    n_permutations: int,
) -> tuple[Iterator[Float[np.ndarray, "arrangement item"]], bool]:
    """Arrangements of the labels within their bands, in chunks; and whether they are all there are."""
    members = [np.flatnonzero(bands == band) for band in np.unique(bands)]
    n_all = math.prod(math.comb(len(rows), int(label[rows].sum())) for rows in members)
    if n_all <= MAX_EXACT:
        return _all_arrangements(label, members), True
    return _random_arrangements(label, members, generator, n_permutations), False


def _all_arrangements(
    label: Bool[np.ndarray, " item"], members: list[Int[np.ndarray, " row"]]
) -> Iterator[Float[np.ndarray, "arrangement item"]]:
    choices = [list(itertools.combinations(rows.tolist(), int(label[rows].sum()))) for rows in members]
    products = itertools.product(*choices)
    while several := list(itertools.islice(products, _CHUNK)):
        chunk = np.zeros((len(several), label.size))
        for row, chosen in enumerate(several):
            chunk[row, list(itertools.chain.from_iterable(chosen))] = 1.0
        yield chunk


def _random_arrangements(
    label: Bool[np.ndarray, " item"],
    members: list[Int[np.ndarray, " row"]],
    generator: np.random.Generator,
    n_permutations: int,
) -> Iterator[Float[np.ndarray, "arrangement item"]]:
    for first in range(0, n_permutations, _CHUNK):
        chunk = np.tile(label.astype(np.float64), (min(_CHUNK, n_permutations - first), 1))
        for rows in members:
            chunk[:, rows] = generator.permuted(chunk[:, rows], axis=1)
        yield chunk
