"""Laws of the Jensen-Shannon divergence, on generated distributions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import layertracer as lt
from layertracer.tracing._distributions.js_divergence import js_from_logits
from layertracer.tracing._distributions.log_softmax import floored_log_probs_of, log_probs_of
from layertracer.tracing._distributions.readout_statistics import measure_lens

LOGITS = st.lists(st.floats(-40, 40, width=32), min_size=2, max_size=12)


def _log_probs(logits: list[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.log_softmax(torch.tensor(logits, dtype=torch.float64), dim=-1).to(dtype)


def _textbook(p: np.ndarray, q: np.ndarray) -> float:
    """The definition in float64, 0 log 0 = 0."""
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log2(p / m), 0) + np.where(q > 0, q * np.log2(q / m), 0)
    return float(terms.sum() / 2)


@given(st.data())
def test_it_is_symmetric_and_within_0_and_1(data: st.DataObject) -> None:
    """JSD(P, Q) = JSD(Q, P), from 0 to 1 bit, never NaN."""
    first = data.draw(LOGITS)
    second = data.draw(st.lists(st.floats(-40, 40, width=32), min_size=len(first), max_size=len(first)))
    p, q = _log_probs(first), _log_probs(second)
    bits = float(lt.js_divergence(p, q))
    assert 0 <= bits <= 1
    assert bits == float(lt.js_divergence(q, p))


@given(LOGITS)
def test_equal_distributions_have_exactly_none(logits: list[float]) -> None:
    """JSD(P, P) = 0, to the last bit."""
    p = _log_probs(logits)
    assert float(lt.js_divergence(p, p.clone())) == 0.0


@given(st.data())
def test_it_follows_the_definition(data: st.DataObject) -> None:
    """In float64 it is the textbook's sum to 2e-7 of its value; in float32 to 1e-6 bits."""
    first = data.draw(LOGITS)
    second = data.draw(st.lists(st.floats(-40, 40, width=32), min_size=len(first), max_size=len(first)))
    p, q = _log_probs(first, torch.float64), _log_probs(second, torch.float64)
    expected = _textbook(p.exp().numpy(), q.exp().numpy())
    assert float(lt.js_divergence(p, q)) == pytest.approx(expected, rel=2e-7, abs=1e-12)
    assert float(lt.js_divergence(p.float(), q.float())) == pytest.approx(expected, abs=1e-6)


@given(st.floats(1e-6, 1e-2), st.lists(st.floats(-5, 5), min_size=3, max_size=10))
def test_small_differences_lose_no_digits(step: float, logits: list[float]) -> None:
    """Near P it grows as the square of the difference, in float32 as well: no cancellation, never below 0."""
    p = _log_probs(logits, torch.float64)
    q = torch.log_softmax(p + step * torch.arange(len(logits), dtype=torch.float64).cos(), dim=-1)
    rounded = (p.float(), q.float())
    expected = _textbook(rounded[0].double().exp().numpy(), rounded[1].double().exp().numpy())
    got = float(lt.js_divergence(*rounded))
    assert got >= 0
    # What float32 holds of the difference is taken as given; the divergence of it keeps its digits.
    gap = (rounded[0].double() - rounded[1].double()).square()
    leading = float((rounded[0].double().exp() * gap).sum() / 8 / math.log(2))
    assert got == pytest.approx(leading, rel=0.05, abs=1e-14)
    assert got == pytest.approx(expected, abs=1e-9)


def test_disjoint_supports_are_one_bit_apart() -> None:
    """Where supports do not overlap it is 1, and minus infinity does no harm."""
    p = torch.tensor([0.5, 0.5, 0.0, 0.0]).log()
    q = torch.tensor([0.0, 0.0, 1.0, 0.0]).log()
    assert float(lt.js_divergence(p, q)) == pytest.approx(1.0, abs=1e-6)
    assert not bool(lt.js_divergence(p, q).isnan())


def test_leading_axes_are_kept_and_broadcast() -> None:
    """One divergence per leading index; the second argument may have axes of size 1."""
    generator = torch.Generator().manual_seed(0)
    p = torch.log_softmax(torch.randn(3, 4, 7, generator=generator), dim=-1)
    q = torch.log_softmax(torch.randn(1, 4, 7, generator=generator), dim=-1)
    bits = lt.js_divergence(p, q)
    assert bits.shape == (3, 4)
    assert float(bits[2, 1]) == pytest.approx(float(lt.js_divergence(p[2, 1], q[0, 1])), abs=1e-7)


@pytest.mark.parametrize("t", [0.05, 0.1, 0.19, 0.2, 0.21, 0.3, 1.0, 5.0])
def test_the_two_branches_meet(t: float) -> None:
    """On either side of the change of formula, two tokens with log-odds ±t are as far apart as defined."""
    p = _log_probs([t, -t], torch.float64)
    q = _log_probs([-t, t], torch.float64)
    expected = _textbook(p.exp().numpy(), q.exp().numpy())
    assert float(lt.js_divergence(p.float(), q.float())) == pytest.approx(expected, rel=1e-5)


def test_half_precision_is_taken_to_float32() -> None:
    """Log-probabilities in bfloat16 are used as they are, and the divergence of them is as exact as in float32."""
    generator = torch.Generator().manual_seed(0)
    p, q = torch.randn(2, 4, 50, generator=generator).log_softmax(dim=-1).bfloat16()
    bits = lt.js_divergence(p, q)
    assert bits.dtype == torch.float32
    assert torch.equal(bits, lt.js_divergence(p.float(), q.float()))


# ------------------------------------------------------------- from logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@given(case=st.data())
def test_from_logits_it_is_within_a_millionth_of_a_bit(dtype: torch.dtype, case: st.DataObject) -> None:
    """Of logits 1e4 apart, or minus infinity, it is the textbook's sum to 1e-6 bits, and symmetric as well."""
    size = case.draw(st.integers(1, 40))
    scale = case.draw(st.sampled_from([1e-4, 1.0, 30.0, 1e4]))
    numbers = st.floats(-1, 1, width=32)
    rows = st.lists(st.one_of(numbers, numbers, numbers, st.just(-math.inf)), min_size=size - 1, max_size=size - 1)
    x, y = (scale * torch.tensor([*case.draw(rows), case.draw(numbers)]) for _ in range(2))
    x, y = x.to(dtype), y.to(dtype)
    p, q = (torch.softmax(logits.double(), dim=-1).numpy() for logits in (x, y))
    bits = float(js_from_logits(x, floored_log_probs_of(y)))
    assert 0 <= bits <= 1
    assert bits == pytest.approx(_textbook(p, q), abs=1e-6)
    assert bits == pytest.approx(float(js_from_logits(y, floored_log_probs_of(x))), abs=1e-6)


@pytest.mark.parametrize("d_vocab", [1, 7, 1003, 49_157, 300_007])
@pytest.mark.parametrize("step", [1e-4, 1e-2, 1.0, 30.0])
def test_a_large_vocabulary_costs_no_digits(d_vocab: int, step: float) -> None:
    """From near-equal to disjoint distributions over any number of tokens, the textbook's sum to 1e-6 bits."""
    generator = torch.Generator().manual_seed(d_vocab)
    x = 4 * torch.randn(3, d_vocab, generator=generator)
    y = x[:1] + step * torch.randn(1, d_vocab, generator=generator)
    q = torch.softmax(y[0].double(), dim=-1).numpy()
    expected = [_textbook(torch.softmax(row.double(), dim=-1).numpy(), q) for row in x]
    assert js_from_logits(x, floored_log_probs_of(y)).tolist() == pytest.approx(expected, abs=1e-6)


@given(st.integers(1, 3000), st.integers(1, 400))
def test_a_row_is_the_same_among_others(d_vocab: int, n_rows: int) -> None:
    """However many rows go together, each has to the last bit what it has alone; equal logits have 0."""
    generator = torch.Generator().manual_seed(d_vocab)
    x, y = 5 * torch.randn(n_rows, d_vocab, generator=generator), torch.randn(d_vocab, generator=generator)
    x[n_rows // 2] = y
    bits = js_from_logits(x, floored_log_probs_of(y))
    for row in {0, n_rows // 2, n_rows - 1}:
        assert torch.equal(bits[row], js_from_logits(x[row], floored_log_probs_of(y)))
        assert torch.equal(bits[row : row + 1], js_from_logits(x[row : row + 1], floored_log_probs_of(y)))
    assert float(bits[n_rows // 2]) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_stays_none(bad: float) -> None:
    """NaN or +∞ among the logits of either side gives NaN, and to that row alone."""
    x, y = torch.zeros(3, 300), torch.zeros(300)
    x[1, 7] = bad
    assert js_from_logits(x, floored_log_probs_of(y)).isnan().tolist() == [False, True, False]
    assert js_from_logits(x[:1], floored_log_probs_of(x[1])).isnan().tolist() == [True]
    assert lt.js_divergence(log_probs_of(x), log_probs_of(y)).isnan().tolist() == [False, True, False]
    assert lt.js_divergence(log_probs_of(y).expand(3, -1), log_probs_of(x)).isnan().tolist() == [False, True, False]


def test_logits_are_left_as_they_are() -> None:
    """What is measured is not written over: a tail may return a view of what it keeps."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 5, 30, generator=generator)
    kept = x.clone(), y.clone()
    js_from_logits(x, floored_log_probs_of(y))
    lt.js_divergence(x, y)
    assert torch.equal(x, kept[0])
    assert torch.equal(y, kept[1])


def test_improbable_tokens_take_no_longer() -> None:
    """Logits far apart leave no number so small that processors slow down at it: every intermediate is 0 or normal."""
    generator = torch.Generator().manual_seed(0)
    x, y = 30 * torch.randn(2, 4, 5000, generator=generator)
    with _SmallestNumber() as seen:
        js_from_logits(x, floored_log_probs_of(y))
        lt.js_divergence(log_probs_of(x), log_probs_of(y))
        measure_lens(x, torch.zeros(4, dtype=torch.long), n_top=5)
    assert seen.smallest >= torch.finfo(torch.float32).tiny


class _SmallestNumber(TorchDispatchMode):
    """The smallest size of any number, other than 0, that exponentials and products give."""

    smallest = math.inf

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__.rstrip("_") in {"exp", "mul", "addcmul"}:
            sizes = result.abs()
            self.smallest = min(self.smallest, float(sizes.where(sizes > 0, math.inf).min()))
        return result
