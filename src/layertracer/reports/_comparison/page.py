"""The report of a comparison as one HTML file that asks nobody for anything."""

from __future__ import annotations

from pathlib import Path

from layertracer.comparisons import ModelComparison
from layertracer.reports._comparison.chart import MAX_ROWS, draw_comparison
from layertracer.reports._comparison.overview import MAX_PAIRS, ComparisonOverview, build_comparison_overview
from layertracer.reports._page import fill_page
from layertracer.reports._sections.protocol import Section
from layertracer.reports._values.documents import write_whole


def write_comparison_report(comparison: ModelComparison, path: str | Path) -> Path:
    """One self-contained HTML file: verdicts, curves on relative depth, differences, trends.

    Laws: the same comparison gives the same bytes; no text of a run is markup; the file asks for nothing from
    elsewhere.

    Args:
        comparison: The comparison.
        path: Where to write; folders above it are made, and a file there is replaced whole.

    Returns:
        The path written.

    Raises:
        UsageError: If `path` is a folder.
    """
    return write_whole(lambda: render_comparison_page(comparison), path)


def render_comparison_page(comparison: ModelComparison) -> str:
    """The HTML of a comparison's report."""
    overview = build_comparison_overview(comparison)
    figures = draw_comparison(comparison)
    return fill_page(
        "comparison.html.j2",
        {"figures": figures},
        overview=overview,
        sections=_list_sections(comparison, overview, set(figures)),
        tables={"places": overview.particles, "differences": overview.differences},
        level=f"{100 * comparison.settings.level:g} %",
    )


def _list_sections(comparison: ModelComparison, overview: ComparisonOverview, drawn: set[str]) -> tuple[Section, ...]:
    """The sections after the answer, in order."""
    n_models, n_pairs = len(overview.labels), len(comparison.pairs)
    sections = [
        Section(id="models", short="Models", title="The models", lead=_MODELS, table=overview.models),
        Section(
            id="curves",
            short="Curves",
            title="Curves on relative depth",
            lead=_CURVES,
            alt=f"Target probability and JS divergence over relative depth, a curve each for {_join(overview.labels)}.",
            figure=True,
        ),
        Section(
            id="places",
            short="Places",
            title="Where the task starts, and where it breaks",
            lead=_places_lead(comparison),
            alt=f"Depths of the task particles and the vulnerable layers of {n_models} models, with intervals.",
            figure=True,
        ),
        Section(
            id="differences",
            short="Differences",
            title="Differences between models",
            lead=_differences_lead(comparison),
            alt=f"Differences of the mean JS divergence of {n_pairs} pairs of models, with intervals.",
            figure="differences" in drawn,
        ),
        Section(
            id="scaling",
            short="Size",
            title="Does size matter?",
            lead=_TRENDS,
            alt=f"JS divergence of {n_models} models over their number of parameters.",
            figure="scaling" in drawn,
            table=overview.trends,
        ),
        Section(id="verdicts", short="Verdicts", title="Every verdict", lead=_VERDICTS, table=overview.verdicts),
    ]
    if overview.mixers is not None:
        mixers = Section(
            id="mixers", short="Mixers", title="Kinds of mixers at equal depth", lead=_MIXERS, table=overview.mixers
        )
        sections.insert(-1, mixers)
    return tuple(sections)


def _join(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def _places_lead(comparison: ModelComparison) -> str:
    cut = f" The first {MAX_ROWS} models are drawn." if len(comparison.models) > MAX_ROWS else ""
    return (
        "Relative depth of the task particle and of the vulnerable layer, with their intervals; where no layer "
        "stands out (an open diamond), from the first to the last that cannot be told from the largest. The dashed "
        f"line is where “deep” begins in the verdict. The table has the particle by every criterion.{cut}"
    )


def _differences_lead(comparison: ModelComparison) -> str:
    n_pairs = len(comparison.pairs)
    cut = (
        f" The first {MAX_ROWS} pairs are drawn, the first {MAX_PAIRS} are in the table." if n_pairs > MAX_ROWS else ""
    )
    return (
        "First model minus second, over the prompts that both finished: right of 0 the first one moves more when it is "
        "perturbed. Paired: both are resampled over the same prompts; unpaired: each over its own. Draws are resampled "
        "too. Where no layer stands out in either model, nothing is said of their vulnerable layers. In the table, * "
        f"marks intervals without 0.{cut}"
    )


_MODELS = (
    "Layer i of n sits at relative depth (i + 1) / n. Intervals, in brackets, are over prompts, those of JS over "
    "draws too. A vulnerable layer is named only where no other one can be it."
)
_CURVES = (
    "Above, the probability of the target token read after each layer; below, how far the output moves when that layer "
    "is perturbed. Shaded: interval of the mean. A ring marks the task particle, a diamond "
    "the layer of the largest JS divergence."
)
_TRENDS = (
    "Slope of the logarithm over the logarithm of the number of parameters, within families: −0.1 is a fall by a fifth "
    "for ten times as many parameters. Its interval is over prompts and over models of one size. The test asks whether "
    "values fall or rise from size to size; several models of one size are one size."
)
_MIXERS = (
    "JS divergence of the layers of one kind relative to the other layers of the same model, within bands of depth and "
    "given a slope over depth; p by permuting kinds within the bands, with the layer as the unit."
)
_VERDICTS = (
    "What other criteria, lenses and measures say. On size, a claim is decided only where the slope's interval and the "
    "exact test agree; no claim is decided by fewer than three models."
)
