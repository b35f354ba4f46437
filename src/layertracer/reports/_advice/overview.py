"""The values of a report on advice: what page and terminal both say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from layertracer.advice import AdviceRecord, Placement
from layertracer.reports._advice.tables import answer_table
from layertracer.reports._advice.wording import (
    cost_words,
    layers_words,
    search_words,
    show_accuracy,
    standing_words,
    tasks_of,
    verdict_words,
)
from layertracer.reports._values.numbers import show_count, show_number, show_share
from layertracer.reports._values.parts import Notice, Phrase, Table, Tile
from layertracer.reports._values.visible import plain, shorten, visible_line, visible_text

_MAX_NOTICES = 20
_MOST_IN_SENTENCE = 3
_MOST_TILES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class AdviceOverview:
    """What stands first: the answer, at what cost, how sure.

    Attributes:
        model: Name of the model.
        context: What was asked, in a line.
        sentence: The answer.
        sure: How sure it is, a sentence for each number kept.
        notices: What must be seen before the numbers.
        tiles: The key numbers.
        answer: The advised placements, a row each.
    """

    model: str
    context: str
    sentence: tuple[Phrase, ...]
    sure: tuple[str, ...]
    notices: tuple[Notice, ...]
    tiles: tuple[Tile, ...]
    answer: Table


def build_advice_overview(record: AdviceRecord) -> AdviceOverview:
    """The values of a report on advice."""
    placements = [record.placements[n_kept] for n_kept in sorted(record.placements)]
    return AdviceOverview(
        model=plain(record.model["name"], 80),
        context=_context(record),
        sentence=tuple(_sentence(record, placements)),
        sure=tuple(_sure(one, len(placements) > 1) for one in placements),
        notices=tuple(_notices(record)),
        tiles=tuple(_tile(record, one) for one in placements[:_MOST_TILES]),
        answer=answer_table(record),
    )


def _context(record: AdviceRecord) -> str:
    n_layers, n_placeable = record.model["n_layers"], len(record.singles.layers)
    among = show_count(n_layers, "layer")
    if n_placeable < n_layers:
        among += f", {n_placeable} of which can be substituted"
    others = f"the others have {record.substitute.describe()}"
    return f"{among} · {others} · chosen {search_words(record.search)} · seed {record.seed}"


def _sentence(record: AdviceRecord, placements: list[Placement]) -> Iterator[Phrase]:
    """Which layers to keep, and at what cost."""
    if not placements:
        yield Phrase("No placement was advised.")
        return
    model, others = plain(record.model["name"], 60), record.substitute.describe()
    if len(placements) == 1:
        yield from _one(placements[0], model, others)
        return
    yield Phrase(f"In {model}, with {others} in the layers that are not kept: ")
    for number, placement in enumerate(placements[:_MOST_IN_SENTENCE]):
        yield Phrase(f"; to keep {len(placement.layers)}, " if number else f"to keep {len(placement.layers)}, take ")
        yield Phrase(layers_words(placement.layers), strong=True)
        yield Phrase(f" ({cost_words(placement.judgement)}, {verdict_words(placement)})")
    more = len(placements) - _MOST_IN_SENTENCE
    yield Phrase(f"; {more} more below." if more > 0 else ".")


def _one(placement: Placement, model: str, others: str) -> Iterator[Phrase]:
    yield Phrase("Keep ")
    yield Phrase(layers_words(placement.layers), strong=True)
    yield Phrase(f" of the {placement.n_layers} layers of {model}, with {others} in the others: ")
    yield Phrase(cost_words(placement.judgement), strong=True)
    yield Phrase(f", {verdict_words(placement)}.")


def _sure(placement: Placement, names_size: bool) -> str:
    size = f"Of {len(placement.layers)}: " if names_size else ""
    notes = " ".join(shorten(visible_line(note), 400) for note in placement.notes)
    verdict = verdict_words(placement)
    words = f"{size}{verdict[:1].upper()}{verdict[1:]}. {standing_words(placement)} {notes}"
    return words.strip()


def _notices(record: AdviceRecord) -> Iterator[Notice]:
    for text in record.notes[:_MAX_NOTICES]:
        yield Notice(level="note", title="Note", text=shorten(visible_text(text), 2000))
    if len(record.notes) > _MAX_NOTICES:
        more = len(record.notes) - _MAX_NOTICES
        yield Notice(level="note", title="Note", text=f"{more} more notes are in the JSON document.")
    yield from _standing_notices(record)


def _standing_notices(record: AdviceRecord) -> Iterator[Notice]:
    """What must be said where a placement is not better than random ones."""
    compared = {n: one for n, one in sorted(record.placements.items()) if one.percentile is not None}
    unsure = [str(n) for n, one in compared.items() if one.verdict == "undecided"]
    if unsure:
        text = (
            f"Keeping {', '.join(unsure)}: random placements of that size may do as well, as far as these rows tell. "
            "Measure on more rows before you rely on the choice."
        )
        yield Notice(level="warning", title="Undecided", text=text)
    worse = [str(n) for n, one in compared.items() if one.verdict == "worse"]
    if worse:
        text = f"Keeping {', '.join(worse)}: most random placements of that size cost less. Do not take this one."
        yield Notice(level="warning", title="Worse than chance", text=text)


def _tile(record: AdviceRecord, placement: Placement) -> Tile:
    judgement = placement.judgement
    details = [f"keep {layers_words(placement.layers)}"]
    value, unit = "–", "not judged"
    if judgement is not None and not np.isnan(judgement.kl_nats):
        value, unit = show_number(judgement.kl_nats), "nats from the full model, on held-out text"
        if judgement.kl_interval is not None:
            ends = (show_number(one) for one in (judgement.kl_interval.low, judgement.kl_interval.high))
            details.append(f"{100 * judgement.kl_interval.level:g} % interval {' to '.join(ends)}")
    elif judgement is not None and judgement.accuracy:
        value, unit = show_number(judgement.objective), "nats from the full model, at the tasks' answers"
    if judgement is not None:
        details += [f"{plain(task)} solved: {show_accuracy(judgement, task)}" for task in tasks_of(record)[:3]]
    details.append(verdict_words(placement))
    if placement.kv_cache_share is not None:
        details.append(f"KV cache: {show_share(placement.kv_cache_share)} of the full model's")
    return Tile(
        label=f"Keep {len(placement.layers)} of {placement.n_layers}", value=value, unit=unit, details=tuple(details)
    )
