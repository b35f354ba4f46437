"""Cells of a table that leaves as CSV: names that a spreadsheet must not run."""

from __future__ import annotations

import math
from typing import Any

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What spreadsheets take for the beginning of a formula, or pass over in front of one; also in full width."""


def without_formula(cell: Any) -> Any:
    """A cell that no spreadsheet runs: a text that would be a formula gets an apostrophe in front.

    Laws: numbers stay, also those that are written as text; what it gives comes back unchanged from a second call.

    Example:
        >>> without_formula("=1+1"), without_formula("-0.5"), without_formula(-0.5)
        ("'=1+1", '-0.5', -0.5)
    """
    if not isinstance(cell, str) or not cell.lstrip(" ").startswith(_FORMULA_STARTS) or _is_number(cell):
        return cell
    return f"'{cell}"


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell)) and not cell.startswith(("\t", "\r", "\n"))
    except ValueError:
        return False
