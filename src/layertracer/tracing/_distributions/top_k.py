"""Top-k: the largest numbers of long rows."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def group_maxima(values: Float[Tensor, "*row d_vocab"]) -> Float[Tensor, "*row group"]:
    """The largest number of each group of neighbours; the last group may be smaller."""
    size = _group_size(values.shape[-1])
    n_whole = values.shape[-1] // size
    whole, rest = values.tensor_split([n_whole * size], dim=-1)
    maxima = whole.unflatten(-1, (n_whole, size)).amax(dim=-1)
    return torch.cat([maxima, rest.amax(dim=-1, keepdim=True)], dim=-1) if rest.shape[-1] else maxima


def find_largest(
    values: Float[Tensor, "*row d_vocab"], maxima: Float[Tensor, "*row group"], *, k: int
) -> tuple[Int[Tensor, "*row k"], Float[Tensor, "*row k"]]:
    """Where the k largest numbers of each row are, and those numbers, in falling order; of equal ones the first.

    They lie in the k groups with the largest maxima: any other group has k numbers before it.

    Args:
        values: Numbers; `k` or more in a row.
        maxima: Their `group_maxima`.
        k: How many.
    """
    size = _group_size(values.shape[-1])
    groups = _first_largest(maxima, k=min(k, maxima.shape[-1])).sort(dim=-1).values
    places = (groups[..., None] * size + torch.arange(size, device=values.device)).flatten(-2)
    candidates = values.gather(-1, places.clamp(max=values.shape[-1] - 1))
    first = _first_largest(candidates, k=k, among=places < values.shape[-1])
    return places.gather(-1, first), candidates.gather(-1, first)


def _group_size(d_vocab: int) -> int:
    """Neighbours that are first judged by the largest of them: about as many as leaves least to search."""
    return 16 * max(1, math.isqrt(d_vocab) // 32)


def _first_largest(values: Tensor, *, k: int, among: Tensor | None = None) -> Tensor:
    """Positions of the k largest numbers; `topk` alone leaves open which of equal ones it takes."""
    # The bits of a float, as an integer, are in its order once those of negative numbers are turned round; −0 becomes
    # 0 first. The position fills the lower half of a 64-bit integer.
    bits = (values.float() + 0.0).view(torch.int32)
    keys = ((bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() << 32) - torch.arange(values.shape[-1], device=values.device)
    if among is not None:
        keys.masked_fill_(~among, torch.iinfo(keys.dtype).min)
    return keys.topk(k, dim=-1).indices
