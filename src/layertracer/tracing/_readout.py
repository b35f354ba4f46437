"""Readout of every layer, the logit lens: the model's own unembedding applied to its output."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import LayerTracerError, OutOfMemoryError, SelfCheckError
from layertracer._types import Audit, Method, Sample
from layertracer.models import (
    Network,
    in_evaluation_mode,
    is_out_of_memory,
    keeping_loaded,
    without_gradients,
)
from layertracer.tasks import Task
from layertracer.tracing._batching.batches import run_batches
from layertracer.tracing._batching.memory_budget import (
    SHARE_OF_FREE,
    default_budget_bytes,
    fast_bytes,
    plan_pass,
    row_bytes,
)
from layertracer.tracing._batching.memory_limits import free_bytes
from layertracer.tracing._batching.process_memory import returning_large_tensors
from layertracer.tracing._batching.prompts import Prompt, bind_batch, bucket_prompts
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._failures import explaining_failures, first_line, is_of_callers_making
from layertracer.tracing._lenses.protocol import Lens, take_lenses, translated, unreadable
from layertracer.tracing._model import TracedModel, lay_out, refuse_untranslatable
from layertracer.tracing._passes.ladder import run_ladder
from layertracer.tracing._passes.plain import plain_readout
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._planning.audit_cells import check_share
from layertracer.tracing._planning.guessed_costs import is_guessable
from layertracer.tracing._planning.pass_cost import clean_row_bytes
from layertracer.tracing._planning.token_spans import TokenSpan
from layertracer.tracing._planning.trace_plan import format_bytes
from layertracer.tracing._proofs.alone import Disagreement
from layertracer.tracing._proofs.readout_audit import audit_readout, choose_looks
from layertracer.tracing._proofs.self_check import refuse_non_finite

_LOG = logging.getLogger("layertracer")
_LOGITS_ALIVE = 3
"""Tensors of the size of a batch's logits that are there while they become log-probabilities."""
_COPIES_ALONE = 6
"""How often the distributions of one prompt are there while they are held against those of the prompt alone."""
_MUCH_ROOM = 2**30
"""Bytes beside the result, below which large tensors go back to the system at once."""

Distributions = Sequence[Float[Tensor, "prompt lens_row d_vocab"]]
"""Log-probabilities of all prompts, one tensor for each lens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LensReadout:
    """What a lens reads at the last position of each prompt.

    Attributes:
        log_probs: Read after each layer, nats; after the last layer they are the model's own.
        embedding_log_probs: Read from the embeddings, nats.
    """

    log_probs: Float[Tensor, "prompt layer d_vocab"]
    embedding_log_probs: Float[Tensor, "prompt d_vocab"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout(LensReadout):
    """Next-token distributions at the last position of each prompt, as the logit lens reads them.

    Attributes:
        log_probs: Read after each layer, nats; after the last layer they are the model's own.
        embedding_log_probs: Read from the embeddings, nats.
        audit: What was read again, each prompt alone; its notes say where a slower way had to be taken.
        lenses: What other lenses read, by their names.
    """

    audit: Audit
    lenses: Mapping[str, LensReadout] = field(default_factory=dict)


@without_gradients()
def read_layers(  # noqa: PLR0913 - what users call takes its settings by name
    model: TracedModel,
    samples: Task | Sequence[Sample],
    *,
    lens: Any = "logit",
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
    audit: float = 0.1,
    seed: int = 0,
) -> Readout:
    """The next-token distribution of every layer: the model's own tail applied to what leaves it.

    Laws: after the last layer it is the model's own distribution; a prompt's readout does not depend
    on the prompts beside it.

    Args:
        model: From `load_model` or `wrap_model`.
        samples: Prompts; their answers are not needed.
        lens: "logit", the logit lens; or another lens, or several, which are read beside it, see `Readout.lenses`.
        chat: Whether prompts are put into the tokenizer's chat template.
        system: Text of a system's turn before each of them, in the chat template.
        template_arguments: What else the chat template is given, e.g. {"enable_thinking": False}.
        audit: Share of the prompts that are read again, each alone, beside one of every length; where one disagrees,
            all are read by the plain method, one prompt and one layer at a time. 0 reads nothing again.
        seed: What draws them.

    Returns:
        Log-probabilities in float32 on the CPU, in the order of the samples. They are kept whole: prompts
        × layers × vocabulary × 4 bytes, for each lens.

    Raises:
        UnknownNameError: If there is no such lens.
        UsageError: If something else is given for one, or it is none for this model.
        TaskError: If there is no sample, or a prompt is too long.
        NonFiniteError: If the model's output is NaN for a prompt.
        OutOfMemoryError: If the result does not fit, or not even one prompt.
        SelfCheckError: If the model does not give the same twice.
        ModelError: If the model's own code raises anything else.

    Source:
        nostalgebraist (2020), "interpreting GPT: the logit lens".
    """
    lenses, network = take_lenses(lens), model.network
    refuse_untranslatable(network, lenses)
    _, prompts = lay_out(
        model,
        samples,
        chat=chat,
        system=system,
        template_arguments=template_arguments,
        target="model",
        target_tokens="first",
    )
    with in_evaluation_mode(network.call.module), explaining_failures(model.name, "while its layers were read"):
        reading = _Reading(model=model, lenses=lenses, room=_room_beside(model, len(prompts), 1 + len(lenses)))
        with returning_large_tensors(applies=model.device.type == "cpu" and reading.room < _MUCH_ROOM):
            return _read_and_audit(reading, prompts, share=check_share(audit), seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """How prompts are read.

    Attributes:
        model: The model.
        lenses: Lenses beside the logit lens.
        room: What the passes may take beside the result, bytes.
    """

    model: TracedModel
    lenses: Sequence[Lens]
    room: int

    @property
    def readers(self) -> tuple[Lens | None, ...]:
        """The lenses in the order of what is read; None for the logit lens."""
        return (None, *self.lenses)


def _read_and_audit(reading: _Reading, prompts: Sequence[Prompt], *, share: float, seed: int) -> Readout:
    """Readouts of prompts, by the plain method where those in batches are not what a prompt alone gives."""
    model, why, (looks, n_drawn) = reading.model, "", choose_looks(prompts, share, seed=seed)
    anatomy = model.anatomy
    read = [torch.empty(len(prompts), 1 + anatomy.n_layers, anatomy.d_vocab) for _ in reading.readers]
    methods: tuple[Method, ...] = ("ladder", "plain") if model.self_check.method == "ladder" else ("plain",)
    for method in methods:
        try:
            _read_all(reading, prompts, method, read)
            found = audit_readout(model.network, looks, read, readers=reading.readers, method=method)
        except Disagreement as disagreement:
            why = str(disagreement)
            continue
        except Exception as error:
            # Nor need what is raised over many rows be raised over one.
            is_final = isinstance(error, LayerTracerError) or is_out_of_memory(error) or is_of_callers_making(error)
            if is_final or method == "plain":
                raise
            why = f"rows could not go through the layers together ({first_line(error)})"
            continue
        notes = (f"Everything was read anew by the plain method, because {why}.",) if why else ()
        if not share:
            notes = ("Nothing was read again: the audit was turned off.",)
        for note in notes:
            _LOG.warning("%s: %s", model.name, note)
        audit = replace(found, share=share, n_drawn=n_drawn, notes=notes)
        own, *others = ({"log_probs": one[:, 1:], "embedding_log_probs": one[:, 0]} for one in read)
        lenses = {lens.name: LensReadout(**one) for lens, one in zip(reading.lenses, others, strict=True)}
        return Readout(**own, audit=audit, lenses=lenses)
    raise SelfCheckError(
        f"{model.name!r} does not give the same numbers twice on these prompts: {why}, although it was run as plainly "
        "as can be. It keeps something between calls, or draws at random: make the model stateless and deterministic, "
        "then read it again."
    )


def _read_all(reading: _Reading, prompts: Sequence[Prompt], method: Method, read: Distributions) -> None:
    """Fill in the log-probabilities of all prompts, in their order, from the embeddings and after each layer."""
    model, room = reading.model, reading.room
    fitting = max(1, room // (2 * _LOGITS_ALIVE * 4 * model.anatomy.d_vocab))
    for bucket in bucket_prompts(prompts):
        plan = plan_pass(
            prompt_row_bytes(model, bucket[0], room),
            n_variants=0,
            n_prompts=1 if method == "plain" or model.self_check.row_by_row else min(fitting, len(bucket)),
            budget_bytes=fast_bytes(model.network, room // 2),
        )
        for _ in run_batches(model.network, bucket, plan, lambda batch, _: _read_batch(reading, batch, method, read)):
            pass


def _room_beside(model: TracedModel, n_prompts: int, n_lenses: int) -> int:
    """What the passes may take beside the result, which is kept whole.

    Raises:
        OutOfMemoryError: If the result does not fit into what may be taken; before anything runs.
    """
    network, n_lens_rows = model.network, n_lenses * (1 + model.anatomy.n_layers)
    row_bytes, may_take = 4 * model.anatomy.d_vocab, int(free_bytes() * SHARE_OF_FREE)
    result_bytes, least_bytes = n_prompts * n_lens_rows * row_bytes, _COPIES_ALONE * n_lens_rows * row_bytes
    if result_bytes + least_bytes > may_take:
        fitting = (may_take - least_bytes) // (n_lens_rows * row_bytes)
        advice = f"Read {fitting} prompts or fewer at a time" if fitting > 0 else "Use a machine with more memory"
        raise OutOfMemoryError(
            f"The readout of {n_prompts} prompts with {network.name!r} is {n_prompts} × {n_lens_rows} × "
            f"{model.anatomy.d_vocab:,} log-probabilities of 4 bytes, {format_bytes(result_bytes)}, and a few more for "
            f"each prompt under way. Beside the weights {format_bytes(may_take)} may be taken: four fifths of what is "
            f"free and what the limits of this process leave. {advice}, or call `trace`, which keeps a few numbers of "
            "each distribution."
        )
    beside = may_take - result_bytes
    return beside if network.device.type == "cpu" else default_budget_bytes(network)


def prompt_row_bytes(model: TracedModel, prompt: Prompt, room: int) -> int:
    """What a row of a pass takes; measured where it does not follow from the shapes of the weights."""
    guessed = row_bytes(model.network, len(prompt.ids))
    if is_guessable(model.network):
        return guessed
    span = TokenSpan(n_before=0, n_own=len(prompt.ids), cached=False, n_source=len(prompt.source_ids or ()))
    try:
        costs = model.cost_probe.measure([span], None, room_bytes=room)[span]
    except Exception:  # noqa: BLE001 - whatever a model's own code raises: reading raises it where it matters
        return guessed
    return int(clean_row_bytes(costs, n_own=span.n_own, n_scored=len(prompt.read)))


def _read_batch(reading: _Reading, batch: Sequence[Prompt], method: Method, read: Distributions) -> None:
    """Fill in the log-probabilities of one batch, from the embeddings and after each layer."""
    (network, ids), positions = bind_batch(reading.model.network, batch), batch[0].read
    rows, is_finite = [prompt.index for prompt in batch], True
    with keeping_loaded(network.outer_modules):
        for lens_row, by_lens in enumerate(_lens_rows(reading, network, ids, positions, method)):
            for log_probs_read, lens, logits in zip(read, reading.readers, by_lens, strict=True):
                log_probs = log_probs_of(logits)
                is_nan = bool(log_probs.isnan().any())
                is_finite = is_finite and not (is_nan and lens is None)
                if is_nan and lens is not None and is_finite:
                    raise unreadable(lens.name, lens_row - 1)
                log_probs_read[rows, lens_row] = log_probs.cpu()
    if not is_finite:
        refuse_non_finite(network, ids)


def _lens_rows(
    reading: _Reading, network: Network, ids: Tensor, read: Sequence[int], method: Method
) -> Iterator[Iterator[Tensor]]:
    """Logits [prompt, d_vocab] from the embeddings and after each layer, each as every lens reads it."""
    n_layers = network.anatomy.n_layers
    layers = range(-1, n_layers)
    if method == "plain":
        for layer in layers:
            yield (plain_readout(network, ids, read=read, layer=layer, lens=one)[:, 0] for one in reading.readers)
    else:
        rows = run_ladder(network, ids, read=read, perturber=None, variants={}, axes=reading.model.axes)
        tail = Tail(network)
        for layer, lens_row in zip(layers, (rows.embedding, *rows.lens_rows), strict=True):
            row = lens_row[:, 0]
            yield (
                tail(row if one is None else translated(one, row, layer=layer, n_layers=n_layers))
                for one in reading.readers
            )
