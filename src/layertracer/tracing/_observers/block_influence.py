"""Block influence: how far a layer turns the residual stream."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from layertracer._types import MeasureInfo
from layertracer.tracing._observers.position_means import PositionMeans, Positions


def block_influence(positions: Positions) -> Float[Tensor, "prompt position"]:
    """Block influence 1 − cos(resid_pre[i], resid_post[i]) at each position; 0 where a layer only scales the stream.

    Returns:
        A ratio within [0, 2]; 1 where one of the two is 0.

    Source:
        Men et al. (2024), "ShortGPT: layers in large language models are more redundant than you expect",
        arXiv 2403.03853.
    """
    return 1 - positions.cos


BLOCK_INFLUENCE = PositionMeans(
    info=MeasureInfo(
        name="block_influence",
        unit="ratio",
        meaning="1 - cos between the stream that enters a layer and the one that leaves it, mean over all tokens",
        low=0.0,
        high=2.0,
    ),
    of=block_influence,
)
"""The mean of it over a prompt's tokens."""
