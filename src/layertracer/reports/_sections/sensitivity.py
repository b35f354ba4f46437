"""How the task particle moves with the parameter of its criterion."""

from __future__ import annotations

from typing import Any

from layertracer.reports._drawing.plotly_layout import Figure, axis, layout, line, panel_title
from layertracer.reports._sections.protocol import Subject
from layertracer.reports._sections.tables import sensitivity_table
from layertracer.reports._values.overview import Overview
from layertracer.reports._values.prompts import Budget
from layertracer.reports._values.wording import criterion_name
from layertracer.runs import TraceRecord


def draw_sensitivity(record: TraceRecord, overview: Overview, budget: Budget) -> Figure:
    """Layer of the task particle, and share of prompts in which one is found, over the criterion's parameter."""
    del overview, budget
    sweep = record.sensitivity
    name, values, layers = sweep.parameter or "value", list(sweep.values), list(sweep.layers)
    used = record.spec.onset.get(name)
    found = [layer for layer in layers if layer is not None]
    middle = (min(found) + max(found)) / 2 if found else (record.n_layers - 1) / 2
    reach = max(3.0, (max(found) - min(found)) / 2 + 1.5) if found else record.n_layers / 2
    layer_line = line(values, layers, "target", "y", f"{name} %{{x}}<br>layer <b>%{{y}}</b>")
    share_line = line(values, list(sweep.share_found), "gain", "y2", f"{name} %{{x}}<br>found on <b>%{{y:.0%}}</b>")
    return {
        "data": [layer_line | {"line": layer_line["line"] | {"shape": "hv"}}, share_line | {"xaxis": "x2"}],
        "layout": layout(
            270,
            xaxis=_value_axis(name, [0.0, 0.46], "y"),
            xaxis2=_value_axis(name, [0.56, 1.0], "y2"),
            yaxis=axis(
                range=[max(-0.5, middle - reach), min(record.n_layers - 0.5, middle + reach)],
                tickformat="d",
                dtick=max(1, int(reach // 3)),
            ),
            yaxis2=axis(range=[0, 1.05], tickformat=".0%", anchor="x2", nticks=6),
            annotations=[
                panel_title("Layer of the task particle", 1.0),
                panel_title("Share of prompts in which one is found", 1.0) | {"x": 0.56},
            ],
            shapes=[] if used is None else [_used(float(used), "x", "y"), _used(float(used), "x2", "y2")],
        ),
        "narrow": _stacked(),
    }


def _stacked() -> dict[str, Any]:
    """The two panels one above the other, for a narrow window."""
    return {
        "height": 480,
        "xaxis": {"domain": [0, 1]},
        "xaxis2": {"domain": [0, 1]},
        "yaxis": {"domain": [0.6, 1]},
        "yaxis2": {"domain": [0, 0.4]},
        "annotations": {"1": {"x": 0, "y": 0.4}},
    }


def _value_axis(name: str, domain: list[float], anchor: str) -> dict[str, Any]:
    title = {"text": name, "font": {"size": 12, "color": "var(--ink-soft)"}, "standoff": 6}
    scale = {"type": "log"} if name == "eps" else {}
    return axis(domain=domain, anchor=anchor, showgrid=False, nticks=8, title=title, **scale)


def _used(delta: float, x_axis: str, y_axis: str) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": x_axis,
        "yref": f"{y_axis} domain",
        "x0": delta,
        "x1": delta,
        "y0": 0,
        "y1": 1,
        "line": {"color": "var(--ink-soft)", "width": 1, "dash": "3px,3px"},
        "layer": "below",
    }


def _lead(record: TraceRecord, overview: Overview) -> str:
    """How to read the sweep."""
    return f"{overview.sensitivity} The trace used {criterion_name(record.spec.onset)}{_swept(record)}"


def _swept(record: TraceRecord) -> str:
    parameter = record.sensitivity.parameter
    rest = "; its other parameters stay as they were" if len(record.spec.onset) > 2 else ""
    return f", and the sweep varies its {parameter}{rest}."


def _alt(record: TraceRecord, overview: Overview) -> str:
    """What the sweep shows."""
    del record
    return f"The task particle over the criterion's parameter. {overview.sensitivity}"


SENSITIVITY = Subject(
    id="sensitivity",
    short="Threshold",
    title="Does the answer depend on the threshold?",
    lead=_lead,
    alt=_alt,
    applies=lambda record, _overview: bool(record.sensitivity.parameter),
    figure=draw_sensitivity,
    numbers=lambda record, _overview, _budget: sensitivity_table(record.sensitivity),
)
