"""A change that makes LayerTracer do more arithmetic is seen, on any machine."""

from __future__ import annotations

import pytest

from benchmarks import baseline

MAX_GROWTH = 0.05
REMEDY = "`make bench-baseline` writes benchmarks/baseline.json anew"


@pytest.fixture(scope="module")
def counted() -> dict[str, baseline.Arithmetic]:
    """What this code needs for every job."""
    return baseline.count()


@pytest.mark.parametrize("name", baseline.jobs())
def test_arithmetic_is_that_of_the_baseline(name: str, counted: dict[str, baseline.Arithmetic]) -> None:
    """No job needs over 5 % more products of matrices, or vectors through layers, than the baseline says; nor less."""
    now, then = counted[name], baseline.read()[name]
    growth = baseline.relative_growth(now, then)
    assert growth <= MAX_GROWTH, (
        f"{name} needs {100 * growth:.0f} % more arithmetic than before ({now} after {then}). Find the work that was "
        f"added; if it buys something that is worth it, say so in the commit: {REMEDY}."
    )
    assert growth >= -MAX_GROWTH, (
        f"{name} needs {-100 * growth:.0f} % less arithmetic than before ({now} after {then}). Keep the gain: {REMEDY}."
    )


def test_baseline_has_every_job_and_no_other() -> None:
    """The stored jobs are those that are counted."""
    assert list(baseline.read()) == list(baseline.jobs()), REMEDY


def test_growth_is_that_of_the_count_that_grew_more() -> None:
    """Twice the vectors with the same products is twice the arithmetic; half of both is half."""
    then = baseline.Arithmetic(gflop=2.0, layer_row_tokens=10)
    assert baseline.relative_growth(baseline.Arithmetic(gflop=2.0, layer_row_tokens=20), then) == 1.0
    assert baseline.relative_growth(baseline.Arithmetic(gflop=1.0, layer_row_tokens=5), then) == -0.5
