"""Onset criteria by name, and from JSON."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given

from layertracer import UnknownNameError, UsageError
from layertracer.measures import (
    ONSET_NAMES,
    AbsRatio,
    OnsetCriterion,
    Ratio,
    Rise,
    onset_from_dict,
    onset_from_name,
)

from tests.strategies import onset_criteria


@given(criterion=onset_criteria())
def test_a_criterion_survives_json(criterion: OnsetCriterion) -> None:
    """Written as strict JSON and read again, a criterion is the same."""
    text = json.dumps(criterion.to_dict(), allow_nan=False)
    assert onset_from_dict(json.loads(text)) == criterion


@pytest.mark.parametrize("name", ONSET_NAMES)
def test_every_name_makes_a_criterion(name: str) -> None:
    """Every listed name makes a criterion with defaults, which says its name."""
    criterion = onset_from_name(name)
    assert isinstance(criterion, OnsetCriterion)
    assert criterion.to_dict()["kind"] == name


def test_the_default_comes_first() -> None:
    """The list of names starts with the default."""
    assert ONSET_NAMES[0] == Rise.kind


def test_parameters_reach_the_criterion() -> None:
    """Parameters given by name are those of the criterion."""
    assert onset_from_name("rise", delta=0.03) == Rise(delta=0.03)
    assert onset_from_name("ratio", first_layer=2) == Ratio(first_layer=2)


def test_spelling_of_the_command_line() -> None:
    """Hyphens and capitals do not matter."""
    assert onset_from_name("Abs-Ratio") == AbsRatio()


def test_unknown_name_has_near_matches() -> None:
    """A misspelt name is answered with the nearest and with all."""
    with pytest.raises(
        UnknownNameError, match=r"onset criterion 'half_mix'. Did you mean 'half_max'.*Known: abs_ratio"
    ):
        onset_from_name("half_mix")


def test_unknown_parameter_is_refused() -> None:
    """A parameter that the criterion has not is refused with those it has."""
    with pytest.raises(UsageError, match=r"'ratio' has no parameter 'delta' \(got 0.1\). It takes first_layer."):
        onset_from_name("ratio", delta=0.1)
    with pytest.raises(UsageError, match=r"'half_max' has no parameter 'delta' \(got 0.1\). It takes none."):
        onset_from_name("half_max", delta=0.1)


def test_missing_kind_is_refused() -> None:
    """A specification without a kind is refused with the kinds there are."""
    with pytest.raises(UsageError, match=r"needs a 'kind', got {'delta': 0.1}. Known kinds: rise, "):
        onset_from_dict({"delta": 0.1})


def test_infinite_sigmas_are_none_in_json() -> None:
    """The rule of sigmas switched off is None, since JSON has no infinity."""
    assert Rise(sigmas=math.inf).to_dict()["sigmas"] is None
