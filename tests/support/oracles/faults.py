"""What the models of `planted_faults` must give: plain hooks on a fresh module each time, for faults may remember."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from tests.support.models.planted_decoder import LAYERS, N_LAYERS
from tests.support.models.planted_faults import FaultCase
from tests.support.oracles.plain_hooks import Masks, Numbers, js_bits, masking, plain_log_probs, plain_readouts


@cache
def right_log_probs(case: FaultCase) -> tuple[Numbers, ...]:
    """Log-probabilities of the next token of each prompt."""
    return tuple(plain_log_probs(case.build(), ids) for ids in case.prompts)


@cache
def right_lens(case: FaultCase, answers: tuple[int, ...]) -> Numbers:
    """Probability of each answer read after each layer [prompt, layer], the later layers handing on what they get."""
    right = np.zeros((len(answers), N_LAYERS))
    for prompt, answer in enumerate(answers):
        for layer in range(N_LAYERS):
            (read,) = plain_readouts(case.build(), LAYERS, case.prompts[prompt], only=[layer])
            right[prompt, layer] = np.exp(read[answer])
    return right


def right_js(case: FaultCase, prompt: int, keep: Masks, part: str | None, *, fill: Tensor | None = None) -> Numbers:
    """JS divergence of every perturbed copy of a prompt, bits [draw, layer]."""
    ids = case.prompts[prompt]
    own = plain_log_probs(case.build(), ids)
    n_layers, n_draws, _ = keep.shape
    right = np.zeros((n_draws, n_layers))
    for layer, draw in np.ndindex(n_layers, n_draws):
        module = case.build()
        mask, filled = torch.tensor(keep[layer, draw]), None if fill is None else fill[layer]
        with masking(module.layers[layer], mask, branch=part, fill=filled):
            right[draw, layer] = js_bits(own, plain_log_probs(module, ids))
    return right
