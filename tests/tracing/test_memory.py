"""Memory sizes, and how much goes into one pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import layertracer as lt
from layertracer.tracing import parse_memory
from layertracer.tracing._batching.memory_budget import PassPlan


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("8GiB", 8 * 2**30), ("500MB", 500_000_000), ("1.5 kb", 1500), ("2g", 2 * 10**9), ("77", 77)]
)
def test_sizes_are_read_with_their_unit(text: str, n_bytes: int) -> None:
    """Decimal and binary units, with or without B, in any case."""
    assert parse_memory(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1GB", "0", "8 apples", "1TB2"])
def test_other_sizes_are_refused(text: str) -> None:
    """What is no positive size says what would be."""
    with pytest.raises(lt.UsageError, match="positive size such as 8GiB"):
        parse_memory(text)


@given(st.integers(1, 7), st.integers(1, 6), st.integers(1, 60))
def test_chunks_hold_every_variant_once(n_layers: int, n_draws: int, size: int) -> None:
    """However small a pass is, its chunks together are all layers and draws, each once."""
    chunks = PassPlan(n_prompts=1, n_variants=size).passes(
        [(layer, draw) for layer in range(n_layers) for draw in range(n_draws)]
    )
    seen = [(layer, draw) for chunk in chunks for layer, draws in chunk.items() for draw in draws]
    assert sorted(seen) == [(layer, draw) for layer in range(n_layers) for draw in range(n_draws)]
    assert max(sum(map(len, chunk.values())) for chunk in chunks) <= size


@given(st.integers(1, 100), st.integers(1, 100))
def test_halving_ends_at_the_smallest_pass(n_prompts: int, n_variants: int) -> None:
    """Halving first takes prompts, then variants, and ends with one of each."""
    plan = PassPlan(n_prompts=n_prompts, n_variants=n_variants)
    for _ in range(16):
        halved = plan.halved()
        assert halved.n_prompts <= plan.n_prompts
        assert halved.n_variants == plan.n_variants or plan.n_prompts == 1
        plan = halved
    assert plan.is_smallest
