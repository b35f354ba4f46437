"""The sections of a report on advice, in their order."""

from __future__ import annotations

from collections.abc import Iterator

from layertracer.advice import AdviceRecord
from layertracer.reports._advice.curve_figures import draw_early_exit, draw_ratio
from layertracer.reports._advice.layer_figures import MAX_PAIRS, draw_divisions, draw_pairs, draw_singles
from layertracer.reports._advice.placement_figures import MAX_SIZES, draw_placements, draw_random
from layertracer.reports._advice.tables import (
    beside_table,
    exit_table,
    published_table,
    ratio_table,
    region_table,
    singles_table,
    switching_table,
    threshold_table,
)
from layertracer.reports._advice.wording import kinds_of
from layertracer.reports._advice.words import (
    GATES,
    NO_RANDOM,
    PAIRS,
    PLACEMENTS,
    RANDOM,
    REGION_BARS,
    divisions_lead,
    gates_lead,
    ratio_lead,
    singles_lead,
)
from layertracer.reports._drawing.page_sections import PageSection
from layertracer.reports._values.numbers import show_count, show_ranges
from layertracer.reports._values.visible import plain


def advice_sections(record: AdviceRecord) -> Iterator[PageSection]:
    """The sections after the answer, of which there is something."""
    if record.placements:
        yield _placements(record)
        yield _beside(record)
    yield _singles(record)
    yield from _pairs(record)
    yield from _ratio(record)
    yield from _divisions(record)
    yield from _gates(record)
    published = published_table(record)
    if published is not None:
        yield PageSection(
            id="published",
            short="Published lists",
            title="Beside published lists",
            lead="Lists for this model and size. By chance: how many layers two placements of these sizes share. p: by "
            "chance as many or more; then among placements that keep the list's spacing; then after Holm's correction.",
            tables=(("Published lists", published),),
        )


def _placements(record: AdviceRecord) -> PageSection:
    cut = "" if len(record.placements) <= MAX_SIZES else f" The first {MAX_SIZES} numbers are drawn."
    advised = "; ".join(
        f"of {n_kept}: {show_ranges(placement.layers) or 'none'}"
        for n_kept, placement in sorted(record.placements.items())
    )
    return PageSection(
        id="placements",
        short="Placements",
        title="Which layers keep their mixer",
        lead=PLACEMENTS + cut,
        alt=f"Strips of {record.model['n_layers']} layers. Advised are, {advised}.",
        drawing=draw_placements(record),
    )


def _beside(record: AdviceRecord) -> PageSection:
    drawing = draw_random(record)
    n_random = sum(one.n_random for one in record.placements.values())
    return PageSection(
        id="random",
        short="Beside others",
        title="Beside placements that nobody searched for",
        lead=NO_RANDOM if drawing is None else RANDOM,
        alt=f"Objectives of {n_random} random placements, with the advised ones and the baselines among them.",
        drawing=drawing,
        tables=(("Advised placements beside others", beside_table(record)),),
    )


def _singles(record: AdviceRecord) -> PageSection:
    kinds = ", ".join(plain(kind) for kind in kinds_of(record))
    return PageSection(
        id="singles",
        short="Single layers",
        title="What single layers are worth",
        lead=singles_lead(record),
        alt=f"Rows of cells over {show_count(len(record.singles.layers), 'layer')}, both directions, on {kinds}.",
        drawing=draw_singles(record),
        numbers=singles_table(record),
    )


def _pairs(record: AdviceRecord) -> Iterator[PageSection]:
    if record.pairs is None:
        return
    drawing = draw_pairs(record.pairs)
    too_many = f" More than {MAX_PAIRS} layers are not drawn; pairs.parquet has them all." if drawing is None else ""
    yield PageSection(
        id="pairs",
        short="Pairs",
        title="Pairs of layers",
        lead=PAIRS + too_many,
        alt=f"A square of {len(record.pairs.layers)} by {len(record.pairs.layers)} layers: interaction of each pair.",
        drawing=drawing,
    )


def _ratio(record: AdviceRecord) -> Iterator[PageSection]:
    numbers = ratio_table(record)
    if record.ratio is None or numbers is None or not record.ratio.n_kept:
        return
    yield PageSection(
        id="ratio",
        short="How many",
        title="How many layers to keep",
        lead=ratio_lead(record),
        alt=f"Held-out cost and solved tasks where {', '.join(map(str, record.ratio.n_kept))} layers keep their mixer.",
        drawing=draw_ratio(record, record.ratio),
        numbers=numbers,
    )


def _divisions(record: AdviceRecord) -> Iterator[PageSection]:
    regions = region_table(record)
    if record.divisions is None or regions is None:
        return
    has_curves = bool(record.divisions.curves)
    yield PageSection(
        id="divisions",
        short="Regions",
        title="Regions of layers",
        lead=f"{divisions_lead(record.divisions)} {REGION_BARS}".strip(),
        alt=f"{show_count(len(record.divisions.curves), 'curve')} over layers with "
        f"{show_count(len(record.divisions.regions), 'region')} behind them.",
        drawing=draw_divisions(record.divisions, record.model["n_layers"]) if has_curves else None,
        tables=(("Regions of layers", regions),),
    )


def _gates(record: AdviceRecord) -> Iterator[PageSection]:
    gates = record.gates
    if gates is None:
        return
    found = (
        ("Leaving when sure enough", threshold_table(gates)),
        ("Switching at the task particle", switching_table(gates)),
    )
    tables = tuple((caption, table) for caption, table in found if table is not None)
    thresholds = f" {GATES}" if gates.early_exit.thresholds else ""
    yield PageSection(
        id="gates",
        short="Gates",
        title="What gates would gain",
        lead=f"{gates_lead(gates)}{thresholds}",
        alt="Share of held-out prompts whose readout agrees with the final answer, and arithmetic saved, by layer.",
        drawing=draw_early_exit(gates, record.model["n_layers"]),
        tables=tables,
        numbers=exit_table(gates),
    )
