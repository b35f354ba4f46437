"""What the logit-lens grid shows: per prompt and layer, the most probable tokens."""

from __future__ import annotations

from typing import Any

from layertracer.reports._drawing.plotly_layout import PROB_SCALE, axis, layout
from layertracer.reports._sections.protocol import Subject
from layertracer.reports._values.numbers import round_for_json, show_share
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.prompts import Budget, prompt_label, target_label, token_label
from layertracer.reports._values.visible import isolate, shorten, shorten_middle, visible_text
from layertracer.runs import TraceRecord

_TEXT = 2000


def _lens_data(record: TraceRecord, n_prompts: int) -> dict[str, Any]:
    """The grid's data for the first `n_prompts` prompts, as JSON values; tokens are labels, listed once."""
    shown = record.top_ids[:n_prompts]
    used = sorted({int(token) for token in shown.ravel()} | _own_tokens(record, n_prompts))
    place = {token: index for index, token in enumerate(used)}
    return {
        "n_layers": record.n_layers,
        "top_k": int(record.top_ids.shape[-1]),
        "tokens": [isolate(token_label(record, token)) for token in used],
        "prompts": [_prompt_data(record, row, place) for row in range(n_prompts)],
    }


def _show_text(text: str) -> str:
    """Cut before it is made visible, which takes time, and after, since names of hidden characters are long."""
    return shorten(visible_text(shorten_middle(text, _TEXT)), 2 * _TEXT)


def _own_tokens(record: TraceRecord, n_prompts: int) -> set[int]:
    prompts = record.prompts[:n_prompts]
    return {token for prompt in prompts for token in (*prompt.target_ids, prompt.top_id)}


def _prompt_data(record: TraceRecord, row: int, place: dict[int, int]) -> dict[str, Any]:
    prompt = record.prompts[row]
    text = prompt.prompt_text
    if text is None:
        text = " ".join(token_label(record, token) for token in prompt.prompt_ids)
    return {
        "label": f"#{row}  {prompt_label(record, row)}  {target_label(record, row)}",
        "text": _show_text(text),
        "target": isolate(target_label(record, row)),
        "own": f"{isolate(token_label(record, prompt.top_id))} ({show_share(prompt.top_prob)})",
        "solved": prompt.solved,
        "begins": prompt.begins,
        "target_ids": [place[token] for token in prompt.target_ids],
        "ids": [[place[int(token)] for token in layer] for layer in record.top_ids[row]],
        "probs": round_for_json(record.top_prob[row], digits=3),
        "rank": record.target_rank[row].tolist(),
        "target_prob": round_for_json(record.target_prob[row], digits=3),
        "entropy": round_for_json(record.entropy_bits[row], digits=3),
    }


def _script_data(record: TraceRecord, budget: Budget) -> dict[str, Any]:
    """What the page's script draws the grid of."""
    return {"lens": _lens_data(record, budget.lens), "lens_layout": _lens_layout(), "prob_scale": PROB_SCALE}


def _lens_layout() -> dict[str, Any]:
    top = axis(side="top", showgrid=False, tickmode="array")
    side = axis(
        showgrid=False,
        tickmode="linear",
        tick0=0,
        title={"text": "layer", "font": {"size": 12, "color": "var(--ink-soft)"}},
    )
    return layout(400, margin={"l": 76, "r": 16, "t": 30, "b": 16}, xaxis=top, yaxis=side)


def _lead(record: TraceRecord, overview: Overview) -> str:
    """How to read the grid."""
    del record, overview
    return (
        "The model's own tail applied after each layer, the last layer on top: its most probable next tokens. "
        "The frame marks the target; spaces are drawn as ␣."
    )


def _alt(record: TraceRecord, overview: Overview) -> str:
    """What the grid shows."""
    del record, overview
    return "A grid of layers by most probable tokens for the chosen prompt; the table below holds the same."


LENS = Subject(
    id="lens",
    short="Lens",
    title="What each layer would say",
    lead=_lead,
    alt=_alt,
    data=_script_data,
)
