"""Figures of what can be read off the stream: how well each lens reads, and what probes find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from layertracer.evidence import EvidenceRecord, Probing
from layertracer.reports._drawing.curves import band, curve, dashed, labelled
from layertracer.reports._drawing.plotly_layout import Figure, Trace, layer_axis
from layertracer.reports._evidence.panels import stack_panels
from layertracer.reports._evidence.wording import colors_of, lens_name, lenses_of

MAX_LENSES, MAX_KINDS = 6, 4
_PANEL = 190


def draw_lens_quality(record: EvidenceRecord) -> Figure | None:
    """KL from the final output above, agreement of the top token below, by layer; None where not measured."""
    lenses = record.lenses[:MAX_LENSES]
    if not lenses:
        return None
    n_layers, colors = record.model["n_layers"], colors_of(lenses_of(record))
    panels = stack_panels(["KL(final ‖ lens), nats", "Tokens with the final output's top token"], [_PANEL, _PANEL])
    at = list(range(-1, n_layers))
    data: list[Trace] = []
    for lens in lenses:
        name, color = lens_name(lens.lens), colors[lens.lens]
        kl = curve(at, lens.kl_nats, color=color, axis_name="y", template="%{customdata}: %{y:.3~g} nats", name=name)
        top1 = curve(at, lens.top1, color=color, axis_name="y2", template="%{customdata}: %{y:.0%}")
        data += [labelled(kl, name), labelled(top1, name)]
    settings = ({"rangemode": "tozero", "nticks": 5}, {"range": [0, 1.04], "tickformat": ".0%", "nticks": 5})
    return panels.figure(
        data,
        *settings,
        xaxis=layer_axis(n_layers, anchor="y2"),
        hovermode="x unified",
        layers={"n": n_layers, "embedding": True},
    )


def probe_kinds(record: EvidenceRecord) -> list[tuple[str, int]]:
    """Kinds of probes, with how many dimensions they may use."""
    return list(dict.fromkeys((one.kind, one.k) for one in record.probes))[:MAX_KINDS]


def probe_name(kind: str, k: int) -> str:
    """A kind of probe in words.

    Example:
        >>> probe_name("linear", 0), probe_name("k_sparse", 4)
        ('linear', '4-sparse')
    """
    return f"{k}-sparse" if kind == "k_sparse" else kind


def draw_probes(record: EvidenceRecord) -> Figure | None:
    """Accuracy on held-out prompts by layer with its interval, a control beside it; None where not measured."""
    kinds = probe_kinds(record)
    if not kinds:
        return None
    n_layers = record.model["n_layers"]
    panels = stack_panels([f"Accuracy of {probe_name(*kind)} probes" for kind in kinds], [_PANEL] * len(kinds))
    data: list[Trace] = []
    for number, (kind, name) in enumerate(zip(kinds, panels.names, strict=True)):
        chosen = sorted((one for one in record.probes if (one.kind, one.k) == kind), key=lambda one: one.layer)
        data += _probe_lines(chosen, name, is_told=number == 0)
    return panels.figure(
        data,
        {"range": [0, 1.04], "tickformat": ".0%", "nticks": 5},
        xaxis=layer_axis(n_layers, anchor=panels.names[-1]),
        hovermode="x unified",
        layers={"n": n_layers, "embedding": True},
    )


def _probe_lines(probes: Sequence[Probing], axis_name: str, *, is_told: bool) -> Iterator[Trace]:
    at = [one.layer for one in probes]
    yield band(
        at, [one.interval.low for one in probes], [one.interval.high for one in probes], "var(--target)", axis_name
    )
    lines = (
        ("held-out accuracy", [one.accuracy for one in probes], "var(--target)", "solid"),
        ("control: arbitrary labels", [one.control_accuracy for one in probes], "var(--loss)", "6px,3px"),
        ("chance", [one.chance for one in probes], "var(--muted)", "2px,2px"),
    )
    for name, values, color, dash in lines:
        template = f"{name}: %{{y:.0%}}"
        told = name if is_told else ""
        yield dashed(curve(at, values, color=color, axis_name=axis_name, template=template, name=told), dash)
