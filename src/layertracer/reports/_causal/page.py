"""The report of a causal trace as one HTML file that asks nobody for anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from layertracer.evidence import CausalRecord
from layertracer.reports._causal.overview import CausalOverview, build_causal_overview, limits_of
from layertracer.reports._causal.prompt_maps import cells_data, held_prompts
from layertracer.reports._causal.reproduce import causal_code, causal_command
from layertracer.reports._causal.tables import (
    MOST_PROMPTS,
    excluded_table,
    prompt_table,
    reason_table,
    role_table,
)
from layertracer.reports._causal.wording import has_differences
from layertracer.reports._drawing.page_sections import PageSection
from layertracer.reports._drawing.role_map import draw_role_map
from layertracer.reports._page import fill_page
from layertracer.reports._values.documents import write_whole
from layertracer.reports._values.facts import facts_of, facts_of_model


def write_causal_report(record: CausalRecord, path: str | Path) -> Path:
    """One self-contained HTML file: where the effect peaks, how sure that is, the maps, and what was left out.

    Laws: the same record gives the same bytes; no text of the record is markup; the file asks for nothing from
    elsewhere.

    Args:
        record: The causal trace; an interrupted one too.
        path: Where to write; folders above it are made, and a file there is replaced whole.

    Returns:
        The path written.

    Raises:
        UsageError: If `path` is a folder.
    """
    return write_whole(lambda: render_causal_page(record), path)


def render_causal_page(record: CausalRecord) -> str:
    """The HTML of a report on a causal trace."""
    overview, held = build_causal_overview(record), held_prompts(record)
    sections = tuple(_sections(record, overview))
    figures = {section.id: section.drawing for section in sections if section.drawing is not None}
    data = {"figures": figures, "cells": cells_data(record, held)}
    asked = {name: value for name, value in record.spec.items() if name not in ("task", "units")}
    task = record.spec.get("task")
    return fill_page(
        "causal.html.j2",
        data,
        overview=overview,
        sections=sections,
        labels=[prompt["label"] for prompt in data["cells"]["prompts"]],
        held=_held_words(overview.n_used, len(held)),
        prompts=prompt_table(record),
        prompts_cut=_cut_words(overview.n_used),
        reasons=reason_table(record),
        excluded=excluded_table(record),
        excluded_cut=_cut_words(len(record.excluded)),
        limits=tuple(limits_of(record)),
        asked=tuple(facts_of({**asked, "task": task})),
        provenance=facts_of_model(record.model, record.provenance),
        command=causal_command(record),
        python=causal_code(record),
    )


def _sections(record: CausalRecord, overview: CausalOverview) -> Iterator[PageSection]:
    """Maps by role: of effects, and of recovery."""
    if not record.by_role.roles:
        return
    does = "restored" if record.direction == "denoise" else "taken away"
    yield PageSection(
        id="effects",
        short="By role",
        title="Layer by layer, token by token",
        lead=f"How much of the answer's probability is {does} by patching one layer at one token: means over prompts "
        "of each one's mean over its tokens of that role. Pass over a cell for its interval.",
        alt=_alt(record, overview),
        drawing=draw_role_map(record.by_role, record.n_layers, "Mean indirect effect, probability"),
        numbers=role_table(record.by_role),
    )
    of = "logit differences" if has_differences(record) else "probabilities"
    yield PageSection(
        id="recovery",
        short="Recovery",
        title="As a share of the total effect",
        lead=f"(patched − corrupted) / (clean − corrupted), of {of}: the corrupted run is at 0, the clean one at 1.",
        alt="Mean recovery by layer and role; the table below holds the same.",
        drawing=draw_role_map(record.recovery_by_role, record.n_layers, "Mean recovery"),
        numbers=role_table(record.recovery_by_role),
    )


def _alt(record: CausalRecord, overview: CausalOverview) -> str:
    said = "".join(phrase.text for phrase in overview.sentence)
    return f"Mean indirect effect over {record.n_layers} layers by role of the token. {said}"


def _held_words(n_used: int, n_held: int) -> str:
    """How many maps the page holds."""
    if n_held == n_used:
        return "The page holds the maps of all prompts that were used."
    return f"The page holds the maps of the first {n_held} of {n_used} prompts; the others are in the stored folder."


def _cut_words(n: int) -> str:
    return f"The first {MOST_PROMPTS} of {n} are listed." if n > MOST_PROMPTS else ""
