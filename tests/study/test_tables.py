"""Numbers and paragraphs of the study's page."""

from __future__ import annotations

from study.claims import _movement
from study.contrasts import _ratio
from study.tables import at_most, wrap


def test_paragraphs_are_wrapped_and_tables_are_not() -> None:
    """Long paragraphs and list items are broken at the width; tables, headings and pictures stay one line."""
    line = "| " + "cell " * 40 + "|"
    page = f"# Title\n\n{'word ' * 60}\n\n- {'item ' * 30}\n- short\n\n{line}\n{line}\n"
    blocks = wrap(page, width=40).split("\n\n")
    assert blocks[0] == "# Title"
    assert max(map(len, blocks[1].splitlines())) <= 40
    assert blocks[2].splitlines()[0].startswith("- item")
    assert blocks[2].splitlines()[1].startswith("  item")
    assert blocks[2].endswith("\n- short")
    assert blocks[3] == f"{line}\n{line}\n"


def test_bounds_are_rounded_up() -> None:
    """No share lies above what is called its upper bound."""
    assert (at_most(0.0208), at_most(0.02), at_most(0.0)) == ("3 %", "2 %", "0 %")


def test_small_ratios_are_not_nothing() -> None:
    """A ratio of three thousandths is not printed as 0."""
    assert (_ratio(0.003), _ratio(0.04)) == ("< 0.01", "0.04")


def test_movements_between_lenses() -> None:
    """A particle may be found earlier, later, at the same depth, by one lens alone or by neither."""
    nan = float("nan")
    pairs = [(0.5, 0.25), (0.5, 0.75), (0.5, 0.5), (nan, 0.5), (0.5, nan), (nan, nan)]
    assert [_movement(*pair) for pair in pairs] == ["earlier", "later", "same", "one", "one", "neither"]
