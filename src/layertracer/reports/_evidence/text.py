"""Evidence on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from layertracer.evidence import EvidenceRecord
from layertracer.reports._drawing.terminal_strips import draw_strip
from layertracer.reports._evidence.layer_figures import effect_strips
from layertracer.reports._evidence.overview import EvidenceOverview, build_evidence_overview
from layertracer.reports._evidence.tables import dose_table, particle_table, prompts_table
from layertracer.reports._evidence.wording import passed_words
from layertracer.reports._evidence.words import left_out, reads
from layertracer.reports._terminal import draw_notices, draw_titled, print_blocks, without_columns
from layertracer.reports._values.visible import plain, shorten, visible_text

_STYLES = {"yes": "bold", "no": "bold", "undecided": "bold yellow", "not measured": "dim"}
_WORD = len("not measured") + 1


def render_evidence_text(
    record: EvidenceRecord, *, width: int = 80, color: bool = True, ascii_only: bool = False
) -> str:
    """What a validation found, for a terminal.

    Laws: without `color` the text holds no control character but line feed; no line is wider than `width` (at least
    20); text of a model or a file cannot move the cursor or change a colour.

    Args:
        record: The evidence.
        width: Columns of the terminal.
        color: Whether colours may be used. The environment variable NO_COLOR overrules it.
        ascii_only: Whether the terminal shows nothing but ASCII. Other characters become "?".

    Returns:
        Several lines, the last one ended by a line feed.
    """
    overview = build_evidence_overview(record)
    return print_blocks(
        lambda columns: _blocks(record, overview, width=columns, color=color, ascii_only=ascii_only),
        width=width,
        color=color,
        ascii_only=ascii_only,
    )


def _blocks(
    record: EvidenceRecord, overview: EvidenceOverview, *, width: int, color: bool, ascii_only: bool
) -> Iterator[Text]:
    yield Text.assemble("Evidence on ", (overview.model, "bold"), ", task ", (overview.task, "bold"))
    yield Text(overview.context, style="dim")
    yield from draw_notices(overview.notices)
    yield Text()
    yield Text.assemble(*((phrase.text, "bold" if phrase.strong else "") for phrase in overview.sentence))
    for line in overview.answers:
        yield Text()
        yield Text.assemble((f"{line.answer.upper():<{_WORD}}", _STYLES[line.answer]), (line.asked, "bold"))
        yield Text(line.sentence)
        if line.caveat:
            yield Text(f"Mind: {line.caveat}", style="dim")
    for strip in effect_strips(record):
        yield Text()
        yield from draw_strip(strip, width=width, color=color, ascii_only=ascii_only)
    particles = particle_table(record)
    if particles.rows:
        yield from draw_titled("Task particle by criterion and lens", particles, width=width)
    yield from _controls(record)
    doses = dose_table(record)
    shown = None if doses is None else without_columns(doses, {3})
    yield from draw_titled("By how much is masked", shown, width=width)
    prompts = prompts_table(record)
    shown = None if prompts is None else without_columns(prompts, {3})
    yield from draw_titled("How many prompts", shown, width=width)
    yield Text("\nWhat it rests on", style="bold")
    yield Text(reads(record))
    for point in left_out(record):
        yield Text(f"- {point}", style="dim")


def _controls(record: EvidenceRecord) -> Iterator[Text]:
    """Each control in its sentence."""
    if record.controls:
        yield Text("\nControls", style="bold")
    for one in record.controls:
        style = "bold yellow" if one.passed is False else "bold"
        name = plain(one.name.replace("_", " "), 40)
        yield Text.assemble((f"{name}, {passed_words(one)}: ", style), shorten(visible_text(one.sentence), 1000))
