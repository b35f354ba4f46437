"""The tables of a report on evidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from layertracer.evidence import Agreement, CausalRecord, EvidenceRecord, RoleEffects
from layertracer.reports._drawing.role_map import role_name
from layertracer.reports._evidence.dose_figures import dominant_doses, reference_curve, show_fraction
from layertracer.reports._evidence.lens_figures import probe_name
from layertracer.reports._evidence.spread_figures import sources_of
from layertracer.reports._evidence.wording import (
    criterion_words,
    is_marked,
    lens_name,
    lenses_of,
    p_words,
    passed_words,
    rows_words,
)
from layertracer.reports._values.numbers import (
    show_count,
    show_estimate,
    show_interval,
    show_number,
    show_ranges,
    show_share,
)
from layertracer.reports._values.parts import Table
from layertracer.reports._values.visible import plain

MOST_ROWS = 400


def particle_table(record: EvidenceRecord) -> Table:
    """The particle by lens and criterion."""
    rows = tuple(
        (
            criterion_words(one.criterion),
            lens_name(one.lens),
            "none" if one.layer is None else str(one.layer),
            show_interval(one.interval),
            show_share(one.share_found),
            show_share(one.false_positive_rate),
        )
        for one in record.particles[:MOST_ROWS]
    )
    columns = ("Criterion", "Lens", "Layer", "Interval", "Found in", "Fires on random")
    return Table(columns=columns, rows=rows, numeric=frozenset({2, 3, 4, 5}))


def target_table(record: EvidenceRecord) -> Table | None:
    """The target's mean probability by lens and layer."""
    lenses = [lens for lens in lenses_of(record) if lens in record.target_prob]
    if not lenses:
        return None
    rows = tuple(
        (_row_name(row), *(show_number(float(record.target_prob[lens][row])) for lens in lenses))
        for row in range(record.model["n_layers"] + 1)
    )
    columns = ("Layer", *map(lens_name, lenses))
    return Table(columns=columns, rows=rows, numeric=frozenset(range(len(columns))))


def _row_name(row: int) -> str:
    return "embeddings" if row == 0 else str(row - 1)


def effect_table(record: EvidenceRecord) -> Table:
    """The most vulnerable layer of each site."""
    rows = tuple(
        (
            plain(one.site, 24),
            rows_words(one.rows),
            str(one.layer),
            "yes" if one.is_clear else "no",
            show_ranges(one.contenders),
            f"{len(one.js_bits):,}",
        )
        for one in record.effects
    )
    columns = ("Site", "Measured", "Largest at layer", "Stands out", "Cannot be told from it", "Prompts")
    return Table(columns=columns, rows=rows, numeric=frozenset({2, 5}))


def importance_table(record: EvidenceRecord) -> Table | None:
    """Every mean by layer: JS by site, then the other measures, on the task."""
    columns: dict[str, np.ndarray] = {}
    for effect in record.effects:
        if effect.rows == "task":
            columns[f"JS at {plain(effect.site, 20)}, bits"] = effect.mean_js_bits
    for name in sorted(record.importance):
        columns[f"{plain(name, 28)}, {plain(record.importance[name].unit, 12)}"] = record.importance[name].mean
    if not columns:
        return None
    rows = tuple(
        (str(layer), *(show_number(float(values[layer])) for values in columns.values()))
        for layer in range(record.model["n_layers"])
    )
    return Table(columns=("Layer", *columns), rows=rows, numeric=frozenset(range(len(columns) + 1)))


def agreement_table(agreements: Sequence[Agreement]) -> Table | None:
    """Every comparison with its interval and p-values."""
    rows = tuple(
        (
            plain(one.one, 48),
            plain(one.other, 40),
            plain(one.method, 12),
            show_estimate(one.value, one.interval, digits=2, sign=True),
            p_words(one.p),
            f"{p_words(one.p_holm)}{' *' if is_marked(one) else ''}",
            f"{one.n_units:,} {plain(one.units, 20)}",
            plain(one.note, 200) or "–",
        )
        for one in agreements[:MOST_ROWS]
    )
    columns = ("One", "Other", "Method", "Correlation", "p", "p, Holm", "Over", "Note")
    return Table(columns=columns, rows=rows, numeric=frozenset({3, 4, 5})) if rows else None


def control_table(record: EvidenceRecord) -> Table | None:
    """Controls beside the true measurement."""
    rows = tuple(
        (
            plain(one.name.replace("_", " "), 32),
            passed_words(one),
            plain(one.measured, 32),
            plain(one.expected, 60),
            f"{show_number(one.value)} {plain(one.unit, 16)}",
            f"{show_number(one.true_value)} {plain(one.unit, 16)}",
            "none" if one.layer is None else str(one.layer),
            "–" if one.rank_correlation is None else show_number(one.rank_correlation, digits=2, sign=True),
        )
        for one in record.controls
    )
    columns = ("Control", "Came out", "Measured", "Expected", "In the control", "Truly", "Layer found",
               "Order of layers beside the true one")  # fmt: skip
    return Table(columns=columns, rows=rows, numeric=frozenset({4, 5, 6, 7})) if rows else None


def dose_table(record: EvidenceRecord) -> Table | None:
    """Where the largest effect lies at each share masked, and how far the order of layers stays."""
    rows = tuple(
        (
            plain(dose.site, 24),
            f"{show_fraction(fraction)}{' (reference)' if fraction == dose.reference else ''}",
            str(dose.layer[number]),
            show_number(float(np.nanmax(dose.js_bits[number], initial=0.0))),
            show_number(float(dose.rank_correlation[number]), digits=2, sign=True),
        )
        for dose in record.doses
        for number, fraction in enumerate(dose.fractions)
    )
    columns = ("Site", "Masked", "Largest at layer", "JS there, bits", "Order kept, ρ")
    return Table(columns=columns, rows=rows, numeric=frozenset({2, 3, 4})) if rows else None


def dominant_table(record: EvidenceRecord) -> Table | None:
    """The largest effect with all dimensions, without the dominant ones, and with them alone."""
    rows = []
    for dose in dominant_doses(record):
        curves = (
            ("all dimensions", reference_curve(dose)),
            (f"{show_count(dose.n_dominant, 'dominant dimension')} never masked", dose.without_dominant),
            ("dominant dimensions alone", dose.only_dominant),
        )
        for name, values in curves:
            if values is not None and np.isfinite(values).any():
                layer = int(np.nanargmax(values))
                rows.append((plain(dose.site, 24), name, str(layer), show_number(float(values[layer]))))
    columns = ("Site", "Masked", "Largest at layer", "JS there, bits")
    return Table(columns=columns, rows=tuple(rows), numeric=frozenset({2, 3})) if rows else None


def variance_table(record: EvidenceRecord) -> Table | None:
    """Where the spread of each number comes from."""
    sources = sources_of(record.variance)
    rows = tuple(
        (
            plain(one.of, 48),
            *(
                f"{show_share(one.shares[source])}{_levels(one.levels.get(source))}" if source in one.shares else "–"
                for source in sources
            ),
            plain(one.note, 200) or "–",
        )
        for one in record.variance
    )
    columns = ("Of", *(plain(source, 20).capitalize() for source in sources), "Note")
    return Table(columns=columns, rows=rows) if rows else None


def _levels(levels: int | None) -> str:
    return "" if levels is None else f", of {levels:,}"


def prompts_table(record: EvidenceRecord) -> Table | None:
    """How many prompts an interval of ±1 layer takes."""
    rows = tuple(
        (
            plain(one.of, 48),
            "more than can be foretold" if one.n_prompts is None else f"about {one.n_prompts:,}",
            ", ".join(f"{n:,}: ±{show_number(one.measured[n], digits=2)}" for n in sorted(one.measured)) or "–",
            plain(one.note, 200) or "–",
        )
        for one in record.prompts_needed
    )
    columns = ("Of", "Prompts for ±1 layer", "Measured", "Note")
    return Table(columns=columns, rows=rows) if rows else None


def quality_table(record: EvidenceRecord) -> Table | None:
    """How well each lens reads, layer by layer."""
    if not record.lenses:
        return None
    columns = ["Layer"]
    for lens in record.lenses:
        name = lens_name(lens.lens)
        columns += [f"{name}: KL, nats", f"{name}: bias, nats", f"{name}: same top token"]
    rows = []
    for row in range(record.model["n_layers"] + 1):
        cells = [_row_name(row)]
        for lens in record.lenses:
            fallback = " (logit)" if row - 1 in lens.fallback else ""
            cells += [
                f"{show_number(float(lens.kl_nats[row]))}{fallback}",
                show_number(float(lens.bias_nats[row])),
                show_share(float(lens.top1[row])),
            ]
        rows.append(tuple(cells))
    return Table(columns=tuple(columns), rows=tuple(rows), numeric=frozenset(range(1, len(columns))))


def probe_table(record: EvidenceRecord) -> Table | None:
    """Every probe with its control."""
    rows = tuple(
        (
            "embeddings" if one.layer < 0 else str(one.layer),
            probe_name(one.kind, one.k),
            f"{show_share(one.accuracy)} ({show_share(one.interval.low)} to {show_share(one.interval.high)})",
            show_share(one.control_accuracy),
            show_number(one.selectivity, digits=2, sign=True),
            show_share(one.chance),
            f"{one.n_test:,}",
        )
        for one in record.probes[:MOST_ROWS]
    )
    columns = ("Layer", "Probe", "Held-out accuracy", "Control", "Selectivity", "Chance", "Test prompts")
    return Table(columns=columns, rows=rows, numeric=frozenset({2, 3, 4, 5, 6})) if rows else None


def fidelity_table(record: EvidenceRecord) -> Table | None:
    """How far first-order estimates foretell true effects."""
    rows = tuple(
        (plain(name, 40), show_number(value, digits=2, sign=True))
        for name, value in sorted(record.gradient_fidelity.items())
    )
    columns = ("Estimate", "Correlation with the true effect")
    return Table(columns=columns, rows=rows, numeric=frozenset({1})) if rows else None


def excluded_table(causal: CausalRecord) -> Table | None:
    """Samples that could not be used."""
    rows = tuple(
        (str(one.prompt), plain(one.reason.replace("_", " "), 24), plain(one.explanation, 300))
        for one in causal.excluded[:MOST_ROWS]
    )
    return Table(columns=("Prompt", "Why not", "In full"), rows=rows, numeric=frozenset({0})) if rows else None


def role_table(effects: RoleEffects) -> Table:
    """Mean effect by layer and role, with its interval."""
    shown = [row for row, n in enumerate(effects.n_prompts.tolist()) if n]
    columns = ("Layer", *(f"{role_name(effects.roles[row])}, n = {effects.n_prompts[row]}" for row in shown))
    rows = tuple(
        (str(layer), *(_role_cell(effects, row, layer) for row in shown)) for layer in range(effects.mean.shape[1])
    )
    return Table(columns=columns, rows=rows, numeric=frozenset(range(len(columns))))


def _role_cell(effects: RoleEffects, row: int, layer: int) -> str:
    value, low, high = (float(values[row, layer]) for values in (effects.mean, effects.low, effects.high))
    ends = f" ({show_number(low, digits=2)} to {show_number(high, digits=2)})" if np.isfinite(low) else ""
    return f"{show_number(value, digits=2)}{ends}"
