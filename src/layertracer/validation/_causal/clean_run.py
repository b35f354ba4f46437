"""What a model says to clean prompts: its top token, and the log-probabilities of some tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from layertracer._errors import LayerTracerError, ModelError, NonFiniteError, OutOfMemoryError, printable_cause
from layertracer.models import in_evaluation_mode, is_out_of_memory, keeping_loaded, without_gradients
from layertracer.tracing import TracedModel

_BATCH, _TOKENS = 32, 4096
"""Prompts, and tokens, that go into one forward."""

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanPrompt:
    """A prompt and the tokens whose probabilities are asked for.

    Attributes:
        ids: Its tokens.
        answers: Tokens any of which is right.
        contrast_answers: Tokens any of which is the contrast's answer.
    """

    ids: Ids
    answers: Ids
    contrast_answers: Ids = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanReading:
    """What comes of a clean prompt.

    Attributes:
        top_id: The model's own top token.
        top_log_prob: Its log-probability, nats.
        log_prob: That of any of the answers.
        contrast_log_prob: That of any of the contrast's answers; NaN where there is none.
    """

    top_id: int
    top_log_prob: float
    log_prob: float
    contrast_log_prob: float


@without_gradients()
def read_clean(model: TracedModel, prompts: Sequence[CleanPrompt]) -> list[CleanReading]:
    """One forward of every prompt, in batches of equal length; nothing is padded.

    Raises:
        NonFiniteError: If the model's output is NaN.
        OutOfMemoryError: If not even one prompt fits.
        ModelError: If the model's own code raises anything else.
    """
    by_length: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt.ids), []).append(number)
    found: dict[int, CleanReading] = {}
    with in_evaluation_mode(model.module), keeping_loaded(model.module.modules()):
        for length, numbers in by_length.items():
            size, done = max(1, min(_BATCH, _TOKENS // length)), 0
            while done < len(numbers):
                batch = numbers[done : done + size]
                try:
                    read = _read_batch(model, [prompts[number] for number in batch])
                except Exception as error:  # noqa: BLE001 - whatever the model's own code raises
                    if is_out_of_memory(error) and size > 1:
                        size //= 2
                        continue
                    raise _explained(error, model, length) from printable_cause(error)
                found.update(zip(batch, read, strict=True))
                done += len(batch)
    return [found[number] for number in range(len(prompts))]


def _explained(error: Exception, model: TracedModel, length: int) -> Exception:
    """The error that a user sees."""
    if isinstance(error, LayerTracerError):
        return error
    if is_out_of_memory(error):
        return OutOfMemoryError(
            f"One prompt of {length} tokens does not fit into memory on {model.device}. Give shorter prompts, or load "
            "the model in a smaller dtype or on another device."
        )
    return ModelError(f"{model.name!r} raised {type(error).__name__} on a prompt of {length} tokens: {error}")


def _read_batch(model: TracedModel, prompts: Sequence[CleanPrompt]) -> list[CleanReading]:
    ids = torch.tensor([prompt.ids for prompt in prompts], device=model.device)
    logits = model.network.call.last_logits(ids, 1)[:, -1].float()
    log_probs = logits.log_softmax(dim=-1).cpu()
    if torch.isnan(log_probs).any():
        raise NonFiniteError(
            f"The output of {model.name!r} is not finite. Check the weights, or load the model with dtype='float32'."
        )
    return [_read_row(row, prompt) for row, prompt in zip(log_probs, prompts, strict=True)]


def _read_row(log_probs: torch.Tensor, prompt: CleanPrompt) -> CleanReading:
    def of(tokens: Ids) -> float:
        return float(torch.logsumexp(log_probs[list(tokens)], dim=0)) if tokens else float("nan")

    top = int(log_probs.argmax())
    return CleanReading(
        top_id=top,
        top_log_prob=float(log_probs[top]),
        log_prob=of(prompt.answers),
        contrast_log_prob=of(prompt.contrast_answers),
    )
