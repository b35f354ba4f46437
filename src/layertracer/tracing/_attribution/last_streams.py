"""What leaves each layer at the position from which a prompt's answer is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from layertracer._types import Sample
from layertracer.models import in_evaluation_mode, keeping_loaded, without_gradients
from layertracer.tasks import Task
from layertracer.tracing._attribution.branches import budget_of
from layertracer.tracing._batching.batches import run_batches
from layertracer.tracing._batching.memory_budget import fast_bytes, plan_pass, row_bytes
from layertracer.tracing._batching.prompts import Prompt, bind_batch, bucket_prompts
from layertracer.tracing._failures import explaining_failures
from layertracer.tracing._lenses.streams import StreamRows
from layertracer.tracing._model import TracedModel
from layertracer.tracing._observers.protocol import observing
from layertracer.tracing._options import TraceOptions, lay_out_task
from layertracer.tracing._passes.plain import plain_logits


class LastStreams(NamedTuple):
    """Streams of prompts, and what they are of.

    Attributes:
        streams: What enters the first layer and what leaves each, at the first position that is read; several vectors
            of a token one behind the other.
        answers: The token that is followed there: with `target="model"`, the model's own.
        prompts: Token ids up to there.
    """

    streams: Float[np.ndarray, "prompt row dimension"]
    answers: tuple[int, ...]
    prompts: tuple[tuple[int, ...], ...]


@without_gradients()
def gather_last_streams(
    model: TracedModel, samples: Task | Sequence[Sample], options: TraceOptions | None = None
) -> LastStreams:
    """The stream of every prompt where its answer begins, the embeddings first.

    Args:
        model: The model.
        samples: The prompts.
        options: What is followed of them, and the memory that may be taken.

    Raises:
        TaskError: If there is no sample, an answer is missing, or a prompt is too long.
    """
    options = options or TraceOptions()
    _, prompts = lay_out_task(model, samples, options)
    network, found = model.network, dict[int, np.ndarray]()
    answers: dict[int, int] = {}

    def take(batch: Sequence[Prompt]) -> None:
        bound, ids = bind_batch(network, batch)
        read = batch[0].read[:1]
        seen = StreamRows(network=network, read=read, length=ids.shape[1])
        with observing(network, [seen]):
            tops = plain_logits(bound, ids, read=read)[:, 0].argmax(dim=-1)
        rows = seen.stacked(dim=1).flatten(2).float().cpu().numpy()
        for prompt, row, top in zip(batch, rows, tops.tolist(), strict=True):
            found[prompt.index], answers[prompt.index] = row, prompt.target_ids[0] if prompt.target_ids else top

    with (
        in_evaluation_mode(network.call.module),
        keeping_loaded(network.outer_modules),
        explaining_failures(model.name, "while its streams were gathered"),
    ):
        for bucket in bucket_prompts(prompts):
            plan = plan_pass(
                row_bytes(network, len(bucket[0].ids)),
                n_variants=0,
                n_prompts=1 if model.self_check.row_by_row else len(bucket),
                budget_bytes=fast_bytes(network, budget_of(model, options)),
            )
            for _ in run_batches(network, bucket, plan, lambda batch, _: take(batch)):
                pass
    numbers = range(len(prompts))
    return LastStreams(
        streams=np.stack([found[number] for number in numbers]),
        answers=tuple(answers[number] for number in numbers),
        prompts=tuple(prompt.ids[: prompt.read[0] + 1] for prompt in prompts),
    )
