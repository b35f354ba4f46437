"""Heat strips of a terminal: one cell per layer, wrapped to its width."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.style import Style
from rich.text import Text

from layertracer.reports._drawing.palette import GAIN, JS, LOSS
from layertracer.reports._values.numbers import show_number
from layertracer.reports._values.parts import Strip

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = ":-=+*#%@"
_DOWN = "▿▾▼"
_ASCII_DOWN = "vvV"
_FLOOR = 0.02  # below this share of the scale a cell is drawn as a dot
_BACKGROUND = (0x20, 0x23, 0x28)


def draw_strip(strip: Strip, *, width: int, color: bool, ascii_only: bool) -> Iterator[Text]:
    """A heading, then rows of cells over their layer numbers."""
    yield Text.assemble((strip.title, "bold"), (f"  {_legend(strip, color=color, ascii_only=ascii_only)}", "dim"))
    n_layers = len(strip.values)
    cell = _cell_width(n_layers, width)
    per_row = max(1, width // cell)
    for first in range(0, n_layers, per_row):
        layers = range(first, min(first + per_row, n_layers))
        yield Text.assemble(*(_cell(strip, layer, cell, color=color, ascii_only=ascii_only) for layer in layers))
        marked = strip.marked if strip.marked in layers else None
        yield Text(_ticks(layers, cell), style="dim")
        if marked is not None:
            yield _mark(strip, (marked - first) * cell, width, ascii_only=ascii_only)


def _cell_width(n_layers: int, width: int) -> int:
    """Columns of a cell: as wide as fits in one row, else two columns and several rows."""
    return min(4, max(2, width // max(n_layers, 1)))


def _legend(strip: Strip, *, color: bool, ascii_only: bool) -> str:
    scale = _scale_legend(strip, color=color, ascii_only=ascii_only)
    return scale if strip.missing is None else f"{scale}, blank: {strip.missing}"


def _scale_legend(strip: Strip, *, color: bool, ascii_only: bool) -> str:
    top = f"{show_number(strip.scale, digits=2)} {strip.unit}"
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    if strip.kind == "magnitude":
        return f"0 to {top}" if color else f"{blocks} up to {top}"
    if color:
        return f"green up, red down, full at {top}"
    return f"{blocks} up, {_ASCII_DOWN if ascii_only else _DOWN} down, full at {top}"


def _cell(strip: Strip, layer: int, cell: int, *, color: bool, ascii_only: bool) -> tuple[str, Style | str]:
    value = float(strip.values[layer])
    if not math.isfinite(value):
        return (f"{'?' if strip.missing is None else '':<{cell}}", "")
    level = min(1.0, abs(value) / strip.scale)
    if not color:
        return (_glyph(value, level, ascii_only=ascii_only) * (cell - 1) + " ", "")
    full = JS if strip.kind == "magnitude" else GAIN if value > 0 else LOSS
    return (" " * cell, Style(bgcolor=_blend(full, level)))


def _glyph(value: float, level: float, *, ascii_only: bool) -> str:
    if level < _FLOOR:
        return "." if ascii_only else "·"
    glyphs = (_ASCII_DOWN if ascii_only else _DOWN) if value < 0 else (_ASCII_BLOCKS if ascii_only else _BLOCKS)
    return glyphs[min(len(glyphs) - 1, int(level * len(glyphs)))]


def _blend(full: str, level: float) -> str:
    """The full colour over a dark ground; a square root lets small values be seen."""
    share = math.sqrt(level)
    parts = [int(full[start : start + 2], 16) for start in (1, 3, 5)]
    mixed = [round(ground + (part - ground) * share) for part, ground in zip(parts, _BACKGROUND, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _ticks(layers: range, cell: int) -> str:
    """Layer numbers under their cells, as many as fit without touching."""
    wide = len(str(layers[-1])) + 1
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if step * cell >= wide or step == 100)
    line = [" "] * (len(layers) * cell + wide)
    for layer in layers:
        if layer % step == 0:
            start = (layer - layers[0]) * cell
            line[start : start + len(str(layer))] = str(layer)
    return "".join(line[: len(layers) * cell]).rstrip()


def _mark(strip: Strip, start: int, width: int, *, ascii_only: bool) -> Text:
    """A pointer at the marked layer, its label on whichever side has room."""
    pointer = "^" if ascii_only else "▲"
    label = strip.mark_label or ""
    if start + 2 + len(label) <= width:
        return Text.assemble(" " * start, (f"{pointer} {label}", "bold"))
    if start - 1 - len(label) >= 0:
        return Text.assemble(" " * (start - 1 - len(label)), (f"{label} {pointer}", "bold"))
    return Text.assemble(" " * start, (pointer, "bold"))
