"""HSIC between layers: how alike two of them hold the tokens of a prompt, of which CKA is made."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._types import Site
from layertracer.measures import LEAST_TOKENS, unbiased_hsic
from layertracer.models import Wiring
from layertracer.tracing._observers.protocol import CleanCall

MOST_TOKENS = 64
"""Tokens of a prompt that are compared, at the most: with them a prompt takes 32 KiB a layer."""


def compared_tokens(length: int, *, seed: int) -> tuple[int, ...]:
    """Which tokens of a prompt are compared: all but the first, or `MOST_TOKENS` of those, drawn by the seed.

    In many models the first token of a text has a vector a thousand times as long as any other's (Sun et al. 2024,
    "Massive activations in large language models"), beside which nothing else would count.

    Args:
        length: How many tokens the prompt has.
        seed: What draws; prompts of one length have the same tokens drawn.
    """
    tokens = np.arange(1, length)
    if len(tokens) > MOST_TOKENS:
        tokens = np.sort(np.random.default_rng([seed, length]).permutation(tokens)[:MOST_TOKENS])
    return tuple(tokens.tolist())


@dataclass(slots=True, kw_only=True)
class LayerHsic:
    """An observer that compares what enters the first layer and leaves every layer, token by token of each prompt.

    It keeps inner products of tokens, never the stream.

    Attributes:
        length: How many tokens the prompts have, all of which are seen in one call.
        tokens: Which of them are compared.
    """

    length: int
    tokens: tuple[int, ...]
    _grams: dict[int, Float[np.ndarray, "prompt token token"]] = field(default_factory=dict, init=False)

    @property
    def site(self) -> Site:
        """What leaves a layer."""
        return "block_output"

    def see(self, call: CleanCall, leaving: Tensor) -> None:
        """Keep the inner products of the tokens' vectors."""
        if call.layer.index == 0:
            self._grams[-1] = self._products(call.entering, call.layer.wiring)
        self._grams[call.layer.index] = self._products(leaving, call.layer.wiring)

    def _products(self, rows: Tensor, wiring: Wiring) -> Float[np.ndarray, "prompt token token"]:
        """Inner products; several vectors of a token count as one long vector."""
        stream = rows.narrow(1, wiring.n_leading, wiring.n_parallel * self.length)
        by_token = stream.unflatten(1, (wiring.n_parallel, self.length)).transpose(1, 2)
        which = torch.tensor(self.tokens, device=rows.device, dtype=torch.long)
        vectors = by_token.index_select(1, which).flatten(2).cpu().double()
        # HSIC does not depend on where the middle of the tokens is; what is added up is smaller around it.
        vectors -= vectors.mean(dim=1, keepdim=True)
        return np.asarray((vectors @ vectors.transpose(1, 2)).numpy())

    def per_prompt(self) -> Float[np.ndarray, "prompt layer_and_one layer_and_one"]:
        """HSIC between all pairs, the embeddings first; 0 where the prompts have too few tokens to tell."""
        grams = np.stack([self._grams[layer] for layer in sorted(self._grams)], axis=1)
        if len(self.tokens) < LEAST_TOKENS:
            return np.zeros((len(grams), grams.shape[1], grams.shape[1]))
        return np.stack([unbiased_hsic(one) for one in grams])
