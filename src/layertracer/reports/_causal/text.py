"""A causal trace on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.text import Text

from layertracer.evidence import CausalRecord
from layertracer.reports._causal.overview import CausalOverview, build_causal_overview, limits_of
from layertracer.reports._causal.tables import reason_table
from layertracer.reports._causal.wording import role_words
from layertracer.reports._drawing.terminal_strips import draw_strip
from layertracer.reports._terminal import draw_notices, draw_table, print_blocks
from layertracer.reports._values.parts import Strip


def render_causal_text(record: CausalRecord, *, width: int = 80, color: bool = True, ascii_only: bool = False) -> str:
    """What causal tracing found, for a terminal.

    Laws: without `color` the text holds no control character but line feed; no line is wider than `width` (at least
    20); text of a model or a file cannot move the cursor or change a colour.

    Args:
        record: The causal trace.
        width: Columns of the terminal.
        color: Whether colours may be used. The environment variable NO_COLOR overrules it.
        ascii_only: Whether the terminal shows nothing but ASCII. Other characters become "?".

    Returns:
        Several lines, the last one ended by a line feed.
    """
    overview = build_causal_overview(record)
    return print_blocks(
        lambda columns: _blocks(record, overview, width=columns, color=color, ascii_only=ascii_only),
        width=width,
        color=color,
        ascii_only=ascii_only,
    )


def _blocks(
    record: CausalRecord, overview: CausalOverview, *, width: int, color: bool, ascii_only: bool
) -> Iterator[Text]:
    yield Text.assemble(("Causal trace of ", ""), (overview.model, "bold"))
    yield Text(overview.context, style="dim")
    yield from draw_notices(overview.notices)
    for strip in role_strips(record):
        yield Text()
        yield from draw_strip(strip, width=width, color=color, ascii_only=ascii_only)
    yield Text()
    for tile in overview.tiles:
        yield Text.assemble(
            (f"{tile.label} ", "bold"), (f"{tile.value} ", "bold cyan"), tile.unit, " · ", " · ".join(tile.details)
        )
    table = reason_table(record)
    if table is not None:
        yield Text("\nLeft out", style="bold")
        yield from draw_table(table, width=width)
    yield Text()
    yield Text.assemble(*((phrase.text, "bold" if phrase.strong else "") for phrase in overview.sentence))
    for line in limits_of(record):
        yield Text(f"- {line}", style="dim")


def role_strips(record: CausalRecord) -> Iterator[Strip]:
    """Mean effects as a row of cells for each role, all on one scale."""
    effects = record.by_role
    largest = float(np.nanmax(np.abs(effects.mean), initial=0.0))
    for row, role in enumerate(effects.roles):
        values = effects.mean[row]
        known = np.isfinite(values)
        top = int(np.nanargmax(values)) if known.any() else None
        yield Strip(
            title=f"{role_words(role)[:1].upper()}{role_words(role)[1:]} (n = {effects.n_prompts[row]})",
            unit="probability",
            values=values,
            kind="signed",
            marked=top,
            mark_label=None if top is None else f"largest {top}",
            missing=None if known.all() else "nothing to patch here",
            least=largest,
        )
