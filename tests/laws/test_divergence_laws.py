"""Laws of the Jensen-Shannon divergence, on generated distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import layertracer as lt

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


@pytest.mark.parametrize("t", [0.1, 0.29, 0.2999, 0.3001, 0.31, 1.0, 5.0])
def test_the_two_branches_meet(t: float) -> None:
    """On either side of the change of formula, two tokens with log-odds ±t are as far apart as defined."""
    p = _log_probs([t, -t], torch.float64)
    q = _log_probs([-t, t], torch.float64)
    expected = _textbook(p.exp().numpy(), q.exp().numpy())
    assert float(lt.js_divergence(p.float(), q.float())) == pytest.approx(expected, rel=3e-6)
