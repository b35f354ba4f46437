"""A section of a report: its subject, and all that is said and drawn of it on a page, a terminal and in a paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layertracer._types import Registration
from layertracer.reports._drawing.plotly_layout import Figure
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Strip, Table
from layertracer.reports._values.prompts import Budget
from layertracer.runs import TraceRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One section of a page: `alt` says in words what its figure shows; `words_alone` have neither figure nor table."""

    id: str
    short: str
    title: str
    lead: str = ""
    alt: str = ""
    figure: bool = False
    table: Table | None = None
    words_alone: bool = False


def _always(record: TraceRecord, overview: Overview) -> bool:
    del record, overview
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What a section is about. Whatever is None, it has not got.

    Attributes:
        id: Its name in links, and of the files of its figures.
        short: Its name in the navigation.
        title: Its heading.
        lead: A sentence or two on how to read it.
        applies: Whether a trace has anything of it.
        alt: What its figure shows, in words.
        figure: Its figure on the page, see `plotly_layout`.
        data: What else the page's script needs to draw it, by name.
        table: A table that stands on the page.
        numbers: The numbers behind its figure, as a table that is folded away.
        strips: Its rows of cells on a terminal.
        text: What a terminal says of it: tables, and sentences.
        paper: Its drawing on an empty figure of Matplotlib.
        after: The section behind which it comes; the last one where it is None.
    """

    id: str
    short: str
    title: str
    lead: Callable[[TraceRecord, Overview], str]
    applies: Callable[[TraceRecord, Overview], bool] = _always
    alt: Callable[[TraceRecord, Overview], str] | None = None
    figure: Callable[[TraceRecord, Overview, Budget], Figure] | None = None
    data: Callable[[TraceRecord, Budget], Mapping[str, Any]] | None = None
    table: Callable[[TraceRecord, Overview], Table | None] | None = None
    numbers: Callable[[TraceRecord, Overview, Budget], Table] | None = None
    strips: Callable[[TraceRecord, Overview], Sequence[Strip]] | None = None
    text: Callable[[TraceRecord, Overview], Iterator[Table | str]] | None = None
    paper: Callable[[Any, TraceRecord, Overview], None] | None = None
    after: str | None = None

    def section(self, record: TraceRecord, overview: Overview) -> Section:
        """The section of a trace's page."""
        return Section(
            id=self.id,
            short=self.short,
            title=self.title,
            lead=self.lead(record, overview),
            alt="" if self.alt is None else self.alt(record, overview),
            figure=self.figure is not None or self.data is not None,
            table=None if self.table is None else self.table(record, overview),
            words_alone=self.figure is None and self.data is None and self.table is None,
        )


SECTIONS: dict[str, Subject] = {}
"""All subjects by their ids, in the order in which they were registered."""


def register_section(subject: Subject) -> Registration[Subject]:
    """Make a subject a part of every report; undone by the registration, or at the end of its block."""
    return Registration(SECTIONS, subject.id, subject)


def subjects_of(record: TraceRecord, overview: Overview) -> tuple[Subject, ...]:
    """The subjects of which a trace has something, in their order."""
    ordered = [subject for subject in SECTIONS.values() if subject.after not in SECTIONS]
    for subject in SECTIONS.values():
        if subject.after in SECTIONS:
            ordered.insert([one.id for one in ordered].index(subject.after) + 1, subject)
    return tuple(one for subject in ordered if (one := _if_applies(subject, record, overview)) is not None)


def _if_applies(subject: Subject, record: TraceRecord, overview: Overview) -> Subject | None:
    """A subject of which a trace has something; where that cannot be told, one that says so wherever it is asked."""
    try:
        return subject if subject.applies(record, overview) else None
    except Exception as error:  # noqa: BLE001 - whatever the code of a user's section raises
        failure = error

    def fail(*_: object) -> Any:
        raise failure

    return Subject(id=subject.id, short=subject.short, title=subject.title, lead=fail, text=fail)
