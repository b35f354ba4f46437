"""Proof of placements in one pass: on a probe, several of them together give what each gives in its own forward."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from layertracer._errors import AnatomyError, LayerTracerError
from layertracer.models import is_out_of_memory
from layertracer.tracing._batching.judged_rows import JudgedRow, RowMeasures
from layertracer.tracing._failures import first_line, is_of_callers_making
from layertracer.tracing._passes.placed import sort_placements
from layertracer.tracing._passes.placed_batches import PlacedBatches
from layertracer.tracing._proofs.alone import Disagreement
from layertracer.tracing._proofs.placed_audit import PlacedAuditor

_LENGTH = 16


def why_not_together(
    batches: PlacedBatches, placeable: tuple[int, ...], *, n_calls: Mapping[int, int], length: int
) -> str:
    """Why placements cannot be measured together in one pass; nothing where they can.

    Args:
        batches: How they are measured.
        placeable: The layers in which a substitute can stand.
        n_calls: How often each of them calls its attention; empty where no window stands there.
        length: How many tokens the probe has at least.
    """
    network, ids = batches.network.probe(batch=2, length=max(length, _LENGTH), seed=2)
    rows = [JudgedRow(ids=row, read=(0, len(row) // 2, len(row) - 2, len(row) - 1)) for row in ids.tolist()]
    some = {placeable, placeable[::2], placeable[1:], placeable[-1:]} - {()}
    placements = list(enumerate(sort_placements(some, n_layers=network.anatomy.n_layers)))
    found = [RowMeasures.empty(len(placements), len(row.read)) for row in rows]
    auditor = PlacedAuditor(batches=batches, share=1.0, generator=np.random.default_rng(0), n_calls=n_calls)
    try:
        batches.fill(rows, found, placements, method="ladder")
        auditor.look_at(rows[1:], found[1:], placements, n_forwards=1 + len(placements))
    except Disagreement as disagreement:
        return str(disagreement)
    except Exception as error:
        is_answer = isinstance(error, LayerTracerError) and not isinstance(error, AnatomyError)
        if is_answer or is_out_of_memory(error) or is_of_callers_making(error):
            raise
        return f"rows could not go through the layers together ({first_line(error)})"
    return ""
