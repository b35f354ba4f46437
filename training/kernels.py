"""The mixers' arithmetic for short documents: what Transformers' reference code computes, in fewer operations.

Transformers runs Gated DeltaNet and Mamba2 on a CPU in chunks with a state between them, which pays for long texts.
The documents of the miniatures fit into one chunk, where there is no state to hand on, and a whole layer is a few
products of small matrices. Training takes half the time; a trained checkpoint runs in Transformers' own code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@contextmanager
def computing_in_one_chunk() -> Iterator[None]:
    """Lets the mixers of Transformers compute a document in one chunk, without a cache, until the block ends."""
    from transformers.models.bamba import modeling_bamba
    from transformers.models.mamba2 import modeling_mamba2
    from transformers.models.qwen3_5 import modeling_qwen3_5

    replacements: list[tuple[Any, str, Any]] = [
        (modeling_qwen3_5, "torch_chunk_gated_delta_rule", gated_delta_rule),
        (modeling_mamba2, "mamba2_chunk_scan", selective_scan),
        (modeling_bamba, "mamba2_chunk_scan", selective_scan),
        *((module, "causal_conv1d_fn", causal_conv) for module in (modeling_qwen3_5, modeling_mamba2, modeling_bamba)),
    ]
    originals = [getattr(module, name) for module, name, _ in replacements]
    try:
        for module, name, function in replacements:
            setattr(module, name, function)
        yield
    finally:
        for (module, name, _), function in zip(replacements, originals, strict=True):
            setattr(module, name, function)


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Decays of long memories reach numbers below 1e-38, with which processors calculate a hundred times slower."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def causal_conv(
    hidden_states: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None, **_: Any
) -> Tensor:
    """Depthwise causal convolution over the positions, as a sum of shifted copies.

    Args:
        hidden_states: [document, channel, position].
        weight: [channel, width]; its last entry multiplies the position itself.
        bias: [channel], or None.
        activation: "silu", or None.

    Returns:
        [document, channel, position].
    """
    inputs = hidden_states.transpose(1, 2)
    n_positions, width = inputs.shape[1], weight.shape[-1]
    padded = functional.pad(inputs, (0, 0, width - 1, 0))
    outputs = padded[:, :n_positions] * weight[:, 0]
    for shift in range(1, width):
        outputs = torch.addcmul(outputs, padded[:, shift : shift + n_positions], weight[:, shift])
    if bias is not None:
        outputs = outputs + bias
    if activation is not None:
        outputs = functional.silu(outputs)
    return outputs.transpose(1, 2)


def gated_delta_rule(  # noqa: PLR0917 - the signature is Transformers'
    query: Tensor, key: Tensor, value: Tensor, g: Tensor, beta: Tensor, initial_state: Tensor | None = None, **_: Any
) -> tuple[Tensor, None]:
    """The gated delta rule over whole documents, with unit keys and queries.

    With decays D[t, s] = exp(sum of g over (s, t]) and A = tril(β K Kᵀ ∘ D, -1), the values that are written are
    U = (I + A)⁻¹ β V, and what is read is tril(Q Kᵀ ∘ D) U / √d.

    Args:
        query: [document, position, head, d_key]; key likewise.
        key: As many heads as `value`.
        value: [document, position, head, d_value].
        g: Logarithm of the decay, [document, position, head].
        beta: How much of an old value is replaced, [document, position, head].
        initial_state: Must be None: a document begins with nothing in memory.

    Returns:
        [document, position, head, d_value], and None for the state.

    Source:
        Yang, Kautz, Hatamizadeh (2024), "Gated delta networks", arXiv 2412.06464.
    """
    if initial_state is not None:
        raise AssertionError("one chunk has no state before it")
    queries, keys, values = (tensor.transpose(1, 2) for tensor in (query, key, value))
    queries, keys = _unit(queries) * queries.shape[-1] ** -0.5, _unit(keys)
    strengths = beta.transpose(1, 2).unsqueeze(-1)
    decays = _decays(g.transpose(1, 2).cumsum(-1))
    system = ((keys * strengths) @ keys.transpose(-1, -2)) * decays
    written = torch.linalg.solve_triangular(system, values * strengths, upper=False, unitriangular=True)
    read = ((queries @ keys.transpose(-1, -2)) * decays) @ written
    return read.transpose(1, 2), None


def selective_scan(  # noqa: PLR0913, PLR0917 - the signature is Transformers'
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    chunk_size: int,
    D: Tensor,  # noqa: N803
    dt_bias: Tensor,
    dt_limit: tuple[float, float],
    initial_states: Tensor | None = None,
    **_: Any,
) -> Tensor:
    """The state-space duality of Mamba2 over whole documents: y = tril(C Bᵀ ∘ decays) (Δ x) + D x, by head.

    Args:
        hidden_states: [document, position, head, d_head].
        dt: Step sizes before bias and softplus, [document, position, head].
        A: Negative rates of decay, [head].
        B: [document, position, group, d_state].
        C: [document, position, group, d_state].
        chunk_size: Unused: the document is the chunk.
        D: Weight of what goes past the scan, [head].
        dt_bias: [head].
        dt_limit: Bounds of the step sizes.
        initial_states: Must be None: a document begins with nothing in memory.

    Returns:
        [document, position, head, d_head].

    Source:
        Dao, Gu (2024), "Transformers are SSMs", arXiv 2405.21060.
    """
    del chunk_size
    if initial_states is not None:
        raise AssertionError("one chunk has no state before it")
    steps = functional.softplus(dt + dt_bias).clamp(*dt_limit)
    decays = _decays((A * steps).transpose(1, 2).cumsum(-1))
    similarities = C.transpose(1, 2) @ B.permute(0, 2, 3, 1)
    by_group = decays.unflatten(1, (similarities.shape[1], -1))
    weights = (similarities.unsqueeze(2) * by_group).flatten(1, 2)
    scanned: Tensor = weights @ (hidden_states * steps.unsqueeze(-1)).transpose(1, 2)
    return scanned.transpose(1, 2) + D[:, None] * hidden_states


def _decays(cumulative: Tensor) -> Tensor:
    """exp(c[t] - c[s]) for s <= t, else 0."""
    n_positions = cumulative.shape[-1]
    later = torch.ones(n_positions, n_positions, dtype=torch.bool, device=cumulative.device).triu(1)
    differences = cumulative.unsqueeze(-1) - cumulative.unsqueeze(-2)
    return differences.masked_fill(later, -torch.inf).exp()


def _unit(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.rsqrt(vectors.square().sum(-1, keepdim=True) + 1e-6)
    return vectors * lengths
