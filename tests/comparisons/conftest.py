"""What the tests of comparisons share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from layertracer.comparisons import ComparisonSettings, ModelComparison, compare_records
from layertracer.measures import Rise
from layertracer.runs import TraceRecord

from tests.support.records.model_records import HYBRID, make_model


def compare_fast(records: Sequence[TraceRecord], **settings: Any) -> ModelComparison:
    """Compare with few resamples and one criterion."""
    chosen = {"n_resamples": 400, "onsets": (Rise(),)} | settings
    return compare_records(records, settings=ComparisonSettings(**chosen))


@pytest.fixture(scope="session")
def three() -> ModelComparison:
    """Three models with all criteria: two of attention, one hybrid of other depth."""
    return compare_records(
        [
            make_model("small", 1_000_000, seed=1),
            make_model("large", 4_000_000, seed=2, js_scale=0.6),
            make_model("hybrid", 1_000_000, seed=3, mixers=HYBRID, n_layers=12),
        ]
    )
