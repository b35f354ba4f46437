"""Results by kind of mixer."""

from __future__ import annotations

from collections.abc import Iterator

from layertracer.reports._sections.protocol import Subject
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Table
from layertracer.reports._values.wording import MIXERS_AND_DEPTH, perturbation_clause
from layertracer.runs import TraceRecord


def _lead(record: TraceRecord, overview: Overview) -> str:
    """How to read the table."""
    del overview
    return (
        f"How far the output moves {perturbation_clause(record.spec)}, and what a layer adds to the target's "
        "probability: means over the layers of each kind. The interval is over prompts and draws. "
        f"{MIXERS_AND_DEPTH} The mean depth runs from 0, before the first layer, to 1, after the last."
    )


def _text(record: TraceRecord, overview: Overview) -> Iterator[Table | str]:
    del record
    if overview.by_mixer is not None:
        yield overview.by_mixer
        yield MIXERS_AND_DEPTH


MIXERS = Subject(
    id="mixers",
    short="Mixers",
    title="By kind of mixer",
    lead=_lead,
    applies=lambda _record, overview: overview.by_mixer is not None,
    table=lambda _record, overview: overview.by_mixer,
    text=_text,
)
