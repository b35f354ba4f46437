"""The values of a report on a causal trace: what page and terminal both say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from layertracer._types import Interval
from layertracer.evidence import Arrival, CausalRecord, Peak, find_arrival, find_peak
from layertracer.reports._causal.wording import (
    contender_words,
    corruption_words,
    direction_words,
    ends_of,
    left_out_words,
    plain_line,
    role_words,
    site_words,
    window_words,
)
from layertracer.reports._values.numbers import show_count, show_interval, show_number, show_share
from layertracer.reports._values.parts import Notice, Phrase, Tile
from layertracer.reports._values.visible import shorten, visible_text

_MAX_NOTICES = 12
_FEW = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class CausalOverview:
    """What stands first: where the effect peaks, how large it is, of how many prompts, and how sure that is.

    Attributes:
        model: Name of the model.
        context: What was done, in a line.
        sentence: The answer.
        notices: What must be seen before the numbers.
        tiles: The key numbers.
        early: The peak before the last token; None where there is none.
        late: The peak at the last token.
        arrival: The layer at which what restores the answer has arrived there; None at other sites.
        n_used: Prompts that were used.
    """

    model: str
    context: str
    sentence: tuple[Phrase, ...]
    notices: tuple[Notice, ...]
    tiles: tuple[Tile, ...]
    early: Peak | None
    late: Peak | None
    arrival: Arrival | None
    n_used: int


def build_causal_overview(record: CausalRecord) -> CausalOverview:
    """The values of a report on a causal trace."""
    early = find_peak(record.by_role, [role for role in record.by_role.roles if role != "last"])
    late, arrival = find_peak(record.by_role, ["last"]), find_arrival(record)
    n_used = len(record.lengths) - len(record.excluded)
    return CausalOverview(
        model=plain_line(record.model["name"], 80),
        context=(
            f"{show_count(record.n_layers, 'layer')} · {corruption_words(record)} · {direction_words(record)}, "
            f"{site_words(record)}{window_words(record)} · seed {record.seed}"
        ),
        sentence=tuple(_sentence(record, early, late, arrival)),
        notices=tuple(_notices(record)),
        tiles=tuple(_tiles(record, early, late, arrival, n_used)),
        early=early,
        late=late,
        arrival=arrival,
        n_used=n_used,
    )


def _sentence(record: CausalRecord, early: Peak | None, late: Peak | None, arrival: Arrival | None) -> Iterator[Phrase]:
    """Where the effect peaks, and how sure that is."""
    peak = early or late
    if peak is None:
        yield Phrase("No prompt was finished.")
        return
    does = "restores" if record.direction == "denoise" else "takes away"
    yield Phrase("Patching the ")
    yield Phrase(role_words(peak.role), strong=True)
    yield Phrase(" at ")
    yield Phrase(f"layer {peak.layer}", strong=True)
    yield Phrase(f" {does} ")
    yield Phrase(show_number(peak.mean, digits=2), strong=True)
    ends = "" if peak.interval is None else f" ({ends_of(peak.interval.low, peak.interval.high)})"
    among = "the largest mean effect" if early is None else "the largest mean effect before the last token"
    yield Phrase(f"{ends} of the answer's probability, {among}, over {show_count(peak.n_prompts, 'prompt')}.")
    yield from _surety(peak)
    if early is not None and late is not None:
        yield from _of_last(late, arrival)


def _surety(peak: Peak) -> Iterator[Phrase]:
    """How sure the peak is."""
    if peak.interval is None:
        yield Phrase(f" Where it peaks cannot be told: fewer than {_FEW} different prompts have such a token.")
    elif peak.interval.low <= 0:
        yield Phrase(" It cannot be told from no effect at all.")
    elif peak.contenders:
        words = contender_words(peak)
        yield Phrase(" Which layer is the largest is ")
        yield Phrase("undecided", strong=True)
        yield Phrase(f": {words} {'reach' if len(peak.contenders) > 1 else 'reaches'} into its interval.")
    else:
        yield Phrase(" No other layer's or token's interval reaches into its own.")


def _of_last(late: Peak, arrival: Arrival | None) -> Iterator[Phrase]:
    if arrival is None:
        ends = "" if late.interval is None else f" ({ends_of(late.interval.low, late.interval.high)})"
        yield Phrase(
            f" At the last token it is at most {show_number(late.mean, digits=2)}{ends}, at layer {late.layer}."
        )
    elif arrival.layer is not None:
        ends = "" if arrival.interval is None else f" ({show_interval(arrival.interval)})"
        yield Phrase(" Half of the total effect has arrived at the last token from ")
        yield Phrase(f"layer {arrival.layer}", strong=True)
        yield Phrase(f"{ends} on.")


def _tiles(
    record: CausalRecord, early: Peak | None, late: Peak | None, arrival: Arrival | None, n_used: int
) -> Iterator[Tile]:
    n = len(record.lengths)
    out = left_out_words(record)
    yield Tile(
        label="Prompts used",
        value=str(n_used),
        unit=f"of {n}",
        details=(f"left out: {out}",) if out else ("none left out",),
    )
    used = _used(record)
    total = record.total_effect[used]
    if total.size:
        clean, corrupted = float(record.clean_prob[used].mean()), float(record.corrupted_prob[used].mean())
        runs = f"clean {show_number(clean, digits=2)}, corrupted {show_number(corrupted, digits=2)}"
        yield Tile(
            label="Total effect",
            value=show_number(float(total.mean()), digits=2),
            unit="probability",
            details=(_interval_words(record.total_effect_interval), runs),
        )
    if early is not None:
        yield _peak_tile("Peak before the last token", early)
    if arrival is not None and arrival.layer is not None:
        yield Tile(
            label="At the last token from",
            value=f"layer {arrival.layer}",
            unit=f"of {record.n_layers}",
            details=(
                "half of the total effect",
                "no interval: too few prompts"
                if arrival.interval is None
                else f"95 % interval {show_interval(arrival.interval)}",
            ),
        )
    elif late is not None:
        yield _peak_tile("Peak at the last token", late)


def _peak_tile(label: str, peak: Peak) -> Tile:
    sure = "stands out" if peak.is_clear else "does not stand out"
    return Tile(
        label=label,
        value=show_number(peak.mean, digits=2),
        unit=f"at layer {peak.layer}",
        details=(role_words(peak.role), _interval_words(peak.interval), sure),
    )


def _interval_words(interval: Interval | None) -> str:
    if interval is None:
        return "no interval: too few prompts"
    return f"95 % interval {ends_of(interval.low, interval.high)}"


def _used(record: CausalRecord) -> np.ndarray:
    out = {one.prompt for one in record.excluded}
    return np.array([index for index in range(len(record.lengths)) if index not in out], np.int64)


def _notices(record: CausalRecord) -> Iterator[Notice]:
    """What must be seen before the numbers."""
    n, n_out = len(record.lengths), len(record.excluded)
    if any(one.reason == "unfinished" for one in record.excluded):
        yield Notice(level="warning", title="Interrupted", text="What was finished is shown; the rest is listed below.")
    if n_out > n / 2:
        yield Notice(
            level="warning",
            title="Most prompts are left out",
            text=f"{show_share(n_out / n)} of {n} could not be used: {left_out_words(record)}. What is found holds for "
            "the others alone.",
        )
    if record.audit.share == 0:
        yield Notice(level="note", title="Not audited", text="Nothing was measured again the plain way (audit=0).")
    for note in (*record.audit.notes, *record.notes)[:_MAX_NOTICES]:
        yield Notice(level="note", title="Note", text=shorten(visible_text(note), 1000))


def limits_of(record: CausalRecord) -> Iterator[str]:
    """What a causal trace does not say."""
    spans = record.subject_spans[_used(record)]
    n_single = int((spans[:, 1] - spans[:, 0] == 1).sum())
    if record.site == "block_output":
        yield (
            "At the last token the last layers restore everything by construction, and where a subject is one token "
            f"({n_single} of {len(spans)} prompts) the first layers nearly do: the question is where the one falls "
            "and the other rises."
        )
    if record.corrupt == "noise":
        yield (
            "Noise takes the model off what it was trained on, and effects depend on its scale: check with the swap of "
            "subjects (Zhang & Nanda 2024)."
        )
    yield (
        "An effect says that this place suffices to restore the answer, or is needed for it, in this pair of runs. It "
        "does not say where a fact is stored, nor where editing it would work best (Hase et al. 2023)."
    )
    yield "Intervals are of single cells, over prompts; they do not hold for all cells at once."
    if record.excluded:
        yield "Prompts that the model does not solve, and others listed below, are left out: nothing is said of them."
