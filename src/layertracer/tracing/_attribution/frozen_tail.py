"""A model's own tail as a linear map of the stream, with the statistics of its norms held as they are.

No norm or head is looked for by name. The tail runs on four rows a position: the position's own stream x, nothing at
all, another vector r, and x + r. Whatever is one number a position and not additive over these is a statistic of x (a
variance, a root mean square): it is given x's value in all four rows, as it comes up. What is additive (the mean that
LayerNorm subtracts) stays a function of the row, so that each term is centred by itself (Elhage et al. 2021). In the
end the logits must be additive themselves: that is the proof that nothing but such statistics stood in the way. Where
they are not (a softcap), the last scores over the vocabulary that are take their place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from layertracer.models import Network, recording_gradients
from layertracer.tracing._attribution.not_measured import NotMeasured, telling_why_not
from layertracer.tracing._passes.tail import Tail

_GROUPS = 4
_ROUNDINGS = 64
"""How many roundings of the largest number involved a sum of two rows may be off."""
_NORMS_EPS = torch.finfo(torch.float32).eps
"""Norms are worked out in float32, in models of finer types as well."""
_CAP_TOLERANCE = 1e-3
_FUSED: dict[Any, str] = {
    functional.layer_norm: "layer",
    torch.layer_norm: "layer",
    functional.rms_norm: "rms",
    torch.rms_norm: "rms",
}
"""Norms in one operator, inside which no statistic would be seen: they are computed step by step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearTail:
    """The logit of one token a row as a linear map of its stream.

    Attributes:
        direction: What a vector of the stream is multiplied with, [row, width].
        constant: What the logit is without any stream (biases).
        logit: The logit that is attributed: before a softcap, where there is one.
        own_logit: The logit in the end.
        is_capped: Whether something that is not linear follows: the logits in the end are not those attributed.
    """

    direction: Float[Tensor, "row width"]
    constant: Float[Tensor, " row"]
    logit: Float[Tensor, " row"]
    own_logit: Float[Tensor, " row"]
    is_capped: bool


def linearise_tail(
    network: Network,
    rows: Float[Tensor, "row width"],
    tokens_of: Callable[[Tensor], Int[Tensor, "row token"]],
    *,
    seed: int = 0,
) -> list[LinearTail]:
    """The tail as a linear map at each row, for each of the tokens that are asked for.

    Laws: direction · x + constant is the logit attributed, to rounding; so it is for sums of streams.

    Args:
        network: The model.
        rows: What leaves the last layer.
        tokens_of: Given the logits in the end, the tokens asked for, as many for each row.
        seed: Draws the vectors of the proof.

    Raises:
        NotMeasured: If the tail is not linear even so.
    """
    leaf = rows.detach().clone().requires_grad_()
    mode = _HoldingStatistics(n_rows=len(rows), d_vocab=network.anatomy.d_vocab)
    with telling_why_not("its tail cannot be differentiated"), torch.enable_grad():
        given = torch.cat((leaf, torch.zeros_like(rows), other := _others(rows, seed), rows + other))
        with recording_gradients(network), mode:
            ends = Tail(network)(given)
        scores, factor = mode.attributed(ends)
        tokens = tokens_of(ends[: len(rows)].detach())
        return [
            _linear(leaf, scores, ends, tokens[:, which], factor=factor, keeps=which + 1 < tokens.shape[1])
            for which in range(tokens.shape[1])
        ]


def _linear(
    leaf: Tensor, scores: Tensor, ends: Tensor, tokens: Int[Tensor, " row"], *, factor: float, keeps: bool
) -> LinearTail:
    """The map for one token a row."""
    n_rows = len(leaf)
    which = torch.arange(n_rows, device=scores.device), tokens
    own = scores[:n_rows][which]
    (direction,) = torch.autograd.grad(own.sum(), leaf, retain_graph=keeps)
    return LinearTail(
        direction=direction.double() * factor,
        constant=scores[n_rows : 2 * n_rows][which].detach().double() * factor,
        logit=own.detach().double() * factor,
        own_logit=ends[:n_rows][which].detach().double(),
        is_capped=scores is not ends,
    )


def _others(rows: Tensor, seed: int) -> Tensor:
    """A vector for each row that has nothing to do with it, dimension by dimension of its size."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(rows.shape, generator=generator, dtype=torch.float32).to(rows.device)
    return (drawn * rows.abs().float().clamp(min=1e-3)).to(rows.dtype)


class _HoldingStatistics(TorchFunctionMode):
    """Gives what is a statistic of the first group of rows its value there in all groups, while the tail runs."""

    def __init__(self, *, n_rows: int, d_vocab: int) -> None:
        super().__init__()
        self._n_rows, self._d_vocab = n_rows, d_vocab
        self._scores: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator; hold its result where it is a statistic."""
        del types
        if func in _FUSED:
            with self:
                return _step_by_step(_FUSED[func], *args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        if self._is_by_row(result):
            return self._held(result)
        if result.numel() == _GROUPS * self._n_rows * self._d_vocab and result.shape[-1] == self._d_vocab:
            self._see_scores(result)
        return result

    def _is_by_row(self, tensor: Tensor) -> bool:
        """Whether a tensor has one number for each row."""
        total = _GROUPS * self._n_rows
        return tensor.ndim > 1 and tensor.numel() == total and total in tensor.shape

    def _held(self, result: Tensor) -> Tensor:
        flat = result.reshape(_GROUPS, self._n_rows)
        if is_additive(flat):
            return result
        return flat[:1].detach().expand(_GROUPS, -1).reshape(result.shape)

    def _see_scores(self, result: Tensor) -> None:
        """Keep the last scores over the vocabulary that are additive."""
        scores = result.reshape(_GROUPS, self._n_rows, self._d_vocab)
        if result.requires_grad and is_additive(scores.detach()):
            self._scores = result  # as it is: what follows was computed from it

    def attributed(self, ends: Float[Tensor, "row d_vocab"]) -> tuple[Tensor, float]:
        """The scores that are attributed, and what they are multiplied with to be logits.

        Raises:
            NotMeasured: If there are none, or the logits are something else than a cap on them.
        """
        if not bool(ends.isfinite().all()):
            raise NotMeasured("its logits are not finite where the statistics of its norms are held")
        if is_additive(ends.detach().unflatten(0, (_GROUPS, self._n_rows))):
            return ends, 1.0
        if self._scores is None or not ends.requires_grad:
            raise NotMeasured("its logits are no linear map of the stream, even with the statistics of its norms held")
        return self._scores.reshape(ends.shape), _slope_of_cap(self._scores, ends)


def is_additive(groups: Float[Tensor, "group *rest"]) -> bool:
    """Whether what becomes of x, 0, r and x + r is additive, up to a constant: f(x + r) + f(0) = f(x) + f(r).

    Example:
        >>> rows = torch.tensor([[1.0], [0.0], [2.0], [3.0]])
        >>> is_additive(2 * rows + 1), is_additive(rows**2)
        (True, False)
    """
    wide = groups.double()
    x, nothing, other, both = wide
    size = wide.abs().amax(dim=0)
    if size.ndim > 1:
        size = size.amax(dim=-1, keepdim=True)
    eps = max(torch.finfo(groups.dtype).eps, _NORMS_EPS)
    return bool(((both + nothing - x - other).abs() <= _ROUNDINGS * eps * size).all())


def _step_by_step(kind: str, given: Tensor, shape: Any, *args: Any, **kwargs: Any) -> Tensor:
    """LayerNorm or RMSNorm, each statistic a step of its own."""
    named = dict(zip(("weight", "bias", "eps") if kind == "layer" else ("weight", "eps"), args, strict=False)) | kwargs
    axes = tuple(range(-len(shape), 0))
    wide = given.float() if given.dtype in (torch.float16, torch.bfloat16) else given
    eps = named.get("eps")
    eps = (1e-5 if kind == "layer" else torch.finfo(given.dtype).eps) if eps is None else eps
    if kind == "layer":
        wide = wide - wide.mean(dim=axes, keepdim=True)
    normed = wide * (wide.pow(2).mean(dim=axes, keepdim=True) + eps).rsqrt()
    if named.get("weight") is not None:
        normed = normed * named["weight"]
    if named.get("bias") is not None:
        normed = normed + named["bias"]
    return normed.to(given.dtype)


def _slope_of_cap(scores: Tensor, ends: Tensor) -> float:
    """What scores are multiplied with where a cap on the logits does not act yet, near 0.

    Raises:
        NotMeasured: If the logits are no increasing function of the scores that holds them back, each of its own.
    """
    (slopes,) = torch.autograd.grad(ends.sum(), scores, retain_graph=True)
    scores = scores.reshape(ends.shape)
    flat, nearest = slopes.flatten(), int(scores.detach().abs().flatten().argmin())
    factor = float(flat[nearest])
    ordered = ends.detach().gather(-1, scores.detach().argsort(dim=-1)).double()
    is_increasing = bool((ordered.diff(dim=-1) >= -_CAP_TOLERANCE * ordered.abs().amax()).all())
    expected = factor * scores.detach().double()
    holds_back = bool((ends.detach().double().abs() <= expected.abs() * (1 + _CAP_TOLERANCE) + _CAP_TOLERANCE).all())
    same_sign = bool((ends.detach().double() * expected >= -_CAP_TOLERANCE).all())
    if not (factor > 0 and is_increasing and holds_back and same_sign):
        raise NotMeasured("its logits are neither a linear map of the stream nor a cap on one")
    return factor
