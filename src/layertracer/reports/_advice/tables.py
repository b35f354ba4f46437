"""The tables of a report on advice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from layertracer.advice import AdviceRecord, Baseline, Gates, Placement
from layertracer.reports._advice.wording import (
    baseline_name,
    cost_head,
    has_text,
    in_order,
    kinds_of,
    show_accuracy,
    show_cost,
    show_nll,
    show_percentile,
    tasks_of,
    verdict_words,
)
from layertracer.reports._values.numbers import show_count, show_interval, show_number, show_ranges, show_share
from layertracer.reports._values.parts import Table
from layertracer.reports._values.visible import plain

MOST_TASKS = 8


def answer_table(record: AdviceRecord) -> Table:
    """The advised placements: what they keep, what they cost, how sure."""
    tasks = tasks_of(record)[:MOST_TASKS]
    columns = ("Keep", "Layers", cost_head(record), "Random ones below", "Verdict",
               *(f"Solved, {plain(task, 20)}" for task in tasks),
               "NLL of text, change in nats a token", "KV cache")  # fmt: skip
    of_text = has_text(record)
    rows = tuple(_answer_row(record.placements[n_kept], tasks, of_text=of_text) for n_kept in sorted(record.placements))
    return Table(columns=columns, rows=rows, numeric=frozenset({0}))


def _answer_row(placement: Placement, tasks: list[str], *, of_text: bool) -> tuple[str, ...]:
    judgement, share = placement.judgement, placement.kv_cache_share
    return (
        str(len(placement.layers)),
        show_ranges(placement.layers) or "none",
        show_cost(judgement, of_text=of_text),
        show_percentile(placement.percentile, placement.percentile_interval),
        verdict_words(placement),
        *("–" if judgement is None else show_accuracy(judgement, task) for task in tasks),
        show_nll(judgement),
        "–" if share is None else show_share(share),
    )


def beside_table(record: AdviceRecord) -> Table:
    """The advised placements beside those that nobody searched for, on the same rows."""
    rows = [row for n_kept in sorted(record.placements) for row in _beside_rows(record, n_kept)]
    columns = ("Keep", "Placement", "Layers", "Objective, nats", "KL of text, nats", "Random ones below",
               "Where it is from")  # fmt: skip
    return Table(columns=columns, rows=tuple(rows), numeric=frozenset({0, 3, 4, 5}))


def _beside_rows(record: AdviceRecord, n_kept: int) -> Iterator[tuple[str, ...]]:
    placement = record.placements[n_kept]
    yield (
        str(n_kept),
        "advised",
        show_ranges(placement.layers) or "none",
        show_number(placement.objective),
        show_number(placement.compared_kl_nats),
        show_percentile(placement.percentile),
        "",
    )
    for name, baseline in in_order(record.baselines.get(n_kept, {})):
        if name == "random":
            yield from _random_rows(n_kept, baseline)
            continue
        for number, kept in enumerate(baseline.placements):
            percentile = show_percentile(baseline.percentile) if number == int(np.argmin(baseline.objective)) else "–"
            costs = (show_number(float(one[number])) for one in (baseline.objective, baseline.kl_nats))
            yield (str(n_kept), baseline_name(name), show_ranges(kept), *costs, percentile, plain(baseline.note, 160))
        if not baseline.placements:
            yield (str(n_kept), baseline_name(name), "–", "–", "–", "–", plain(baseline.note, 160))


def _random_rows(n_kept: int, baseline: Baseline) -> Iterator[tuple[str, ...]]:
    """The best random placement, and the middle of all."""
    if not len(baseline.objective):
        return
    best, note = int(np.argmin(baseline.objective)), plain(baseline.note, 160)
    n_drawn = len(baseline.placements)
    middle = (float(np.median(one)) for one in (baseline.objective, baseline.kl_nats))
    costs = (show_number(float(one[best])) for one in (baseline.objective, baseline.kl_nats))
    yield (str(n_kept), f"random, best of {n_drawn}", show_ranges(baseline.placements[best]), *costs, "–", note)
    yield (str(n_kept), f"random, median of {n_drawn}", "–", *map(show_number, middle), "–", "")


def published_table(record: AdviceRecord) -> Table | None:
    """Published lists beside the advised placements; None where none is known."""
    rows = tuple(
        (
            str(n_kept),
            plain(match.selector, 60),
            show_ranges(match.layers),
            str(match.overlap),
            show_number(match.expected),
            show_number(match.p),
            show_number(match.p_spaced),
            show_number(match.p_holm),
            plain(match.source, 120),
        )
        for n_kept in sorted(record.published)
        for match in record.published[n_kept]
    )
    columns = ("Keep", "How they were chosen", "Layers", "In both", "By chance", "p", "p, spacing kept", "p, Holm",
               "Source")  # fmt: skip
    return Table(columns=columns, rows=rows, numeric=frozenset({0, 3, 4, 5, 6, 7})) if rows else None


def singles_table(record: AdviceRecord) -> Table:
    """Every number of single layers."""
    singles, kinds = record.singles, kinds_of(record)
    columns = ["Layer"]
    cells: list[list[str]] = [[str(layer)] for layer in singles.layers]
    groups = (
        ("removed, KL in nats", singles.removed_kl_nats),
        ("kept alone, KL in nats", singles.restored_kl_nats),
        ("removed, solved", singles.removed_accuracy),
        ("kept alone, solved", singles.restored_accuracy),
    )
    for what, measured in groups:
        for kind in (kind for kind in kinds if kind in measured):
            columns.append(f"{plain(kind, 20)}: {what}")
            is_share = what.endswith("solved")
            for place, row in enumerate(cells):
                value = float(measured[kind][place])
                row.append(show_share(value) if is_share else show_number(value))
    if singles.joint_js is not None:
        columns.append("Joint JS")
        for place, row in enumerate(cells):
            row.append(show_number(float(singles.joint_js[place])))
    return Table(columns=tuple(columns), rows=tuple(map(tuple, cells)), numeric=frozenset(range(len(columns))))


def ratio_table(record: AdviceRecord) -> Table | None:
    """What it costs to keep fewer; None where that was not measured."""
    if record.ratio is None:
        return None
    tasks = tasks_of(record)[:MOST_TASKS]
    of_text = has_text(record)
    columns = ("Keep", "Layers", cost_head(record), "NLL of text, change in nats a token",
               *(f"Solved, {plain(task, 20)}" for task in tasks))  # fmt: skip
    rows = tuple(
        (
            str(n_kept),
            show_ranges(judgement.kept) or "none",
            show_cost(judgement, of_text=of_text),
            show_nll(judgement),
            *(show_accuracy(judgement, task) for task in tasks),
        )
        for n_kept, judgement in zip(record.ratio.n_kept, record.ratio.judgements, strict=True)
    )
    return Table(columns=columns, rows=rows, numeric=frozenset({0}))


def region_table(record: AdviceRecord) -> Table | None:
    """The regions of layers; None where they were not looked for."""
    if record.divisions is None:
        return None
    rows = tuple(
        (
            region_letter(number),
            f"{region.first}–{region.last}" if region.last > region.first else str(region.first),
            plain(region.name, 80),
            show_interval(region.first_interval) if number else "–",
            plain(region.sets_apart, 200) or "–",
        )
        for number, region in enumerate(record.divisions.regions)
    )
    return Table(columns=("Region", "Layers", "Name", "Begins at", "What sets it apart"), rows=rows)


def region_letter(number: int) -> str:
    """What a region is called in a figure."""
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def exit_table(gates: Gates) -> Table:
    """Leaving after each layer."""
    leaving = gates.early_exit
    rows = tuple(
        (
            str(layer),
            show_share(float(leaving.agreement[place])),
            " to ".join(show_share(float(end)) for end in leaving.agreement_interval[place]),
            show_share(float(leaving.stays[place])),
            show_share(float(leaving.accuracy[place])),
            show_share(float(leaving.compute_saved[place])),
        )
        for place, layer in enumerate(leaving.layers)
    )
    columns = ("Layer", "Agrees with the end", "Interval", "and stays so", "Solved there", "Arithmetic saved")
    return Table(columns=columns, rows=rows, numeric=frozenset(range(6)))


def threshold_table(gates: Gates) -> Table | None:
    """Leaving as soon as the readout is sure enough; None where that was not looked at."""
    leaving = gates.early_exit
    rows = tuple(
        (
            f"{threshold:g}",
            show_number(float(leaving.exit_layer[place])),
            show_share_within(leaving.threshold_agreement, leaving.threshold_agreement_interval, place),
            show_share(float(leaving.threshold_accuracy[place])),
            show_share(float(leaving.threshold_saved[place])),
            show_share_within(leaving.threshold_net_saved, leaving.threshold_net_saved_interval, place),
        )
        for place, threshold in enumerate(leaving.thresholds)
    )
    columns = ("Confidence", "Leaves after", "Agrees", "Solved", "Layers saved", "All saved")
    return Table(columns=columns, rows=rows, numeric=frozenset(range(6))) if rows else None


def show_share_within(values: np.ndarray | None, ends: np.ndarray | None, place: int) -> str:
    """A share, negative ones too, with its interval where there is one; a dash where it was not measured."""
    if values is None or not np.isfinite(values[place]):
        return "–"
    shown = f"{100 * float(values[place]):.0f} %".replace("-", "−")
    if ends is None or not np.isfinite(ends[place]).all():
        return shown
    low, high = (f"{100 * float(end):.0f}".replace("-", "−") for end in ends[place])
    return f"{shown} ({low} to {high})"


def switching_table(gates: Gates) -> Table | None:
    """Substituting below or above each prompt's particle; None where no prompt has one."""
    if gates.switching is None:
        return None
    switching = gates.switching
    measured = (
        ("Below the task particle", switching.before),
        ("As many layers anywhere", switching.random),
        ("From the particle on", switching.after),
        ("As many layers anywhere", switching.random_after),
    )
    rows = tuple(
        (name, str(int(np.isfinite(values).sum())), *_middle(values)) for name, values in measured if values is not None
    )
    columns = ("Substituted", "Prompts", "Median KL, nats", "Middle half")
    return Table(columns=columns, rows=rows, numeric=frozenset({1, 2, 3}))


def _middle(values: np.ndarray) -> tuple[str, str]:
    """The median and the middle half of what is known."""
    known = values[np.isfinite(values)]
    if not known.size:
        return "–", "–"
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    return show_number(float(middle)), f"{show_number(float(low))} to {show_number(float(high))}"


def rows_table(record: AdviceRecord) -> Table:
    """What all rests on: rows by kind."""
    found = record.evaluations
    columns = ("Rows", "Seen by the search", "Held out, to judge", "of these, to compare")
    kinds = sorted({*found.n_search_rows, *found.n_held_out_rows}, key=lambda kind: (kind != "text", kind))
    rows = tuple(
        (
            plain(kind, 40),
            f"{found.n_search_rows.get(kind, 0):,}",
            f"{found.n_held_out_rows.get(kind, 0):,}",
            f"{found.n_compared_rows[kind]:,}" if kind in found.n_compared_rows else "–",
        )
        for kind in kinds
    )
    return Table(columns=columns, rows=rows, numeric=frozenset({1, 2, 3}))


def show_knee(record: AdviceRecord) -> str:
    """Where the curve bends, in words; "" where there is no curve."""
    if record.ratio is None:
        return ""
    if record.ratio.knee is None:
        return "The curve has no knee."
    interval = record.ratio.knee_interval
    ends = "" if interval is None else f" ({show_interval(interval)})"
    where = f"The curve bends at {show_count(record.ratio.knee, 'layer')}{ends}"
    return f"{where}: from there on each layer more brings less than before. What is lost still, the curve says."
