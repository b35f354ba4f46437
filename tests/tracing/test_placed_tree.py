"""Placements as a tree of their beginnings, and the divergence that is measured of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from layertracer.tracing._distributions.kl_divergence import DivergenceFrom
from layertracer.tracing._passes.placed import branching, count_forwards, sort_placements

N_LAYERS = 9
placements_of_some_layers = st.lists(
    st.sets(st.integers(0, N_LAYERS - 1), min_size=1).map(lambda layers: tuple(sorted(layers))), max_size=12
)


@given(placements_of_some_layers)
def test_each_placement_is_what_its_parents_did_and_what_it_does(given_: list[tuple[int, ...]]) -> None:
    """Below the layer at which a variant comes in, its parent's edits are its own; from there on it has them all."""
    placements = sort_placements(given_, n_layers=N_LAYERS)
    variants = branching(placements)
    assert set(placements) == set(given_)
    for number, variant in enumerate(variants):
        first, layers, parent = variant.edits[0].layer, [edit.layer for edit in variant.edits], variant.parent
        if parent is not None:
            assert parent < number
            assert variants[parent].edits[0].layer < first
            layers += [layer for layer in placements[parent] if layer < first]
        assert tuple(sorted(layers)) == placements[number]


@given(placements_of_some_layers)
def test_what_placements_have_in_common_is_run_once(given_: list[tuple[int, ...]]) -> None:
    """As many layers run as there are different beginnings of placements, the full model's among them."""
    beginnings = {
        tuple(layer in layers for layer in range(depth + 1)) for layers in [(), *given_] for depth in range(N_LAYERS)
    }
    placements = sort_placements(given_, n_layers=N_LAYERS)
    assert count_forwards(placements, n_layers=N_LAYERS) * N_LAYERS == pytest.approx(len(beginnings))


def test_all_singles_of_thirty_layers_take_little_more_than_half() -> None:
    """Each layer substituted alone, and each kept alone: 61 forwards with the full model's, in the work of 33."""
    everything = range(30)
    singles = [(layer,) for layer in everything]
    singles += [tuple(other for other in everything if other != layer) for layer in everything]
    assert 61 / count_forwards(sort_placements(singles, n_layers=30), n_layers=30) > 1.8


# ---------------------------------------------------------------- divergence


def log_probs(*shape: int, seed: int, spread: float = 3.0) -> torch.Tensor:
    """Log-probabilities drawn at random, in float32."""
    logits = spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return logits.log_softmax(-1)


@given(st.integers(0, 10**6), st.sampled_from([0.01, 1.0, 30.0]))
def test_divergence_is_its_definition(seed: int, spread: float) -> None:
    """Σ p (log p − log q) in float64, within the rounding of float32, and never below 0."""
    log_p, log_q = log_probs(3, 50, seed=seed, spread=spread), log_probs(4, 3, 50, seed=seed + 1, spread=spread)
    nats = DivergenceFrom(log_p).to(log_q)
    exact = (log_p.double().exp() * (log_p.double() - log_q.double())).sum(-1)
    assert nats.dtype == torch.float64
    assert (nats >= 0).all()
    torch.testing.assert_close(nats, exact.clamp(min=0), rtol=1e-5, atol=1e-5)


def test_divergence_from_itself_is_zero() -> None:
    """0 exactly where both are the same, also where some tokens are excluded."""
    log_p = log_probs(5, 40, seed=1)
    log_p[:, 7] = -torch.inf
    assert (DivergenceFrom(log_p).to(log_p[None]) == 0).all()


def test_divergence_where_tokens_are_excluded() -> None:
    """What both exclude counts for nothing; what Q alone excludes makes it infinite; NaN stays NaN."""
    log_p, log_q = log_probs(2, 40, seed=2), log_probs(2, 40, seed=3)
    whole = DivergenceFrom(log_p).to(log_q)
    log_q[0, 3] = -torch.inf
    assert DivergenceFrom(log_p).to(log_q)[0] == torch.inf
    log_p[0, 3] = -torch.inf
    assert DivergenceFrom(log_p).to(log_q)[0].isfinite()
    assert DivergenceFrom(log_p).to(log_q)[1] == whole[1]
    log_q[1, 0] = torch.nan
    assert DivergenceFrom(log_p).to(log_q)[1].isnan()


def test_divergence_of_long_rows_is_taken_block_by_block() -> None:
    """Rows that do not fit into a block together give what each gives by itself."""
    log_p, log_q = log_probs(6, 60_000, seed=4), log_probs(2, 6, 60_000, seed=5)
    together = DivergenceFrom(log_p).to(log_q)
    alone = [[float(DivergenceFrom(log_p[row]).to(log_q[which, row])) for row in range(6)] for which in range(2)]
    np.testing.assert_allclose(together.numpy(), alone, rtol=1e-12)
