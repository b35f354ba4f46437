"""What stands in for a mixer, as a specification: what it says of itself, and what is refused."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import layertracer as lt
from layertracer._types import substitute_from_dict
from layertracer._types.substitutes import checked_substitute

ALL = (lt.Window(1), lt.Window(64), lt.Window(16, sinks=4), lt.NoMixer(), lt.MeanMixer())


@pytest.mark.parametrize("substitute", ALL, ids=str)
def test_what_is_stored_comes_back(substitute: Any) -> None:
    """What was stored as JSON, and what was pickled, is the same substitute."""
    assert substitute_from_dict(json.loads(json.dumps(substitute.to_dict()))) == substitute
    assert pickle.loads(pickle.dumps(substitute)) == substitute  # noqa: S301 - our own
    assert substitute.to_dict()["kind"] == substitute.kind
    assert checked_substitute(substitute) is substitute


@given(st.integers(1, 10**6), st.integers(0, 100))
def test_a_window_sees_its_size_and_its_sinks(size: int, sinks: int) -> None:
    """A window sees its last tokens and the first ones, no matter which whole numbers say so."""
    window = lt.Window(np.int64(size), sinks=np.int32(sinks))
    assert window == lt.Window(size, sinks=sinks)
    assert (type(window.size), type(window.sinks), window.n_seen) == (int, int, size + sinks)


def test_words() -> None:
    """Each says in words what it is."""
    said = [one.describe() for one in ALL]
    assert said == [
        "a window of 1 token",
        "a window of 64 tokens",
        "a window of 16 tokens and the first 4",
        "no mixer",
        "the mixer's mean",
    ]
    assert [one.n_seen for one in ALL] == [1, 64, 20, 0, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"size": -3}, "size must be at least 1, got -3"),
        ({"size": 2.5}, r"size must be a whole number, got 2\.5"),
        ({"size": True}, "size must be a whole number, got True"),
        ({"size": "8"}, "size must be a whole number, got '8'"),
        ({"size": 8, "sinks": -1}, "sinks must be at least 0, got -1"),
        ({"size": 8, "sinks": None}, "sinks must be a whole number, got None"),
    ],
)
def test_windows_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    """A window of no whole number of tokens is refused, with what would do."""
    with pytest.raises(lt.UsageError, match=message):
        lt.Window(**settings)


@pytest.mark.parametrize(
    ("stored", "error", "message"),
    [
        ("window", lt.UsageError, "must be a dictionary with its kind, got 'window'"),
        ({"size": 8}, lt.UsageError, "must be a dictionary with its kind"),
        ({"kind": "windows", "size": 8}, lt.UnknownNameError, "Unknown substitute 'windows'.*Did you mean 'window'"),
        ({"kind": "window", "size": 8}, lt.UsageError, "'window' is stored with 'size'; expected was 'sinks', 'size'"),
        ({"kind": "none", "size": 8}, lt.UsageError, "'none' is stored with 'size'; expected was nothing besides"),
        ({"kind": "window", "size": 0, "sinks": 0}, lt.UsageError, "size must be at least 1"),
    ],
)
def test_what_is_no_stored_substitute_is_refused(stored: Any, error: type[Exception], message: str) -> None:
    """What no substitute's to_dict gives is refused, with what was expected."""
    with pytest.raises(error, match=message):
        substitute_from_dict(stored)


@pytest.mark.parametrize("given_", [64, "window", lt.Window, lt.Skip(), None])
def test_what_is_no_substitute_is_refused(given_: Any) -> None:
    """Only a substitute stands in for a mixer."""
    with pytest.raises(lt.UsageError, match="substitute must be a Window, a NoMixer or a MeanMixer"):
        checked_substitute(given_)
