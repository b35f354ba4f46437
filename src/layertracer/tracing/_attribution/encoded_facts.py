"""Samples with what they say beside prompt and answer: the answer that theirs is compared with, and their subject."""

from __future__ import annotations

from collections.abc import Sequence

from layertracer._types import EncodedSample, Sample
from layertracer.tasks import Task, encode_samples
from layertracer.tracing._model import TracedModel
from layertracer.tracing._options import TraceOptions


def encode_facts(
    model: TracedModel, samples: Task | Sequence[Sample], options: TraceOptions
) -> tuple[EncodedSample, ...]:
    """Samples as token ids, with their subjects and contrasts; as many as are laid out for a trace.

    Args:
        model: The model.
        samples: The samples.
        options: How a chat is written, and what is followed.
    """
    network = model.network
    return encode_samples(
        samples,
        model.tokenizer,
        chat=options.chat,
        system=options.system,
        template_arguments=options.template_arguments,
        max_length=network.max_length,
        has_encoder=network.call.has_encoder,
        followed=options.target_tokens if options.target == "answer" else None,
        causal=not network.call.has_encoder,
    ).samples


def contrast_tokens(
    model: TracedModel, samples: Task | Sequence[Sample], options: TraceOptions
) -> tuple[int | None, ...]:
    """For each sample the token of its contrast answer that stands where the followed one does, or None."""
    return tuple(map(_contrast_token, encode_facts(model, samples, options)))


def _contrast_token(sample: EncodedSample) -> int | None:
    contrast, n_lead = sample.contrast_answer, sample.n_lead
    if contrast is None or len(contrast.ids) <= n_lead or contrast.ids[:n_lead] != sample.answer_ids[:n_lead]:
        return None
    return contrast.ids[n_lead]
