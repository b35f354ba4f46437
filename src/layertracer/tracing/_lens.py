"""The readout of every layer: the model's own tail applied to its output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import UnknownNameError
from layertracer._types import Sample
from layertracer.models import (
    Network,
    keeping_loaded,
    without_gradients,
)
from layertracer.tasks import Task
from layertracer.tracing._batches import run_batches
from layertracer.tracing._failures import naming_failures
from layertracer.tracing._ladder import climb
from layertracer.tracing._memory import fast_bytes, plan_pass, row_bytes
from layertracer.tracing._model import TracedModel, encode_for
from layertracer.tracing._plain import plain_readout
from layertracer.tracing._prompts import Prompt, bind_batch, bucket_prompts, prepare_prompts
from layertracer.tracing._reduce import log_probs_of
from layertracer.tracing._self_check import refuse_non_finite
from layertracer.tracing._tail import Tail


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """Next-token distributions at the last position of each prompt.

    Attributes:
        log_probs: Read after each layer, nats; after the last layer they are the model's own.
        embedding_log_probs: Read from the embeddings, nats.
    """

    log_probs: Float[Tensor, "prompt layer d_vocab"]
    embedding_log_probs: Float[Tensor, "prompt d_vocab"]


@without_gradients()
def read_layers(
    model: TracedModel, samples: Task | Sequence[Sample], *, lens: Literal["logit"] = "logit", chat: bool = False
) -> Readout:
    """The next-token distribution of every layer: the model's own tail applied to what leaves it.

    Laws: after the last layer it is the model's own distribution; a prompt's readout does not depend
    on the prompts beside it.

    Args:
        model: From `load_model` or `wrap_model`.
        samples: Prompts; their answers are not needed.
        lens: "logit", the logit lens.
        chat: Whether prompts are put into the tokenizer's chat template.

    Returns:
        Log-probabilities in float32 on the CPU, in the order of the samples. They are kept whole: prompts
        × layers × vocabulary × 4 bytes.

    Raises:
        UnknownNameError: If there is no such lens.
        TaskError: If there is no sample, or a prompt is too long.
        NonFiniteError: If the model's output is NaN for a prompt.
        OutOfMemoryError: If not even one prompt fits.
        ModelError: If the model's own code raises anything else.

    Source:
        nostalgebraist (2020), "interpreting GPT: the logit lens".
    """
    if lens != "logit":
        raise UnknownNameError.among("lens", lens, ("logit",))
    encoded = encode_for(model, samples, chat=chat, followed=None)
    prompts = prepare_prompts(encoded.samples, model.network, target="model", target_tokens="first")
    anatomy = model.anatomy
    result = torch.empty(len(prompts), 1 + anatomy.n_layers, anatomy.d_vocab)
    for bucket in bucket_prompts(prompts):
        plan = plan_pass(
            row_bytes(model.network, len(bucket[0].ids)),
            n_variants=0,
            n_prompts=1 if model.self_check.row_by_row else len(bucket),
            budget_bytes=fast_bytes(model.network),
        )
        for batch, read in run_batches(model.network, bucket, plan, lambda batch, _: _read_batch(model, batch)):
            result[[prompt.index for prompt in batch]] = read
    return Readout(log_probs=result[:, 1:], embedding_log_probs=result[:, 0])


def _read_batch(model: TracedModel, batch: Sequence[Prompt]) -> Float[Tensor, "prompt rung d_vocab"]:
    """Log-probabilities of one batch, from the embeddings and after each layer, on the CPU."""
    (network, ids), read = bind_batch(model.network, batch), batch[0].read
    with keeping_loaded(network.outer_modules), naming_failures(model.network, batch, doing="its layers were read"):
        log_probs = torch.stack([log_probs_of(logits).cpu() for logits in _rungs(model, network, ids, read)], dim=1)
    if bool(log_probs.isnan().any()):
        refuse_non_finite(network, ids)
    return log_probs


def _rungs(model: TracedModel, network: Network, ids: Tensor, read: Sequence[int]) -> Iterator[Tensor]:
    """Logits [prompt, d_vocab] from the embeddings and after each layer."""
    if model.self_check.method == "plain":
        rungs = range(-1, model.anatomy.n_layers)
        yield from (plain_readout(network, ids, read=read, layer=layer)[:, 0] for layer in rungs)
    else:
        rows = climb(network, ids, read=read, perturber=None, variants={}, axes=model.axes)
        tail = Tail(network)
        yield from (tail(rung[:, 0]) for rung in (rows.embedding, *rows.rungs))
