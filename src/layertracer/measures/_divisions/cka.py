"""Centred kernel alignment (CKA): how alike two layers are in which tokens they hold near each other."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from layertracer._errors import UsageError

LEAST_TOKENS = 4
"""Tokens without which the unbiased estimator is not defined."""
_NOTHING_LEFT = 1e-12
"""What is left of a Gram matrix by centring, relative to it, where rounding alone is left."""


def unbiased_hsic(grams: Float[np.ndarray, "layer token token"]) -> Float[np.ndarray, "layer layer"]:
    """Unbiased estimates of the Hilbert-Schmidt independence criterion (HSIC) between all pairs of layers.

    With K̃ the Gram matrix K with a diagonal of zeros, and n tokens,

        HSIC(K, L) = [tr(K̃ L̃) + 1ᵀK̃1 · 1ᵀL̃1 / ((n − 1)(n − 2)) − 2 · 1ᵀK̃L̃1 / (n − 2)] / (n (n − 3)),

    which is the inner product of both after U-centring, as it is computed here: rounding then leaves |CKA| ≤ 1.

    Laws: its mean over samples does not depend on how many tokens a sample has; adding a constant to all tokens'
    vectors leaves it.

    Args:
        grams: Inner products of the tokens' vectors, in each layer.

    Raises:
        UsageError: If there are fewer than four tokens.

    Source:
        Song et al. (2012), "Feature selection via dependence maximization"; Székely and Rizzo (2014), "Partial distance
        correlation with methods for dissimilarities", for the inner product.
    """
    n_layers, n_tokens, _ = grams.shape
    if n_tokens < LEAST_TOKENS:
        raise UsageError(
            f"The unbiased estimator of HSIC needs at least {LEAST_TOKENS} tokens, got {n_tokens}. Give longer prompts."
        )
    centred = np.array(grams, dtype=np.float64)
    diagonal = np.arange(n_tokens)
    centred[:, diagonal, diagonal] = 0.0
    sizes = np.linalg.norm(centred, axis=(1, 2))
    by_token = centred.sum(axis=2)
    total = by_token.sum(axis=1)[:, None, None] / ((n_tokens - 1) * (n_tokens - 2))
    by_token = by_token / (n_tokens - 2)
    centred += total - by_token[:, :, None] - by_token[:, None, :]
    centred[:, diagonal, diagonal] = 0.0
    centred[np.linalg.norm(centred, axis=(1, 2)) <= _NOTHING_LEFT * sizes] = 0.0
    flat = centred.reshape(n_layers, -1)
    return np.asarray(flat @ flat.T / (n_tokens * (n_tokens - 3)))


def cka_of(hsic: Float[np.ndarray, "*batch layer layer"]) -> Float[np.ndarray, "*batch layer layer"]:
    """CKA(K, L) = HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)); NaN where a layer holds all tokens at one place.

    Of several samples, the mean of the HSIC goes in: a mean of ratios would be biased.

    Laws: 1 for equal layers; the same after orthogonal maps and isotropic scaling of either; near 0 for independent
    ones; within [−1, 1], to rounding.

    Args:
        hsic: Estimates between all pairs of layers.

    Source:
        Kornblith et al. (2019), "Similarity of neural network representations revisited"; Nguyen, Raghu and Kornblith
        (2020), "Do wide and deep networks learn the same things?", for the mean over samples.
    """
    own = np.diagonal(hsic, axis1=-2, axis2=-1)
    lengths = np.sqrt(np.where(own > 0, own, np.nan))
    cka = hsic / (lengths[..., :, None] * lengths[..., None, :])
    layers = np.arange(hsic.shape[-1])
    cka[..., layers, layers] = np.where(own > 0, 1.0, np.nan)
    return np.asarray(cka)
