"""The stored results: small tables, from which the page is written."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pandas as pd

from layertracer._errors import UsageError
from layertracer._files import write_whole

from design_study.plan import RESULTS

TABLES = ("scores", "windows", "advice", "recall", "students", "alignment", "findings")
"""Names of the tables, in the order in which they are made."""


def table_file(name: str) -> Path:
    """Where a table is stored."""
    return RESULTS / f"{name}.parquet"


def read_table(name: str) -> pd.DataFrame:
    """A stored table.

    Raises:
        UsageError: If it was not made yet.
    """
    if not table_file(name).is_file():
        raise UsageError(f"{table_file(name)} is not there yet. Make it: python -m design_study --part {name}.")
    return pd.read_parquet(table_file(name))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Stores a table in place of what was there."""
    buffer = BytesIO()
    table.to_parquet(buffer, index=False)
    write_whole(path, buffer.getvalue())
