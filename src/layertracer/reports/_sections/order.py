"""The sections of a page: their titles, and a sentence on how to read each figure."""

from __future__ import annotations

from dataclasses import dataclass

from layertracer._types import VulnerableLayer
from layertracer.measures import note_on_curves, note_on_means
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.parts import Table
from layertracer.reports._values.wording import (
    MIXERS_AND_DEPTH,
    contenders_clause,
    criterion_name,
    edge_clause,
    missing_part,
    perturbation_clause,
    site_name,
)
from layertracer.runs import TraceRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One section: `alt` says in words what its figure shows."""

    id: str
    short: str
    title: str
    lead: str = ""
    alt: str = ""
    figure: bool = False
    table: Table | None = None


def list_sections(record: TraceRecord, overview: Overview, *, has_figures: bool) -> tuple[Section, ...]:
    """The sections of a page, in order; those with figures only where there is something to draw."""
    last = (
        Section(id="provenance", short="Provenance", title="Self-check and provenance"),
        Section(id="reproduce", short="Run it again", title="Run it again"),
    )
    answer = Section(id="answer", short="Answer", title="Answer")
    if not has_figures:
        return (answer, *last)
    prompts = Section(id="prompts", short="Prompts", title="Every prompt")
    curves, strips, *others = _figure_sections(record, overview)
    mixers = () if overview.by_mixer is None else (_mixers(record, overview.by_mixer),)
    return (answer, curves, strips, *mixers, *others, prompts, *last)


def _figure_sections(record: TraceRecord, overview: Overview) -> tuple[Section, ...]:
    return (
        _curves(record, overview),
        _strips(record, overview),
        _map(record),
        _lens(),
        *((_sensitivity(record, overview),) if record.sensitivity.parameter else ()),
        *((_dominant(record),) if record.dominant.is_known else ()),
    )


def _marked(overview: Overview) -> str:
    particle, vulnerable = overview.findings.particle, overview.findings.vulnerable
    where = "at no layer" if particle is None or particle.layer is None else f"at layer {particle.layer}"
    return f"the task particle lies {where}{_fragile(vulnerable, len(overview.target.mean))}"


def _fragile(vulnerable: VulnerableLayer | None, n_layers: int) -> str:
    """What is said of the vulnerable layer behind what was said of the particle."""
    if vulnerable is None:
        return ""
    if vulnerable.is_clear:
        return f"; the vulnerable layer is {vulnerable.layer}{edge_clause(vulnerable, n_layers)}"
    return f"; no layer stands out as the most vulnerable: {contenders_clause(vulnerable, n_layers)}"


def _shaded(overview: Overview) -> str:
    """What the shaded bands behind marked layers are."""
    vulnerable = overview.findings.vulnerable
    if vulnerable is None or vulnerable.is_clear:
        return " Shaded columns: the interval of a marked layer."
    return (
        " Shaded columns: above, the interval of the task particle; below, from the first to the last layer that "
        "cannot be told from the largest. None stands out."
    )


def _bands(record: TraceRecord) -> str:
    """What the bands around the means are."""
    if record.n_prompts == 1:
        return "One prompt has no interval."
    above, below = note_on_curves(record.n_prompts, record.sampling), _below(record)
    if above is None and below is not None:
        return f"Bold: mean, above with its 95 % interval over prompts, below without ({below}). Faint: single prompts."
    if above is not None:
        rest = (
            "no interval" if below is not None else f"above without interval, below with its 95 % one {_over(record)}"
        )
        why = above if below in (None, above) else f"{above}; {below}"
        return f"Bold: mean, {rest} ({why}). Faint: single prompts."
    return f"Bold: mean, with its 95 % interval (above over prompts, below {_over(record)}). Faint: single prompts."


def _over(record: TraceRecord) -> str:
    """What the intervals of divergences are over."""
    return "over prompts and draws" if record.sampling.has_random_draws else "over prompts"


def _below(record: TraceRecord) -> str | None:
    """Why the lower curve has no band; None where it has one."""
    return note_on_means(record.n_prompts, record.n_draws, record.sampling)


def _gaps(record: TraceRecord, beginning: str) -> str:
    """A sentence on layers without the perturbed site; nothing where every layer has it."""
    return f" {beginning} {missing_part(record.spec)}." if record.layers_without_site else ""


def _curves(record: TraceRecord, overview: Overview) -> Section:
    return Section(
        id="curves",
        short="Curves",
        title="Where the task starts, and where it breaks",
        lead=(
            "Above, the probability of the target token read after each layer. Below, how far the output moves "
            f"{perturbation_clause(record.spec)}, one layer at a time. {_bands(record)} “emb” is read "
            f"from the embeddings; colours give the kind of mixer.{_shaded(overview)}"
            f"{_gaps(record, 'A gap in the lower curve is a layer with')}"
        ),
        alt=f"Two curves over {record.n_layers} layers: {_marked(overview)}.",
        figure=True,
    )


def _strips(record: TraceRecord, overview: Overview) -> Section:
    return Section(
        id="strips",
        short="Heat strips",
        title="Layer by layer",
        lead=(
            "What each layer adds to the target's probability (green up, red down), and the mean JS divergence at the "
            f"{site_name(record.spec)}. Frames mark the task particle and {_framed(overview)}."
            f"{_gaps(record, 'A dotted, empty cell is a layer with')}"
        ),
        alt=f"Two heat strips over {record.n_layers} layers: {_marked(overview)}.",
        figure=True,
    )


def _framed(overview: Overview) -> str:
    vulnerable = overview.findings.vulnerable
    is_clear = vulnerable is None or vulnerable.is_clear
    return "the vulnerable layer" if is_clear else "the layer of the largest divergence, which does not stand out"


def _mixers(record: TraceRecord, table: Table) -> Section:
    return Section(
        id="mixers",
        short="Mixers",
        title="By kind of mixer",
        lead=(
            f"How far the output moves {perturbation_clause(record.spec)}, and what a layer adds to the target's "
            "probability: means over the layers of each kind. The interval is over prompts and draws. "
            f"{MIXERS_AND_DEPTH} The mean depth runs from 0, before the first layer, to 1, after the last."
        ),
        table=table,
    )


def _map(record: TraceRecord) -> Section:
    return Section(
        id="map",
        short="Map",
        title="Prompt by prompt",
        lead=(
            "Target probability of every prompt, rows ordered by where their own task particle lies (ring). "
            "Press a row to see its tokens below."
        ),
        alt=f"A map of target probability over {record.n_layers} layers, one row per prompt.",
        figure=True,
    )


def _lens() -> Section:
    return Section(
        id="lens",
        short="Lens",
        title="What each layer would say",
        lead=(
            "The model's own tail applied after each layer, the last layer on top: its most probable next tokens. "
            "The frame marks the target; spaces are drawn as ␣."
        ),
        alt="A grid of layers by most probable tokens for the chosen prompt; the table below holds the same.",
        figure=True,
    )


def _sensitivity(record: TraceRecord, overview: Overview) -> Section:
    return Section(
        id="sensitivity",
        short="Threshold",
        title="Does the answer depend on the threshold?",
        lead=f"{overview.sensitivity} The trace used {criterion_name(record.spec.onset)}{_swept(record)}",
        alt=f"The task particle over the criterion's parameter. {overview.sensitivity}",
        figure=True,
    )


def _swept(record: TraceRecord) -> str:
    parameter = record.sensitivity.parameter
    rest = "; its other parameters stay as they were" if len(record.spec.onset) > 2 else ""
    return f", and the sweep varies its {parameter}{rest}."


def _dominant(record: TraceRecord) -> Section:
    return Section(
        id="dominant",
        short="Dimensions",
        title="Do a few enormous dimensions decide?",
        lead=(
            f"The largest dimension of the {site_name(record.spec)} relative to the median one, and the share of the "
            "JS divergence that comes from draws which mask it. Far above the dashed line, that one dimension decides."
        ),
        alt="Size of the largest dimension of each layer, and its share of the JS divergence against chance.",
        figure=True,
    )
