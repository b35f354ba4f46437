"""Maps of single prompts: every layer and every token from the first corrupted one on, drawn on request."""

from __future__ import annotations

from typing import Any

from layertracer.evidence import CausalRecord, role_of
from layertracer.reports._causal.wording import prompt_words, subject_words, token_words
from layertracer.reports._drawing.plotly_layout import SIGNED_SCALE, axis, layer_axis, layout
from layertracer.reports._drawing.role_map import role_name
from layertracer.reports._values.numbers import round_for_json, show_number

MOST_CELLS = 120_000
"""Cells that a page holds: about 700 kB."""


def held_prompts(record: CausalRecord, most_cells: int = MOST_CELLS) -> list[int]:
    """The prompts whose maps a page holds: those that were used, in order, as far as there is room; one at least."""
    out = {one.prompt for one in record.excluded}
    held: list[int] = []
    room = most_cells
    for index in range(len(record.lengths)):
        if index in out:
            continue
        room -= record.n_layers * int(record.lengths[index] - record.subject_spans[index, 0])
        if room < 0 and held:
            break
        held.append(index)
    return held


def cells_data(record: CausalRecord, held: list[int]) -> dict[str, Any]:
    """What the page's script draws the maps of, as JSON values; tokens are labels."""
    return {
        "n_layers": record.n_layers,
        "prompts": [_prompt_data(record, index) for index in held],
        "scale": SIGNED_SCALE,
        "layout": layout(
            400,
            margin={"l": 150, "r": 16, "t": 12, "b": 40},
            xaxis={**layer_axis(record.n_layers), "range": [-0.6, record.n_layers - 0.4]},
            yaxis=axis(autorange="reversed", showgrid=False, tickmode="array"),
        ),
    }


def _prompt_data(record: CausalRecord, index: int) -> dict[str, Any]:
    first, end = record.subject_spans[index].tolist()
    length = int(record.lengths[index])
    places = range(first, length)
    roles = [role_of(at, (first, end), length) for at in places]
    return {
        "label": f"#{index}  {subject_words(record, index, 30)}  {prompt_words(record, index, 40)}",
        "text": prompt_words(record, index, 2000),
        "subject": subject_words(record, index, 200),
        "clean": show_number(float(record.clean_prob[index]), digits=3),
        "corrupted": show_number(float(record.corrupted_prob[index]), digits=3),
        "positions": list(places),
        "tokens": [token_words(record, index, at) for at in places],
        "roles": [role_name(str(role)) for role in roles],
        "effect": round_for_json(record.indirect_effect[index][:, first:length].T, digits=3),
    }
