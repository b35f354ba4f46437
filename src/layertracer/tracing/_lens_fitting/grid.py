"""Grids: what lenses read at every position and layer of one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._types import GridReading, LensGrid, Sample
from layertracer.models import without_gradients
from layertracer.tasks import Task
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._lens_fitting.lens_bench import LensBench, lens_bench
from layertracer.tracing._lenses.logit import LogitLens
from layertracer.tracing._lenses.protocol import Lens, take_lenses, translated, unreadable
from layertracer.tracing._model import TracedModel, lay_out, refuse_untranslatable
from layertracer.tracing._record import token_texts


@without_gradients()
def read_grid(model: TracedModel, samples: Task | Sequence[Sample], *, lens: Any = "logit", **chat: Any) -> LensGrid:
    """The most probable token, its probability and the entropy at every position and layer of the first prompt given.

    Laws: the last row is the model's own output at every position.

    Args:
        model: From `load_model` or `wrap_model`.
        samples: One prompt; its answer is not needed.
        lens: Lenses beside the logit lens, by name or themselves.
        **chat: How a chat is written, see `encode_samples`.

    Raises:
        UnknownNameError: If there is no such lens.
        UsageError: If it is none for this model, or the model has an encoder.
        TaskError: If there is no prompt, or it is too long.
        NonFiniteError: If the output, or what a lens makes of a layer, is not finite.
        SelfCheckError: If the model's tail does not read single positions as the model does.
        ModelError: If the model's own code raises anything else.
    """
    lenses = take_lenses(lens)
    refuse_untranslatable(model.network, lenses)
    _, prompts = lay_out(model, samples, target="model", target_tokens="first", **chat)
    ids = tuple(map(int, prompts[0].ids))
    with lens_bench(model, doing="while a grid was read") as bench:
        streams = bench.gather([ids], first=0)
        readings = {one.name: _read(bench, streams, one) for one in (LogitLens(), *lenses)}
    named = sorted({*ids, *(int(token) for reading in readings.values() for token in reading.top_ids.ravel())})
    return LensGrid(
        model=model.name,
        n_layers=model.anatomy.n_layers,
        token_ids=ids,
        readings=readings,
        texts=token_texts(model.tokenizer, named),
    )


def _read(bench: LensBench, streams: Float[Tensor, "lens_row token width"], lens: Lens) -> GridReading:
    """What one lens reads."""
    shape = streams.shape[:2]
    ids, prob, entropy = np.zeros(shape, dtype=np.int64), np.zeros(shape), np.zeros(shape)
    for lens_row, rows in enumerate(streams):
        for part in bench.parts(shape[1]):
            own = rows[part].to(bench.model.device)
            made = translated(lens, own, layer=lens_row - 1, n_layers=bench.n_layers)
            log_p = log_probs_of(bench.tail(made)).double()
            if bool(log_p.isnan().any()):
                raise unreadable(lens.name, lens_row - 1)
            top = log_p.max(dim=-1)
            ids[lens_row, part] = top.indices.cpu().numpy()
            prob[lens_row, part] = top.values.exp().cpu().numpy()
            entropy[lens_row, part] = (torch.special.entr(log_p.exp()).sum(dim=-1) / np.log(2)).cpu().numpy()
    return GridReading(top_ids=ids, top_prob=prob, entropy_bits=entropy)
