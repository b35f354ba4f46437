"""The arithmetic that the benchmark of causal tracing counts is what the passes take."""

from __future__ import annotations

from functools import partial

import pytest

from benchmarks.causal import count_cells, count_plain, count_row_tokens, count_traced, plain, traced
from layertracer.tracing import CausalPrompt

from tests.support.tiny import tiny


def make_prompts() -> list[CausalPrompt]:
    """Two prompts of one length and two of others, corrupted from different positions on."""
    prompts = []
    for index, (length, first) in enumerate([(8, 0), (8, 2), (8, 2), (11, 3)]):
        ids = tuple(range(5 + index, 5 + index + length))
        corrupted = (*ids[:first], *(token + 40 for token in ids[first : first + 2]), *ids[first + 2 :])
        prompts.append(
            CausalPrompt(index=index, ids=ids, corrupted_ids=corrupted, span=(first, first + 2), answers=(7,))
        )
    return prompts


def test_counted_work_is_what_the_passes_take() -> None:
    """Rows × layers × positions as counted are those that go through the layers, either way."""
    model, prompts = tiny("llama"), make_prompts()
    traced(model, prompts, audit=0.0)  # proofs and probes come once
    n_layers, n_donor = 4, sum(4 * len(prompt.ids) for prompt in prompts)
    assert count_row_tokens(model, partial(traced, model, prompts, audit=0.0)) == count_traced(prompts, n_layers)
    assert count_row_tokens(model, partial(plain, model, prompts)) == count_plain(prompts, n_layers) + n_donor


def test_thirty_layers_save_what_is_promised() -> None:
    """With 30 layers and facts of nine tokens whose subject begins at the second, the passes take less than a third."""
    fact = CausalPrompt(index=0, ids=tuple(range(9)), span=(1, 3), answers=(0,))
    assert count_cells([fact], 30) == 240
    assert count_plain([fact], 30) == 240 * 9 * 30
    assert count_plain([fact], 30) / count_traced([fact], 30) == pytest.approx(3.64, abs=0.2)
