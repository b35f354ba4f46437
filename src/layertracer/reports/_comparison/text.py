"""A comparison on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from layertracer.comparisons import ModelComparison
from layertracer.reports._comparison.overview import ComparisonOverview, build_comparison_overview
from layertracer.reports._terminal import draw_notices, draw_table, print_blocks, without_columns
from layertracer.reports._values.parts import Table

_MAX_ROWS = 20
_STYLES = {"supported": "bold green", "contradicted": "bold red", "undecided": "bold yellow"}


def render_comparison_text(
    comparison: ModelComparison, *, width: int = 80, color: bool = True, ascii_only: bool = False
) -> str:
    """What a comparison found, for a terminal.

    Laws: without `color` the text holds no control character but line feed; no line is wider than `width` (at least
    20); text of a model or a file cannot move the cursor or change a colour.

    Args:
        comparison: The comparison.
        width: Columns of the terminal.
        color: Whether colours may be used. The environment variable NO_COLOR overrules it.
        ascii_only: Whether the terminal shows nothing but ASCII. Other characters become "?".

    Returns:
        Several lines, the last one ended by a line feed.
    """
    overview = build_comparison_overview(comparison)
    return print_blocks(
        lambda columns: _blocks(comparison, overview, columns), width=width, color=color, ascii_only=ascii_only
    )


def _blocks(comparison: ModelComparison, overview: ComparisonOverview, width: int) -> Iterator[Text]:
    yield Text.assemble((f"{len(overview.labels)} models", "bold"), " on ", (overview.task, "bold"))
    yield Text(overview.asked, style="dim")
    yield from draw_notices(overview.notices)
    for title, table in (
        ("Models, on relative depth", without_columns(overview.models, {2, 3, 4, 5})),
        ("Differences (* excludes 0)", without_columns(overview.differences, {4, 5})),
        ("Trends over the number of parameters", without_columns(overview.trends, {4, 6})),
        ("Kinds of mixers at equal depth", overview.mixers),
    ):
        if table is None:
            continue
        yield Text(f"\n{title}", style="bold")
        yield from draw_table(_cut(table), width=width)
        if len(table.rows) > _MAX_ROWS:
            yield Text(f"… and {len(table.rows) - _MAX_ROWS} more: see --csv, --json or --out", style="dim")
    for verdict, row in zip(
        (one for one in comparison.verdicts if one.is_headline), overview.headlines.rows, strict=True
    ):
        claim, _, _, statistic, n_models, n_sizes, n_prompts, reason = row
        yield Text.assemble("\n", (verdict.outcome.upper(), _STYLES[verdict.outcome]), (f" {claim}", "bold"))
        yield Text(f"{reason} {n_models} models, {n_sizes} sizes, {n_prompts} prompts or more each; {statistic}.")


def _cut(table: Table) -> Table:
    return Table(columns=table.columns, rows=table.rows[:_MAX_ROWS], numeric=table.numeric)
