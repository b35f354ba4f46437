"""A section of a page: words, a figure, tables."""

from __future__ import annotations

from dataclasses import dataclass

from layertracer.reports._drawing.plotly_layout import Figure
from layertracer.reports._values.parts import Table


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSection:
    """A section of a page.

    Attributes:
        id: Its name in links, and of the files of its figure.
        short: Its name in the navigation.
        title: Its heading.
        lead: How to read it.
        alt: What its figure shows, in words.
        drawing: Its figure; None where it has none.
        tables: Tables that stand on the page, by their captions.
        numbers: The numbers behind its figure, folded away.
        points: Sentences that stand below the tables, each by itself.
    """

    id: str
    short: str
    title: str
    lead: str
    alt: str = ""
    drawing: Figure | None = None
    tables: tuple[tuple[str, Table], ...] = ()
    numbers: Table | None = None
    points: tuple[str, ...] = ()
