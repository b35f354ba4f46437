"""Budgets for tiny models, whose tensors take far less than what any trace takes beside them."""

from __future__ import annotations

from collections.abc import Sequence

import layertracer as lt
from layertracer.tracing import parse_memory
from layertracer.tracing._batching.process_memory import growth_of_trace
from layertracer.tracing._batching.prompts import Prompt, prepare_prompts
from layertracer.tracing._model import encode_for


def laid_out_for(model: lt.TracedModel, samples: Sequence[lt.Sample]) -> list[Prompt]:
    """Prompts as they are run."""
    encoded = encode_for(model, samples, chat=False).samples
    return list(prepare_prompts(encoded, model.network, target="answer", target_tokens="first"))


def allowing(model: lt.TracedModel, samples: Sequence[lt.Sample], live: str | int, *, n_draws: int = 5) -> int:
    """The budget with which tensors may take that much: what any trace takes comes on top of it."""
    growth = growth_of_trace(model.network, laid_out_for(model, samples), n_draws=n_draws, n_top=5)
    return growth.of(parse_memory(live)) + 2


def smallest(model: lt.TracedModel, samples: Sequence[lt.Sample], perturbation: lt.Mask) -> int:
    """The budget of the smallest passes, and next to nothing more."""
    return lt.plan(model, samples, perturbation=perturbation, memory=1).peak_bytes + 1000
