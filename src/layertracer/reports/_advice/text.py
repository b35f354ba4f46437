"""Design advice on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from layertracer.advice import AdviceRecord
from layertracer.reports._advice.layer_figures import single_strips
from layertracer.reports._advice.overview import AdviceOverview, build_advice_overview
from layertracer.reports._advice.reproduce import snippet_texts
from layertracer.reports._advice.tables import (
    MOST_TASKS,
    beside_table,
    published_table,
    ratio_table,
    region_table,
    show_knee,
    switching_table,
    threshold_table,
)
from layertracer.reports._advice.wording import tasks_of
from layertracer.reports._advice.words import divisions_lead, gates_lead, limits, reads
from layertracer.reports._drawing.terminal_strips import draw_strip
from layertracer.reports._terminal import draw_notices, draw_table, draw_titled, print_blocks, without_columns
from layertracer.reports._values.parts import Table
from layertracer.reports._values.visible import shorten, visible_line

_MOST_PLACEMENTS = 6
_CELLS = ("█", "·", "×")
_ASCII_CELLS = ("#", ".", "x")
"""Kept, substituted, not placeable."""


def render_advice_text(record: AdviceRecord, *, width: int = 80, color: bool = True, ascii_only: bool = False) -> str:
    """What a design found, for a terminal.

    Laws: without `color` the text holds no control character but line feed; no line is wider than `width` (at least
    20); text of a model or a file cannot move the cursor or change a colour.

    Args:
        record: The advice.
        width: Columns of the terminal.
        color: Whether colours may be used. The environment variable NO_COLOR overrules it.
        ascii_only: Whether the terminal shows nothing but ASCII. Other characters become "?".

    Returns:
        Several lines, the last one ended by a line feed.
    """
    overview = build_advice_overview(record)
    return print_blocks(
        lambda columns: _blocks(record, overview, width=columns, color=color, ascii_only=ascii_only),
        width=width,
        color=color,
        ascii_only=ascii_only,
    )


def _blocks(
    record: AdviceRecord, overview: AdviceOverview, *, width: int, color: bool, ascii_only: bool
) -> Iterator[Text]:
    yield Text.assemble("Design advice on ", (overview.model, "bold"))
    yield Text(overview.context, style="dim")
    yield from draw_notices(overview.notices)
    yield Text()
    yield Text.assemble(*((phrase.text, "bold" if phrase.strong else "") for phrase in overview.sentence))
    for line in overview.sure:
        yield Text.assemble(("How sure ", "bold"), line)
    yield from _placements(record, width=width, ascii_only=ascii_only)
    yield from _answer(record, overview.answer, width=width)
    beside = without_columns(beside_table(record), {2, 4, 6})
    yield from draw_titled("Beside others, on the same held-out rows", beside, width=width)
    published = published_table(record)
    if published is not None:
        yield from draw_titled("Beside published lists", without_columns(published, {2, 6, 8}), width=width)
    for strip in single_strips(record):
        yield Text()
        yield from draw_strip(strip, width=width, color=color, ascii_only=ascii_only)
    yield from _measured(record, width=width)
    yield from _use(record)
    yield Text("\nWhat it rests on", style="bold")
    yield Text(reads(record))
    for line in limits(record):
        yield Text(f"- {line}", style="dim")


def _placements(record: AdviceRecord, *, width: int, ascii_only: bool) -> Iterator[Text]:
    """A line of cells for each advised placement."""
    n_layers, placeable = record.model["n_layers"], set(record.singles.layers)
    sizes = sorted(record.placements)[:_MOST_PLACEMENTS]
    if not sizes:
        return
    label = max(len(f"keep {n_kept}  ") for n_kept in sizes)
    room = max(10, (width - label) // 10 * 10)
    kept, substituted, fixed = _ASCII_CELLS if ascii_only else _CELLS
    others = f", not placeable ({fixed})" if len(placeable) < n_layers else ""
    yield Text(f"\nLayers kept ({kept}), substituted ({substituted}){others}", style="bold")
    for start in range(0, n_layers, room):
        layers = range(start, min(n_layers, start + room))
        ticks = "".join(f"{layer:<10}" for layer in layers if layer % 10 == 0)
        yield Text(f"{' ' * label}{ticks[: len(layers) + 2].rstrip()}", style="dim")
        for n_kept in sizes:
            chosen = set(record.placements[n_kept].layers)
            cells = (kept if one in chosen else substituted if one in placeable else fixed for one in layers)
            yield Text(f"{f'keep {n_kept}':<{label}}{''.join(cells)}")


def _answer(record: AdviceRecord, answer: Table, *, width: int) -> Iterator[Text]:
    """The advised placements in two tables: their layers are in the answer and in the cells already."""
    n_tasks = len(tasks_of(record)[:MOST_TASKS])
    solved = set(range(5, 5 + n_tasks))
    yield from draw_titled(
        "What it costs, and how sure", without_columns(answer, {1, 5 + n_tasks, *solved}), width=width
    )
    if n_tasks:
        others = {1, 2, 3, 4, 5 + n_tasks, 6 + n_tasks}
        yield from draw_titled(
            "Prompts solved, of what the full model solves", without_columns(answer, others), width=width
        )


def _measured(record: AdviceRecord, *, width: int) -> Iterator[Text]:
    """What not every design measures: the curve over the number kept, regions, gates."""
    curve = ratio_table(record)
    if curve is not None:
        shown = without_columns(curve, {1, 3})
        yield from draw_titled("How many layers to keep", shown, width=width, lead=show_knee(record))
    regions = region_table(record)
    if record.divisions is not None and regions is not None:
        yield from draw_titled("Regions of layers", regions, width=width, lead=divisions_lead(record.divisions))
    yield from _gates(record, width=width)


def _gates(record: AdviceRecord, *, width: int) -> Iterator[Text]:
    if record.gates is None:
        return
    yield Text("\nWhat gates would gain", style="bold")
    yield Text(gates_lead(record.gates))
    for table in (threshold_table(record.gates), switching_table(record.gates)):
        if table is not None:
            yield Text()
            yield from draw_table(table, width=width)


def _use(record: AdviceRecord) -> Iterator[Text]:
    """The configuration to paste, or why there is none."""
    snippets = snippet_texts(record)
    if not snippets and not record.snippet_reason:
        return
    yield Text("\nTo paste into the model's configuration", style="bold")
    for n_kept, text in snippets.items():
        yield Text(f"keep {n_kept}: {visible_line(' '.join(text.split()))}")
    if record.snippet_reason:
        yield Text(f"{'' if snippets else 'None. '}{shorten(visible_line(record.snippet_reason), 1000)}")
