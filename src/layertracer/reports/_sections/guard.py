"""Sections that others registered: where their code fails, one line stands in their place, and the rest is drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from layertracer.reports._assets import to_script_json
from layertracer.reports._sections.order import ORDER, subjects_of
from layertracer.reports._sections.protocol import Subject
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.prompts import Budget
from layertracer.reports._values.visible import shorten, visible_line
from layertracer.runs import TraceRecord

Made = TypeVar("Made")


def guarded(subject: Subject, make: Callable[[], Made], instead: Callable[[str], Made]) -> Made:
    """What a section's code makes; where that fails, what is made of a line that says so.

    The library's own sections are not guarded: their failure is a bug, and a line would hide it.

    Args:
        subject: The section.
        make: Its code.
        instead: What stands in its place, of the line.
    """
    if any(subject is one for one in ORDER):
        return make()
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - whatever the code of a user's section raises
        return instead(_describe(subject, error))


def _describe(subject: Subject, error: Exception) -> str:
    said = shorten(visible_line(f"{type(error).__name__}: {error}"), 500)
    return f"The section '{shorten(visible_line(str(subject.id)), 60)}' could not be made: its code raised {said}"


def settled_subjects(record: TraceRecord, overview: Overview, budget: Budget) -> tuple[Subject, ...]:
    """The subjects of a page; those of others with all that they say and draw there, made once."""
    return tuple(
        guarded(one, partial(_settle, one, record, overview, budget), partial(_in_place, one))
        for one in subjects_of(record, overview)
    )


def _settle(subject: Subject, record: TraceRecord, overview: Overview, budget: Budget) -> Subject:
    """A subject of others whose parts of the page are made; one of the library as it is."""
    if any(subject is one for one in ORDER):
        return subject
    section = subject.section(record, overview)
    figure = None if subject.figure is None else subject.figure(record, overview, budget)
    data = None if subject.data is None else subject.data(record, budget)
    numbers = None if subject.numbers is None else subject.numbers(record, overview, budget)
    to_script_json([figure, data])
    return Subject(
        id=subject.id,
        short=subject.short,
        title=subject.title,
        lead=_always(section.lead),
        alt=_always(section.alt),
        figure=None if figure is None else _always(figure),
        data=None if data is None else _always(data),
        table=None if section.table is None else _always(section.table),
        numbers=None if numbers is None else _always(numbers),
    )


def _in_place(subject: Subject, line: str) -> Subject:
    return Subject(id=subject.id, short=subject.short, title=subject.title, lead=_always(line))


def _always(made: Any) -> Callable[..., Any]:
    return lambda *_: made
