"""Rows become numbers in chunks: the same numbers whatever the budget, and no more memory than it."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import layertracer as lt
from layertracer.tracing._distributions.blocks import block_size, blocks, spans
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._distributions.readout_statistics import LensStatistics, measure_lens
from layertracer.tracing._distributions.reduction import Reduction

CPU, META = torch.device("cpu"), torch.device("meta")


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensors made inside the block and still alive, each memory counted once; `peak` is the most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage()._cdata not in given | self._seen:
                self._count(leaf.untyped_storage())
        self.peak = max(self.peak, self.now)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, n_bytes = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self.now += n_bytes
        weakref.finalize(storage, self._free, key, n_bytes)

    def _free(self, key: int, n_bytes: int) -> None:
        self._seen.discard(key)
        self.now -= n_bytes


class CountingTail:
    """A linear tail that notes how many rows it is given at a time."""

    def __init__(self, d_vocab: int, width: int = 8) -> None:
        generator = torch.Generator().manual_seed(0)
        self.unembedding = torch.randn(width, d_vocab, generator=generator)
        self.n_rows: list[int] = []

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits of rows."""
        self.n_rows.append(len(rows))
        return rows @ self.unembedding


def _rows(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@given(st.lists(st.integers(0, 40), max_size=3), st.integers(1, 30_000))
def test_blocks_hold_every_row_once_and_in_order(shape: list[int], row_size: int) -> None:
    """Blocks together are all rows in their order; none is larger than it should be, but for a single row."""
    numbers = torch.arange(max(0, torch.Size(shape).numel())).reshape(shape)
    indices = list(blocks(shape, row_size, CPU))
    seen = [numbers[index].flatten() for index in indices]
    assert torch.equal(torch.cat(seen) if seen else numbers.flatten(), numbers.flatten())
    assert all(len(rows) <= 1 or len(rows) * row_size <= block_size(CPU) for rows in seen)
    assert len(list(blocks(shape, row_size, META))) == 1


@given(st.integers(1, 2_000_000))
def test_spans_hold_a_row_once(row_size: int) -> None:
    """Stretches of a row follow one another to its end, none longer than a block; elsewhere than on a CPU it is one."""
    found = list(spans(row_size, CPU))
    assert [span.start for span in found] == [0, *[span.stop for span in found[:-1]]]
    assert min(row_size, found[-1].stop) == row_size
    assert all(span.stop - span.start <= block_size(CPU) for span in found)
    assert len(list(spans(row_size, META))) == 1


@pytest.mark.parametrize("budget_bytes", [1, 100_000, 1_000_000, 10**9])
@pytest.mark.parametrize("shape", [(4, 1, 3, 6), (1, 2, 1, 70), (37, 1, 2, 1)])
def test_chunks_of_rows_change_no_number(budget_bytes: int, shape: tuple[int, int, int, int]) -> None:
    """Whatever the budget, statistics and divergences are those of all rows at once, within the tail's rounding."""
    n_prompts, n_scored, n_lens_rows, n_variants = shape
    tail = CountingTail(211)
    rows, perturbed = _rows(n_prompts, n_scored, n_lens_rows, 8), _rows(n_variants, n_prompts, 8)
    targets = torch.arange(n_prompts * n_scored).reshape(n_prompts, n_scored)
    reduction = Reduction(tail, d_vocab=211, budget_bytes=budget_bytes)
    lens = reduction.lens(rows, targets, n_top=5)
    expected = measure_lens(rows @ tail.unembedding, targets[:, :, None].expand(shape[:3]), n_top=5)
    for name in LensStatistics.__slots__:
        assert torch.allclose(getattr(lens, name), getattr(expected, name), atol=2e-6), name
    clean = rows[:, 0, -1]
    bits = reduction.js_bits(clean, perturbed)
    one = lt.js_divergence(log_probs_of(perturbed @ tail.unembedding), log_probs_of(clean @ tail.unembedding)[None])
    assert torch.allclose(bits, one, atol=1e-6)


def test_each_row_becomes_logits_once_and_in_large_chunks() -> None:
    """The tail sees each clean and each perturbed row once, in chunks that hold several prompts."""
    tail = CountingTail(20_000)
    reduction = Reduction(tail, d_vocab=20_000, budget_bytes=2**30)
    reduction.js_bits(_rows(48, 8), _rows(30, 48, 8))
    assert sum(tail.n_rows) == 48 + 30 * 48
    assert tail.n_rows[0] == 48
    assert min(tail.n_rows[1:]) >= 64


def test_no_variants_are_no_work() -> None:
    """A pass without perturbed rows has divergences of that shape."""
    reduction = Reduction(CountingTail(11), d_vocab=11, budget_bytes=2**20)
    assert reduction.js_bits(_rows(3, 8), _rows(0, 3, 8)).shape == (0, 3)


@pytest.mark.parametrize(("d_vocab", "budget_mib"), [(1000, 8), (262_144, 64)])
def test_memory_is_that_of_one_chunk(d_vocab: int, budget_mib: int) -> None:
    """For 512 rows, JS and lens statistics take no more than the budget beyond what goes in and comes out."""
    rows, targets = _rows(16, 1, 32, 8), torch.arange(16)[:, None]
    perturbed = rows[:, 0].transpose(0, 1).contiguous()
    tail = CountingTail(d_vocab)
    reduction = Reduction(tail, d_vocab=d_vocab, budget_bytes=budget_mib * 2**20)
    slack = 2**20  # results, and copies of rows of this width
    with LiveBytes() as live:
        reduction.js_bits(rows[:, 0, 0], perturbed)
    assert live.peak <= budget_mib * 2**20 + slack
    assert sum(tail.n_rows) == 512 + 16
    with LiveBytes() as live:
        reduction.lens(rows, targets, n_top=5)
    assert max(tail.n_rows) * d_vocab * 4 <= live.peak <= budget_mib * 2**20 + slack
    assert live.now <= slack


def test_on_a_cpu_no_budget_makes_chunks_too_large() -> None:
    """Beyond what the product of matrices gains from, more memory is not taken: 64 rows of a vocabulary of 262,144."""
    rows_per_chunk = Reduction(CountingTail(1), d_vocab=262_144, budget_bytes=2**40).rows_per_chunk
    assert rows_per_chunk(CPU) == 64
    assert rows_per_chunk(META) > 10_000


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_reaches_the_results(bad: float) -> None:
    """A row of which the tail makes NaN or infinity has NaN for its numbers; the others have not."""
    reduction = Reduction(lambda rows: rows, d_vocab=50, budget_bytes=2**20)
    perturbed = _rows(3, 2, 50)
    perturbed[1, 1, 7] = bad
    assert reduction.js_bits(_rows(2, 50), perturbed).isnan().nonzero().tolist() == [[1, 1]]
    lens = reduction.lens(perturbed[:, None], torch.zeros(3, 1, dtype=torch.long), n_top=5)
    assert lens.log_prob.isnan().nonzero().tolist() == [[1, 0, 1]]
    assert lens.entropy_bits.isnan().nonzero().tolist() == [[1, 0, 1]]
