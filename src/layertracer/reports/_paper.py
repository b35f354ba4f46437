"""Figures for a paper: one file each, drawn with Matplotlib, without the state of pyplot."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from layertracer._errors import UnknownNameError, UsageError
from layertracer.reports._sections.order import subjects_of
from layertracer.reports._values.overview import Overview, build_overview
from layertracer.runs import TraceRecord, write_file

_FORMATS = ("pdf", "png", "svg")
# No date and no version: the same record gives the same bytes.
_METADATA: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": "LayerTracer"},
    "png": {"Software": "LayerTracer"},
    "pdf": {"CreationDate": None, "Creator": "LayerTracer", "Producer": None},
}
_STYLE: Any = {  # Any: Matplotlib types the names of its settings one by one
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#5c636e",
    "axes.labelcolor": "#1c1f24",
    "xtick.color": "#5c636e",
    "ytick.color": "#5c636e",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "svg.hashsalt": "layertracer",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "figure.constrained_layout.use": True,
}


def write_figures(
    record: TraceRecord,
    folder: str | Path,
    *,
    format: str = "svg",  # noqa: A002 - the word that Matplotlib and pandas use
) -> list[Path]:
    """Curves, heat strips, the map of prompts and whatever else sections draw for a paper, one file each.

    Laws: the same record gives the same bytes with the same version of Matplotlib; no text of a
    prompt or a token is drawn.

    Args:
        record: The trace, with at least one finished prompt.
        folder: Where to write; it is made if it is not there.
        format: "svg", "png" (300 dots per inch) or "pdf".

    Returns:
        The files written.

    Raises:
        UnknownNameError: If there is no such format.
        UsageError: If no prompt was finished or `folder` is a file.
    """
    if format not in _FORMATS:
        raise UnknownNameError.among("figure format", format, _FORMATS)
    if record.n_prompts == 0:
        raise UsageError(
            f"There is nothing to draw: none of the {record.n_requested} prompts was finished "
            f"(status {record.status!r}). Figures need at least one finished prompt; run the trace again."
        )
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise UsageError(
            f"Cannot write figures to {str(target)!r}: it is a file, and a folder is needed. Give a folder."
        )
    target.mkdir(parents=True, exist_ok=True)
    return list(_write_all(record, build_overview(record), folder=target, suffix=format))


def _write_all(record: TraceRecord, overview: Overview, *, folder: Path, suffix: str) -> Iterator[Path]:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        for subject in subjects_of(record, overview):
            if subject.paper is None:
                continue
            figure = Figure()
            FigureCanvasAgg(figure)
            subject.paper(figure, record, overview)
            path = folder / f"{subject.id}.{suffix}"
            content = BytesIO()
            figure.savefig(content, format=suffix, metadata=_METADATA[suffix])
            write_file(path, content.getvalue())
            yield path
