"""Which runs are of the same model, also where their fingerprints are of two forms."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from layertracer._types import WHOLE_FINGERPRINT
from layertracer.comparisons import compare_records
from layertracer.comparisons._identity import describe_same_models, identify_models
from layertracer.runs import TraceRecord

from tests.support.records.model_records import make_model


def run(fingerprint: str, name: str = "one", **known: Any) -> TraceRecord:
    """A run of a model of this fingerprint."""
    record = make_model(name)
    return dataclasses.replace(record, model=dataclasses.replace(record.model, fingerprint=fingerprint, **known))


def new(digits: str) -> str:
    """A fingerprint of all weights."""
    return WHOLE_FINGERPRINT + digits


OLD, OTHER_OLD = "a" * 64, "b" * 64


def n_models(*records: TraceRecord) -> int:
    """How many models they count as, in whatever order they are given."""
    counts = {len(set(identify_models(order))) for order in itertools.permutations(records)}
    assert len(counts) == 1
    return counts.pop()


@pytest.mark.parametrize(("one", "other"), [(OLD, OTHER_OLD), (new("1"), new("2"))], ids=["older", "newer"])
def test_one_form(one: str, other: str) -> None:
    """Fingerprints of one form decide, whatever the names."""
    assert n_models(run(one), run(one, "another")) == 1
    assert n_models(run(one), run(other)) == 2


def test_two_forms() -> None:
    """Across forms the revision decides, and the name where there is none; sizes must agree."""
    assert n_models(run(OLD), run(new("1"))) == 1
    assert n_models(run(OLD), run(new("1"), "another")) == 2
    assert n_models(run(OLD, revision="r"), run(new("1"), "another", revision="r")) == 1
    assert n_models(run(OLD, revision="r"), run(new("1"), revision="s")) == 2
    assert n_models(run(OLD), run(new("1"), dtype="bfloat16")) == 2
    assert n_models(run(OLD), run(new("1"), n_parameters=5)) == 2


def test_known_to_differ_stays_different() -> None:
    """What its own form tells apart is never made one by a run of the other form."""
    assert n_models(run(OLD), run(new("1")), run(new("2"))) == 3
    assert n_models(run(OLD), run(OTHER_OLD), run(new("1"))) == 3
    assert n_models(run(OLD), run(OLD), run(new("1")), run(new("1"))) == 1


def test_what_is_said() -> None:
    """The user is told that two runs count as one and why, or that it cannot be told; nothing of plain differences."""
    (said,) = describe_same_models([run(OLD), run(new("1"))], ["x", "y"])
    assert said.startswith("y is taken for the same model as x, by its name or revision and its sizes: one was stored")
    (said,) = describe_same_models([run(OLD), run(new("1"), "another")], ["x", "y"])
    assert said.startswith("Whether y and x are the same weights cannot be told")
    assert said.endswith("They count as two models. Trace the earlier one again to know.")
    assert describe_same_models([run(OLD), run(OTHER_OLD)], ["x", "y"]) == []
    assert describe_same_models([run(OLD, revision="r"), run(new("1"), revision="s")], ["x", "y"]) == []
    (said,) = describe_same_models([run(new("1")), run(new("1"))], ["x", "y"])
    assert (
        said
        == "y is the same model as x (equal fingerprint: the same weights and settings): together they count as one."
    )
    (said,) = describe_same_models([run(OLD), run(OLD)], ["x", "y"])
    assert said == "y is the same model as x (equal fingerprint): together they count as one."


def test_in_a_comparison() -> None:
    """A run of an older version and a new one of the same model are compared as one model, and said to be."""
    comparison = compare_records([run(OLD), run(new("1"))])
    assert any("is taken for the same model as" in warning for warning in comparison.warnings)
    assert {verdict.n_models for verdict in comparison.verdicts} <= {0, 1}
