"""How many cases and windows go into one pass of causal tracing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from layertracer.models import Network
from layertracer.tracing._batching.memory_budget import PassPlan, row_bytes
from layertracer.tracing._passes.cached_ladder import CachedLadder
from layertracer.tracing._patching.two_runs import Case


def buckets(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases of one length and one first corrupted position, the shortest first; in each in the order given."""
    found: dict[tuple[int, int], list[Case]] = {}
    for case in cases:
        found.setdefault((len(case.prompt.ids), case.prompt.first), []).append(case)
    return [found[key] for key in sorted(found)]


def plan_cells(
    network: Network,
    cases: Sequence[Case],
    *,
    n_windows: int,
    n_sites: int,
    budget_bytes: int,
    ladder: CachedLadder | None,
) -> PassPlan:
    """The largest pass within the budget over cases of one length.

    Args:
        network: The model.
        cases: The cases.
        n_windows: How many windows are patched at each position.
        n_sites: In how many layers values are copied.
        budget_bytes: What a pass may take.
        ladder: How rows go on from what they remember; None where whole prompts are run.
    """
    length, first = len(cases[0].prompt.ids), cases[0].prompt.first
    itemsize = torch.empty((), dtype=network.dtype).element_size()
    own = n_sites * (length - first) * network.anatomy.d_model * itemsize
    if ladder is None:
        row = row_bytes(network, length)
    else:
        n_span, state = length - first, ladder.state
        # Attention of the span over the whole prompt, and what one layer at a time remembers of it.
        remembered = max(state.layer_bytes(layer, length) for layer in state.layers_with)
        row = row_bytes(network, n_span) * length // n_span if n_span * 4 < length else row_bytes(network, length)
        row = min(row, row_bytes(network, length)) + 2 * remembered
        own += 2 * state.row_bytes(length)
    fitting = budget_bytes // (own + (1 + n_windows) * row)
    if fitting >= 1:
        return PassPlan(n_prompts=min(len(cases), fitting), n_variants=n_windows)
    return PassPlan(n_prompts=1, n_variants=max(1, min(n_windows, (budget_bytes - own) // row - 1)))


def batches(items: Sequence[Case], size: int) -> Iterator[Sequence[Case]]:
    """As many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
