"""A trace on a terminal: colour where there is some, block characters in a pipe, ASCII where nothing else goes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from layertracer.reports._drawing.terminal_strips import draw_strip
from layertracer.reports._sections.guard import guarded
from layertracer.reports._sections.order import subjects_of
from layertracer.reports._sections.protocol import Subject
from layertracer.reports._values.overview import Overview, build_overview
from layertracer.reports._values.parts import Notice, Table, Tile
from layertracer.runs import TraceRecord

_LEVEL_STYLES = {"failure": "bold red", "warning": "yellow", "note": "dim"}
_MIN_WIDTH = 20
_MOST_ROWS = 24


def render_text(record: TraceRecord, *, width: int = 80, color: bool = True, ascii_only: bool = False) -> str:
    """What a trace found, for a terminal.

    Laws: without `color` the text holds no control character but line feed; no line is wider than
    `width` (at least 20); text of a model or a file cannot move the cursor or change a colour.

    Args:
        record: The trace.
        width: Columns of the terminal; the heat strips wrap to it.
        color: Whether colours may be used. The environment variable NO_COLOR overrules it.
        ascii_only: Whether the terminal shows nothing but ASCII. Other characters become "?".

    Returns:
        Several lines, the last one ended by a line feed.
    """
    overview, use_color = build_overview(record), color and not os.environ.get("NO_COLOR")
    return print_blocks(
        lambda columns: _blocks(record, overview, width=columns, color=use_color, ascii_only=ascii_only),
        width=width,
        color=color,
        ascii_only=ascii_only,
    )


def print_blocks(blocks: Callable[[int], Iterable[Text]], *, width: int, color: bool, ascii_only: bool) -> str:
    """Blocks of text, made for the number of columns that there are, as lines."""
    use_color = color and not os.environ.get("NO_COLOR")
    console = Console(
        file=io.StringIO(),
        width=max(width, _MIN_WIDTH),
        force_terminal=use_color,
        force_jupyter=False,
        no_color=not use_color,
        color_system="truecolor" if use_color else None,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as capture:
        for block in blocks(console.width):
            console.print(block)
    text = "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    return _to_ascii(text) if ascii_only else text


def _blocks(record: TraceRecord, overview: Overview, *, width: int, color: bool, ascii_only: bool) -> Iterator[Text]:
    yield Text.assemble((overview.model, "bold"), " on ", (overview.task, "bold"))
    yield Text(" · ".join(overview.anatomy), style="dim")
    yield Text.assemble(("Self-check ", "bold"), overview.self_check)
    yield Text.assemble(("Audit ", "bold"), overview.audit)
    yield from draw_notices(overview.notices)
    if not overview.tiles:
        yield Text("\n" + "".join(phrase.text for phrase in overview.sentence))
        return
    subjects = subjects_of(record, overview)
    options: dict[str, Any] = {"width": width, "color": color, "ascii_only": ascii_only}
    said = [guarded(one, partial(_draw_subject, one, record, overview, **options), _draw_line) for one in subjects]
    yield from chain.from_iterable(strips for strips, _ in said)
    yield Text()
    for tile in overview.tiles:
        yield _tile_line(tile)
    yield Text.assemble(("Sensitivity ", "bold"), overview.sensitivity)
    if overview.surety:
        yield Text.assemble(("How sure ", "bold"), " ".join(overview.surety))
    yield from chain.from_iterable(text for _, text in said)
    yield Text()
    yield Text.assemble(*((phrase.text, "bold" if phrase.strong else "") for phrase in overview.sentence))
    if overview.advice is not None:
        yield Text(overview.advice, style="dim")


def _draw_subject(
    subject: Subject, record: TraceRecord, overview: Overview, *, width: int, **options: bool
) -> tuple[list[Text], list[Text]]:
    """The rows of cells of a section, and what it says."""
    strips = _draw_strips(subject, record, overview, width=width, **options)
    return strips, _draw_text(subject, record, overview, width=width)


def _draw_line(line: str) -> tuple[list[Text], list[Text]]:
    """No rows of cells, and one line."""
    return [], [Text(), Text(line)]


def _draw_strips(subject: Subject, record: TraceRecord, overview: Overview, **options: Any) -> list[Text]:
    """The rows of cells of a section, each behind an empty line."""
    strips = () if subject.strips is None else subject.strips(record, overview)
    return [line for strip in strips for line in (Text(), *draw_strip(strip, **options))]


def _draw_text(subject: Subject, record: TraceRecord, overview: Overview, *, width: int) -> list[Text]:
    """What a section says, behind an empty line."""
    if subject.text is None:
        return []
    lines = [Text()]
    for part in subject.text(record, overview):
        lines += [Text(part, style="dim")] if isinstance(part, str) else draw_table(part, width=width)
    return lines


def draw_notices(notices: Iterable[Notice]) -> Iterator[Text]:
    """What a reader must see before the numbers."""
    for notice in notices:
        label = "" if notice.title in ("Note", "Warning") else f"{notice.title}. "
        yield Text(f"{notice.level.upper()}: {label}{notice.text}", style=_LEVEL_STYLES[notice.level])


def draw_table(table: Table, *, width: int) -> Iterator[Text]:
    """Rows under their heads where they fit, else one paragraph a row."""
    lines = [table.columns, *table.rows]
    widths = [max(cell_len(line[column]) for line in lines) for column in range(len(table.columns))]
    if sum(widths) + 2 * (len(widths) - 1) > width:
        for name, *cells in table.rows:
            heads = (f"{head[:1].lower()}{head[1:]}" for head in table.columns[1:])
            facts = (f"{head} {cell}" for head, cell in zip(heads, cells, strict=True))
            yield Text.assemble((f"{name} ", "bold"), " · ".join(facts))
        return
    for number, line in enumerate(lines):
        padded = (
            " " * (room - cell_len(cell)) + cell if column in table.numeric else cell + " " * (room - cell_len(cell))
            for column, (cell, room) in enumerate(zip(line, widths, strict=True))
        )
        yield Text("  ".join(padded), style="bold" if number == 0 else "")


def draw_titled(title: str, table: Table | None, *, width: int, lead: str = "") -> Iterator[Text]:
    """A table under its title, cut where it is long; nothing where there is none."""
    if table is None:
        return
    yield Text(f"\n{title}", style="bold")
    if lead:
        yield Text(lead)
    shown = Table(columns=table.columns, rows=table.rows[:_MOST_ROWS], numeric=table.numeric)
    yield from draw_table(shown, width=width)
    if len(table.rows) > _MOST_ROWS:
        yield Text(f"… and {len(table.rows) - _MOST_ROWS} more: see the report, --json or --csv", style="dim")


def without_columns(table: Table, hidden: set[int]) -> Table:
    """A table without some columns, which page and JSON have."""
    kept = [column for column in range(len(table.columns)) if column not in hidden]
    return Table(
        columns=tuple(table.columns[column] for column in kept),
        rows=tuple(tuple(row[column] for column in kept) for row in table.rows),
        numeric=frozenset(place for place, column in enumerate(kept) if column in table.numeric),
    )


def _tile_line(tile: Tile) -> Text:
    return Text.assemble(
        (f"{tile.label} ", "bold"), (f"{tile.value} ", "bold cyan"), tile.unit, " · ", " · ".join(tile.details)
    )


_ASCII = str.maketrans(
    {
        "–": "-",
        "−": "-",
        "·": "-",
        "…": "...",
        "×": "x",
        "⟨": "<",
        "⟩": ">",
        "∅": "-",
        "␣": "_",
    }
)


def _to_ascii(text: str) -> str:
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
