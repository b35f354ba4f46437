"""The grid of one prompt as one HTML file that asks nobody for anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from layertracer._types import GridReading, LensGrid
from layertracer.reports._drawing.page_sections import PageSection
from layertracer.reports._drawing.plotly_layout import PROB_SCALE, Figure, Trace, axis, colorbar, layout
from layertracer.reports._page import fill_page
from layertracer.reports._values.documents import write_whole
from layertracer.reports._values.numbers import round_for_json, show_share
from layertracer.reports._values.parts import Table
from layertracer.reports._values.visible import isolate, shorten, visible_line

_ROW, _ABOVE, _BELOW = 23, 44, 84
_CELL, _LABEL = 9, 14
_MOST_POSITIONS = 256
_LEAD = (
    "Each column is a position of the prompt, below it its token; each row what leaves a layer, the embeddings at the "
    "bottom and the model's own output on top. A cell has the most probable next token; its shade is that token's "
    "probability."
)


def write_grid_report(grid: LensGrid, path: str | Path) -> Path:
    """One self-contained HTML file: for every lens the most probable token at each position and layer.

    Laws: the same grid gives the same bytes; no text of it is markup; the file asks for nothing from elsewhere.

    Args:
        grid: The grid.
        path: Where to write; folders above it are made, and a file there is replaced whole.

    Returns:
        The path written.

    Raises:
        UsageError: If `path` is a folder.
    """
    return write_whole(lambda: render_grid_page(grid), path)


def render_grid_page(grid: LensGrid) -> str:
    """The HTML of a grid; of long prompts the last positions, and the page says so."""
    sections = tuple(_sections(grid))
    data = {"figures": {section.id: section.drawing for section in sections}}
    return fill_page(
        "grid.html.j2",
        data,
        model=visible_line(grid.model),
        n_tokens=len(grid.token_ids),
        cut=_cut_words(grid),
        sections=sections,
    )


def _cut_words(grid: LensGrid) -> str:
    n = len(grid.token_ids)
    return f"The last {_MOST_POSITIONS} of {n} positions are shown." if n > _MOST_POSITIONS else ""


def _sections(grid: LensGrid) -> Iterator[PageSection]:
    for number, (name, reading) in enumerate(grid.readings.items()):
        said = visible_line(name)
        yield PageSection(
            id=f"grid-{number}",
            short=said,
            title=f"Through the lens {said}" if number else "Through the logit lens",
            lead="" if number else _LEAD,
            alt=f"A grid of {1 + grid.n_layers} rows by positions of the prompt; the table below holds the same.",
            drawing=_draw(grid, reading),
            numbers=_table(grid, reading),
        )


def _shown_positions(grid: LensGrid) -> range:
    n = len(grid.token_ids)
    return range(max(0, n - _MOST_POSITIONS), n)


def _row_names(grid: LensGrid) -> list[str]:
    return ["emb", *map(str, range(grid.n_layers))]


def _shown(grid: LensGrid, token: int, limit: int) -> str:
    return isolate(shorten(visible_line(grid.text(token)), limit))


def _draw(grid: LensGrid, reading: GridReading) -> Figure:
    """Cells by position and layer."""
    positions = _shown_positions(grid)
    ids, probs = reading.top_ids[:, positions.start :], reading.top_prob[:, positions.start :]
    names = _row_names(grid)
    trace: Trace = {
        "type": "heatmap",
        "x": list(positions),
        "y": list(range(len(names))),
        "z": round_for_json(probs, digits=3),
        "zmin": 0,
        "zmax": 1,
        "colorscale": PROB_SCALE,
        "xgap": 1,
        "ygap": 1,
        "text": [[_shown(grid, token, _CELL) for token in row] for row in ids.tolist()],
        "texttemplate": "%{text}",
        "textfont": {"size": 9.5},
        "customdata": [[_shown(grid, token, 40) for token in row] for row in ids.tolist()],
        "hovertemplate": "position %{x}, row %{y}: <b>%{customdata}</b> %{z:.3~g}<extra></extra>",
        "colorbar": colorbar(1.01, {0.0: "0", 1.0: "1"}),
    }
    tokens = [_shown(grid, grid.token_ids[position], _LABEL) for position in positions]
    across = axis(showgrid=False, tickmode="array", tickvals=list(positions), ticktext=tokens, tickangle=-60)
    up = axis(showgrid=False, tickmode="array", tickvals=list(range(len(names))), ticktext=names)
    return {
        "data": [trace],
        "layout": layout(
            _ABOVE + _BELOW + _ROW * len(names),
            margin={"l": 48, "r": 16, "t": _ABOVE, "b": _BELOW},
            xaxis=across,
            yaxis=up,
        ),
    }


def _table(grid: LensGrid, reading: GridReading) -> Table:
    """One row a position, a column for every layer."""
    rows = tuple(
        (
            str(position),
            visible_line(grid.text(grid.token_ids[position])),
            *(
                f"{visible_line(grid.text(int(token)))} {show_share(float(prob))}"
                for token, prob in zip(reading.top_ids[:, position], reading.top_prob[:, position], strict=True)
            ),
        )
        for position in _shown_positions(grid)
    )
    return Table(columns=("Position", "Token", *_row_names(grid)), rows=rows, numeric=frozenset({0}))
