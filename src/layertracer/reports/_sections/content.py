"""What a page holds besides its words: the data of its figures, and its tables."""

from __future__ import annotations

from typing import Any

from layertracer.reports._sections.protocol import Subject, subjects_of
from layertracer.reports._sections.tables import prompt_table
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Table
from layertracer.reports._values.prompts import Budget
from layertracer.runs import TraceRecord


def figure_data(
    record: TraceRecord, overview: Overview, budget: Budget, subjects: tuple[Subject, ...] | None = None
) -> dict[str, Any]:
    """Everything that the page's script draws, as JSON values."""
    subjects = subjects_of(record, overview) if subjects is None else subjects
    drawn = {one.id: one.figure(record, overview, budget) for one in subjects if one.figure is not None}
    data: dict[str, Any] = {"figures": drawn}
    for subject in subjects:
        if subject.data is not None:
            data |= subject.data(record, budget)
    return data


def table_data(
    record: TraceRecord, overview: Overview, budget: Budget, subjects: tuple[Subject, ...]
) -> dict[str, Table]:
    """The tables behind the figures, by section."""
    behind = {one.id: one.numbers(record, overview, budget) for one in subjects if one.numbers is not None}
    return behind | {"prompts": prompt_table(record, budget.table_rows)}
