"""How fast a model is: one plain forward, timed."""

from __future__ import annotations

import time

import torch

from layertracer._types import Sample
from layertracer.models import in_evaluation_mode, without_gradients
from layertracer.tracing._batching.prompts import bind_batch
from layertracer.tracing._failures import explaining_failures
from layertracer.tracing._model import TracedModel, lay_out


@without_gradients()
def time_forward(model: TracedModel, sample: Sample) -> float:
    """Tokens a second of one plain forward of a prompt, in seconds of the processor; on a GPU, of the clock.

    Args:
        model: The model.
        sample: The prompt.

    Raises:
        TaskError: If it is empty or too long.
    """
    _, prompts = lay_out(model, [sample], target="model", target_tokens="first", chat=False)
    bound, ids = bind_batch(model.network, prompts)
    clock = time.process_time if model.device.type == "cpu" else time.perf_counter
    with in_evaluation_mode(model.network.call.module), explaining_failures(model.name, "while it was timed"):
        bound.call.logits(ids)
        began = clock()
        bound.call.logits(ids)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
    return ids.shape[1] / max(clock() - began, 1e-6)
