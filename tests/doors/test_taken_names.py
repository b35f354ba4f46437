"""Names that a measure or a lens of one's own cannot have: said where it is registered, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from layertracer import UsageError
from layertracer._types import RESERVED_NAMES, MeasureInfo
from layertracer.tracing import register_layer_measure, register_lens, register_row_measure


class Named:
    """A measure of a name; what it measures is never asked for here."""

    def __init__(self, name: str) -> None:
        """Keep the name."""
        self.info = MeasureInfo(name=name, unit="bits", meaning="something")


class DottedLens:
    """A lens whose columns could be those of a site."""

    name, meaning = "mlp_output.js_bits", "something"


@pytest.mark.parametrize("register", [register_row_measure, register_layer_measure])
@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_reserved_names_are_refused(register: Callable[[Any], Any], name: str) -> None:
    """What stands for something in every trace is refused when a measure is registered, before anything is traced."""
    with pytest.raises(UsageError, match=f"cannot be called '{name}'"):
        register(Named(name))


def test_a_row_measure_and_a_layer_measure_have_two_names() -> None:
    """The second of two measures of one name is refused, whichever comes first, until the first is undone."""
    both: tuple[Callable[[Any], Any], Callable[[Any], Any]] = (register_row_measure, register_layer_measure)
    for first, second in (both, both[::-1]):
        with first(Named("drift_bits")), pytest.raises(UsageError, match="'drift_bits' is registered already"):
            second(Named("drift_bits"))
        second(Named("drift_bits")).undo()
    with pytest.raises(UsageError, match="'block_influence' is registered already"):
        both[0](Named("block_influence"))


def test_a_lens_has_an_identifier() -> None:
    """The columns of a lens begin with its name and a dot: a name with a dot could be that of another column."""
    register: Callable[[Any], Any] = register_lens
    with pytest.raises(UsageError, match="name of a lens must be an identifier"):
        register(DottedLens())
