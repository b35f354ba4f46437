"""Looking up findings and writing them as Markdown."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import pandas as pd


def pick(findings: pd.DataFrame, **values: str) -> pd.DataFrame:
    """The rows in which the columns have these values."""
    chosen = findings
    for column, value in values.items():
        chosen = chosen[chosen[column] == value]
    return chosen


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def wrap(page: str, *, width: int = 120) -> str:
    """The page with its paragraphs and list items broken at the width; tables, headings and the like as they are."""
    return "\n\n".join(_wrap_block(block, width) for block in page.strip().split("\n\n")) + "\n"


def _wrap_block(block: str, width: int) -> str:
    if block.lstrip().startswith(("|", "#", "!", "<")):
        return block
    items = block.replace("\n- ", "\0- ").split("\0")
    filled = (
        textwrap.fill(
            " ".join(item.split()),
            width,
            subsequent_indent="  " if item.startswith("- ") else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for item in items
    )
    return "\n".join(filled)


def share(value: float) -> str:
    """A share in per cent; nothing where there is none."""
    return "" if math.isnan(value) else f"{100 * value:.0f} %"


def at_most(value: float) -> str:
    """A share in per cent, rounded up, so that no share lies above it."""
    return f"{math.ceil(100 * value)} %"


def number(value: float, *, digits: int = 2) -> str:
    """A number with a true minus sign; nothing where there is none."""
    return "" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float, *, digits: int = 2) -> str:
    """A number with its sign."""
    return "" if math.isnan(value) else f"{value:+.{digits}f}".replace("-", "−")


def interval(row: pd.Series, *, digits: int = 2) -> str:
    """The ends of a row's interval."""
    return f"{number(float(row['low']), digits=digits)} to {number(float(row['high']), digits=digits)}"
