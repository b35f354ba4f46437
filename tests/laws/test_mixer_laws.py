"""Laws of the results by kind of mixer, and of layers without the perturbed site, on generated arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layertracer._types import MixerGroup
from layertracer.measures import (
    TargetCurves,
    attribute_to_dominant,
    find_missing,
    find_vulnerable_layer,
    group_by_mixer,
    measure_robustness,
)

from tests.strategies import js_arrays, make_curves

SOME = 100
MIXERS = ("attention", "mamba", "none")


@st.composite
def hybrids(draw: st.DrawFn, *, with_gaps: bool = True) -> tuple[np.ndarray, TargetCurves, tuple[str, ...]]:
    """Divergences, curves and mixers of a model; some layers, but never all, may lack the site."""
    js = draw(js_arrays())
    n_prompts, _, n_layers = js.shape
    prob = np.random.default_rng(draw(st.integers(0, 2**31))).random((n_prompts, n_layers + 1))
    mixers = draw(st.lists(st.sampled_from(MIXERS), min_size=n_layers, max_size=n_layers))
    if with_gaps:
        gaps = draw(st.sets(st.integers(0, n_layers - 1), max_size=n_layers - 1))
        js[..., sorted(gaps)] = np.nan
    return js, make_curves(prob[:, 1:], prob[:, 0]), tuple(mixers)


def _group(js: np.ndarray, curves: TargetCurves, mixers: tuple[str, ...], *, seed: int = 0) -> tuple[MixerGroup, ...]:
    return group_by_mixer(js, curves, mixers, n_resamples=SOME, seed=seed)


@given(hybrid=hybrids())
def test_kinds_weighted_by_their_layers_are_the_whole(
    hybrid: tuple[np.ndarray, TargetCurves, tuple[str, ...]],
) -> None:
    """Mean JS weighted by perturbed layers is the model's mean; gains weighted by layers are the whole rise."""
    js, curves, mixers = hybrid
    groups = _group(js, curves, mixers)
    assert [group.mixer for group in groups] == list(dict.fromkeys(mixers))
    assert sorted(layer for group in groups for layer in group.layers) == list(range(js.shape[2]))
    pooled = sum(group.n_perturbed * (group.mean_js_bits or 0.0) for group in groups)
    n_perturbed = sum(group.n_perturbed for group in groups)
    assert pooled / n_perturbed == pytest.approx(measure_robustness(js).mean_bits)
    rise = float((curves.prob[:, -1] - curves.embedding_prob).mean())
    assert sum(group.n_layers * group.mean_gain_prob for group in groups) == pytest.approx(rise, abs=1e-12)
    depth = sum(group.n_layers * group.mean_depth for group in groups) / js.shape[2]
    assert depth == pytest.approx((js.shape[2] + 1) / (2 * js.shape[2]))


@given(hybrid=hybrids(), data=st.data())
def test_order_within_a_kind_does_not_matter(
    hybrid: tuple[np.ndarray, TargetCurves, tuple[str, ...]], data: st.DataObject
) -> None:
    """Permuting the divergences of one kind's layers among them changes no number, and no number of other kinds."""
    js, curves, mixers = hybrid
    kind = data.draw(st.sampled_from(mixers))
    layers = [layer for layer, mixer in enumerate(mixers) if mixer == kind]
    shuffled = js.copy()
    shuffled[..., layers] = js[..., data.draw(st.permutations(layers))]
    for here, there in zip(_group(js, curves, mixers), _group(shuffled, curves, mixers), strict=True):
        assert _numbers(there) == pytest.approx(_numbers(here), abs=1e-12)
        assert (there.vulnerable_layer is None) == (here.vulnerable_layer is None)
        assert there.vulnerable_layer == here.vulnerable_layer or here.mixer == kind


def _numbers(group: MixerGroup) -> list[float]:
    """All numbers of a group but its most vulnerable layer; -1 for none."""
    ends = (-1.0, -1.0) if group.interval is None else (group.interval.low, group.interval.high)
    values = (group.mean_js_bits, group.max_js_bits, *ends, group.mean_gain_prob, group.n_perturbed, group.mean_depth)
    return [-1.0 if value is None else float(value) for value in values]


@given(hybrid=hybrids())
def test_a_single_kind_is_the_whole_model(hybrid: tuple[np.ndarray, TargetCurves, tuple[str, ...]]) -> None:
    """Where all layers are of one kind, its numbers are the model's."""
    js, curves, mixers = hybrid
    (group,) = _group(js, curves, ("attention",) * len(mixers))
    robustness = measure_robustness(js)
    assert group.mean_js_bits == pytest.approx(robustness.mean_bits)
    assert group.max_js_bits == pytest.approx(robustness.max_bits)
    assert group.vulnerable_layer == find_vulnerable_layer(js, n_resamples=SOME).layer
    assert group.n_perturbed == int((~find_missing(js)).sum())


@given(hybrid=hybrids(), seed=st.integers(0, 2**31))
def test_equal_seeds_give_equal_groups(hybrid: tuple[np.ndarray, TargetCurves, tuple[str, ...]], seed: int) -> None:
    """The same arrays and seed give the same groups, whose intervals reach their layers' divergences, in [0, 1]."""
    js, curves, mixers = hybrid
    first, second = _group(js, curves, mixers, seed=seed), _group(js, curves, mixers, seed=seed)
    assert first == second
    for group in first:
        if group.interval is not None:
            values = js[..., list(group.layers)]
            assert 0.0 <= group.interval.low <= np.nanmax(values) + 1e-9
            assert np.nanmin(values) - 1e-9 <= group.interval.high <= 1.0


@given(js=js_arrays(max_prompts=1, max_draws=1), n_prompts=st.integers(2, 5), n_draws=st.integers(2, 4))
def test_no_spread_leaves_no_width(js: np.ndarray, n_prompts: int, n_draws: int) -> None:
    """Copies of one curve give an interval of the mean alone."""
    copies = np.tile(js, (n_prompts, n_draws, 1))
    prob = np.full((n_prompts, js.shape[2]), 0.5)
    (group,) = _group(copies, make_curves(prob), ("mamba",) * js.shape[2])
    assert group.interval is not None
    assert group.mean_js_bits is not None
    assert group.interval.low == pytest.approx(group.mean_js_bits, abs=1e-12)
    assert group.interval.high == pytest.approx(group.mean_js_bits, abs=1e-12)


@given(js=js_arrays(), data=st.data())
def test_layers_without_the_site_change_nothing_but_indices(js: np.ndarray, data: st.DataObject) -> None:
    """With gaps between them, the layers that have the site give the same answers, under their new indices."""
    n_layers = js.shape[2] + data.draw(st.integers(1, 4))
    places = np.sort(data.draw(st.permutations(range(n_layers)))[: js.shape[2]])
    wide = np.full((*js.shape[:2], n_layers), np.nan)
    wide[..., places] = js
    assert find_missing(wide).tolist() == [layer not in places for layer in range(n_layers)]

    here, there = (find_vulnerable_layer(array, n_resamples=SOME) for array in (js, wide))
    interval = here.interval and dataclasses.replace(
        here.interval, low=float(places[int(here.interval.low)]), high=float(places[int(here.interval.high)])
    )
    assert there == dataclasses.replace(
        here,
        layer=int(places[here.layer]),
        interval=interval,
        per_prompt=tuple(int(places[layer]) for layer in here.per_prompt),
        is_edge=places[here.layer] in (0, n_layers - 1),
        contenders=tuple(int(places[layer]) for layer in here.contenders),
    )

    narrow, with_gaps = measure_robustness(js), measure_robustness(wide)
    assert (with_gaps.max_bits, with_gaps.mean_bits) == (narrow.max_bits, narrow.mean_bits)
    np.testing.assert_array_equal(with_gaps.profile_bits[places], narrow.profile_bits)
    assert np.isnan(with_gaps.profile_bits[find_missing(wide)]).all()
    assert with_gaps.profile_depth.shape == (n_layers,)

    hit = np.zeros(wide.shape[1:], dtype=bool)
    hit[0] = True
    shares = attribute_to_dominant(
        wide, hit, dominant_dimension=np.zeros(n_layers, int), dominant_ratio=np.ones(n_layers)
    )
    assert np.isnan(shares.js_share[find_missing(wide)]).all()
    assert np.isnan(shares.draw_share).tolist() == find_missing(wide).tolist()
