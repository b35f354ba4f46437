"""The values of a comparison's report: what page and terminal both say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from layertracer.comparisons import (
    ModelComparison,
    ModelSummary,
    PairDifference,
    ScalingTrend,
    Verdict,
    VulnerableDepth,
)
from layertracer.reports._values.numbers import (
    show_count,
    show_estimate,
    show_number,
    show_parameters,
    show_share,
)
from layertracer.reports._values.parts import Notice, Phrase, Table
from layertracer.reports._values.visible import shorten, visible_line, visible_text
from layertracer.reports._values.wording import perturbation_clause, task_name

MAX_LABEL = 28
MAX_PAIRS = 200
_MAX_NOTICES = 20

_QUANTITIES = {
    "mean_js_bits": "Mean JS divergence",
    "max_js_bits": "Largest JS divergence",
    "vulnerable_depth": "Depth of the vulnerable layer",
    "particle_depth": "Depth of the task particle",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonOverview:
    """Everything that is said about a comparison, drawn by the page and by the terminal."""

    task: str
    asked: str
    labels: tuple[str, ...]
    sentence: tuple[Phrase, ...]
    notices: tuple[Notice, ...]
    headlines: Table
    models: Table
    particles: Table
    differences: Table
    trends: Table
    mixers: Table | None
    verdicts: Table
    n_hidden_pairs: int


def build_comparison_overview(comparison: ModelComparison) -> ComparisonOverview:
    """The values of a report on `comparison`."""
    labels = tuple(model_label(model.label) for model in comparison.models)
    return ComparisonOverview(
        task=task_name(comparison.spec),
        asked=f"{show_count(len(labels), 'model')} · JS divergence {perturbation_clause(comparison.spec)}",
        labels=labels,
        sentence=tuple(_sentence(comparison)),
        notices=tuple(_notices(comparison)),
        headlines=_verdict_table([one for one in comparison.verdicts if one.is_headline]),
        models=_model_table(comparison),
        particles=_particle_table(comparison),
        differences=_difference_table(comparison),
        trends=_trend_table(comparison),
        mixers=_mixer_table(comparison) if comparison.mixers else None,
        verdicts=_verdict_table(comparison.verdicts),
        n_hidden_pairs=max(0, len(comparison.pairs) - MAX_PAIRS),
    )


def model_label(label: str) -> str:
    """A model's label, nothing hidden, of a length that fits a legend; its end is kept, which tells seeds apart."""
    shown = visible_line(label)
    if len(shown) <= MAX_LABEL:
        return shown
    return f"{shown[: MAX_LABEL - 11]}…{shown[-10:]}"


def own_criterion(comparison: ModelComparison) -> str:
    """The criterion of the headline."""
    return next((one.criterion for one in comparison.models[0].particles if one.is_headline), "particle")


def _sentence(comparison: ModelComparison) -> Iterator[Phrase]:
    yield Phrase(f"{show_count(len(comparison.models), 'model')} on {task_name(comparison.spec)}.")
    for verdict in comparison.verdicts:
        if verdict.is_headline:
            yield Phrase(f" {verdict.statement.rstrip('.')}: ")
            yield Phrase(verdict.outcome, strong=True)
            yield Phrase(".")


def _notices(comparison: ModelComparison) -> Iterator[Notice]:
    for text in comparison.warnings[:_MAX_NOTICES]:
        yield Notice(level="warning", title="Warning", text=shorten(visible_text(text), 2000))
    if len(comparison.warnings) > _MAX_NOTICES:
        more = len(comparison.warnings) - _MAX_NOTICES
        yield Notice(level="warning", title="Warning", text=f"{more} more warnings are in the JSON document.")
    n_pairs = len(comparison.pairs)
    if n_pairs > 1:
        level = f"{100 * comparison.settings.level:g} %"
        text = f"{n_pairs} pairs are compared, each with {level} intervals that are not adjusted for being many."
        yield Notice(level="note", title="Note", text=text)


def _verdict_table(verdicts: list[Verdict] | tuple[Verdict, ...]) -> Table:
    columns = ("Claim", "By", "Verdict", "Statistic", "Models", "Sizes", "Prompts", "Why")
    rows = tuple(
        (
            visible_line(one.statement),
            _describe_reading(one),
            one.outcome,
            f"{one.statistic_name}: {_show_statistic(one)}",
            str(one.n_models),
            str(one.n_sizes),
            str(one.n_prompts),
            visible_line(one.reason),
        )
        for one in verdicts
    )
    return Table(columns=columns, rows=rows, numeric=frozenset({4, 5, 6}))


def _show_statistic(verdict: Verdict) -> str:
    is_slope = verdict.claim == "larger_is_more_robust"
    return show_estimate(verdict.statistic, verdict.interval, digits=2, sign=is_slope)


def _describe_reading(verdict: Verdict) -> str:
    if verdict.criterion is not None:
        return visible_line(f"{verdict.criterion}, {verdict.lens} lens")
    return _QUANTITIES[verdict.quantity] if verdict.quantity else "mean and largest JS divergence"


def _model_table(comparison: ModelComparison) -> Table:
    criterion = visible_line(own_criterion(comparison))
    columns = ("Model", "Parameters", "Layers", "Mixers", "Prompts", "Solved", "Begins", f"Particle at ({criterion})",
               "Vulnerable at", "Mean JS, bits", "Largest JS, bits")  # fmt: skip
    rows = tuple(_model_row(model) for model in comparison.models)
    return Table(columns=columns, rows=rows, numeric=frozenset({1, 2, 4, 5, 6, 7, 8, 9, 10}))


def _model_row(model: ModelSummary) -> tuple[str, ...]:
    own = next((one for one in model.particles if one.is_headline), None)
    return (
        model_label(model.label),
        show_parameters(model.n_parameters),
        str(model.n_layers),
        ", ".join(f"{count} {visible_line(kind)}" for kind, count in model.mixers.items()),
        f"{model.n_prompts:,}",
        "–" if model.solved_share is None else show_share(model.solved_share),
        "–" if model.begins_share is None else show_share(model.begins_share),
        "none" if own is None else show_estimate(own.depth, own.interval, digits=2),
        _show_vulnerable(model.vulnerable),
        *(
            "none" if one is None else show_estimate(one.value, one.interval, digits=2)
            for one in (model.mean_js, model.max_js)
        ),
    )


def _show_vulnerable(vulnerable: VulnerableDepth | None) -> str:
    """The depth of a layer that stands out; else that none does, and the range of those that might be it."""
    if vulnerable is None:
        return "none"
    if vulnerable.is_clear:
        return f"{show_number(vulnerable.depth, digits=2)} (layer {vulnerable.layer})"
    if vulnerable.interval is None:
        return "cannot be told"
    ends = (show_number(end, digits=2) for end in (vulnerable.interval.low, vulnerable.interval.high))
    return f"none clear ({'–'.join(ends)})"


def _particle_table(comparison: ModelComparison) -> Table:
    readings = comparison.models[0].particles
    lenses = {one.lens for one in readings}
    heads = (one.criterion if len(lenses) == 1 else f"{one.criterion}, {one.lens}" for one in readings)
    rows = tuple(
        (model_label(model.label), *(show_estimate(one.depth, one.interval, digits=2) for one in model.particles))
        for model in comparison.models
    )
    columns = ("Model", *(visible_line(head) for head in heads))
    return Table(columns=columns, rows=rows, numeric=frozenset(range(1, len(columns))))


def _difference_table(comparison: ModelComparison) -> Table:
    criterion = own_criterion(comparison)
    columns = ("Difference", "Bootstrap", "Prompts", "Mean JS, bits", "Largest JS, bits", "Vulnerable at",
               f"Particle at ({visible_line(criterion)})")  # fmt: skip
    rows = tuple(_difference_row(pair, criterion) for pair in comparison.pairs[:MAX_PAIRS])
    return Table(columns=columns, rows=rows, numeric=frozenset({2, 3, 4, 5, 6}))


def _difference_row(pair: PairDifference, criterion: str) -> tuple[str, ...]:
    cells = []
    for one in pair.differences:
        if one.criterion in (None, criterion):
            mark = " *" if one.excludes_zero else ""
            is_open = one.quantity == "vulnerable_depth" and one.interval is None and one.value is not None
            shown = "none clear" if is_open else show_estimate(one.value, one.interval, digits=2, sign=True)
            cells.append(shown + mark)
    n_prompts = str(pair.n_shared) if pair.is_paired else f"{pair.n_second} and {pair.n_first}"
    return (pair_label(pair), "paired" if pair.is_paired else "unpaired", n_prompts, *cells[:4])


def pair_label(pair: PairDifference) -> str:
    """A pair as what is subtracted from what."""
    return f"{model_label(pair.second)} − {model_label(pair.first)}"


def _trend_table(comparison: ModelComparison) -> Table:
    columns = ("Quantity", "Log-log slope", "Kendall's tau", "p (exact)", "Least p possible", "Sizes", "Models", "Note")
    rows = tuple(_trend_row(trend) for trend in comparison.trends)
    return Table(columns=columns, rows=rows, numeric=frozenset({1, 2, 3, 4, 5, 6}))


def _trend_row(trend: ScalingTrend) -> tuple[str, ...]:
    name = _QUANTITIES[trend.quantity] + ("" if trend.criterion is None else f" ({visible_line(trend.criterion)})")
    numbers = (trend.tau, trend.p_value, trend.least_p_value)
    return (
        name,
        show_estimate(trend.slope, trend.interval, digits=2, sign=True),
        *("–" if one is None else show_number(one, digits=2) for one in numbers),
        str(trend.n_sizes),
        str(trend.n_models),
        visible_line(trend.note or ""),
    )


def _mixer_table(comparison: ModelComparison) -> Table:
    columns = ("Model", "Kind", "JS to others at equal depth", "p", "Layers", "Bands", "Arrangements", "Note")
    rows = []
    for one in comparison.mixers:
        contrast = one.contrast
        seen = f"{contrast.n_arrangements:,}{' (all)' if contrast.is_exact else ' (random)'}"
        rows.append(
            (
                model_label(one.label),
                visible_line(contrast.mixer),
                "–" if contrast.ratio is None else f"× {show_number(contrast.ratio, digits=2)}",
                "–" if contrast.p_value is None else show_number(contrast.p_value, digits=2),
                f"{contrast.n_layers} against {contrast.n_others}",
                str(contrast.n_bands),
                seen if contrast.n_arrangements else "–",
                visible_line(contrast.note or ""),
            )
        )
    return Table(columns=columns, rows=tuple(rows), numeric=frozenset({2, 3, 4, 5, 6}))
