"""Lenses read from a disk for a model: LayerTracer's own, and published ones in their own formats."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from layertracer._errors import DamagedRunError
from layertracer.models import without_gradients
from layertracer.runs import LENS, expand_home
from layertracer.tracing._lens_fitting.published import find_published, read_published
from layertracer.tracing._lens_fitting.unembedding import refuse_other_unembedding
from layertracer.tracing._lenses.affine import AffineLens
from layertracer.tracing._lenses.report import LensReport
from layertracer.tracing._lenses.storage import LENS_FILE, read_lens
from layertracer.tracing._model import TracedModel


@without_gradients()
def load_lens(path: str | Path, model: TracedModel, *, allow_pickle: bool = False) -> AffineLens:
    """A fitted lens from a disk, for a model.

    Args:
        path: What `AffineLens.save` wrote; or a published lens: the folder of a tuned lens (`config.json` and
            `params.pt`), or the file of a Jacobian lens, or its folder.
        model: The model that it is for.
        allow_pickle: Whether a published lens's pickled file may be read; nothing but tensors and plain values is taken
            out of it, and no code in it runs.

    Raises:
        RunError: If there is no lens, or it is pickled and that was not allowed.
        DamagedRunError: If it is cut short, altered, holds NaN, or is something else.
        RunFormatError: If it was written by a newer version of LayerTracer.
        UsageError: If it is for a model of another width, another number of layers or another unembedding.
    """
    folder = expand_home(Path(path))
    folder = folder.parent if folder.name == LENS_FILE and folder.is_file() else folder
    if not os.path.lexists(folder / LENS.header):
        published = find_published(folder)
        if published is not None:
            return read_published(published, model, allow_pickle=allow_pickle)
    stored = read_lens(folder)
    try:
        reports = {name: LensReport.from_json(name, one) for name, one in stored.reports.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedRunError(
            f"The lens at {folder} is damaged: {LENS_FILE} cannot be used, its reports are none ({error}). Restore the "
            "folder from a copy, or fit the lens again."
        ) from None
    fields: dict[str, Any] = {"kind": stored.kind}
    lens = AffineLens(
        **fields,
        weights=stored.tensors["weights"],
        biases=stored.tensors["biases"],
        fallback=stored.fallback,
        name=stored.name,
        facts=stored.facts,
        unembedding=stored.unembedding,
        reports=reports,
    )
    lens.refuse_misfit(n_layers=model.anatomy.n_layers, width=model.anatomy.d_model)
    refuse_other_unembedding(model, stored.unembedding, name=stored.name)
    return lens
