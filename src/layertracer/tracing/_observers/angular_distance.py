"""Angular distance: the angle by which a layer turns the residual stream."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from layertracer._types import MeasureInfo
from layertracer.tracing._observers.position_means import PositionMeans, Positions


def angular_distance(positions: Positions) -> Float[Tensor, "prompt position"]:
    """Angular distance arccos(cos(resid_pre[i], resid_post[i])) / π at each position.

    The source takes blocks of layers and each text's last token; here it is one layer, and the mean over all tokens.

    Returns:
        Half-turns, within [0, 1], to 1e-8; ½ where one of the two is 0.

    Source:
        Gromov et al. (2024), "The unreasonable ineffectiveness of the deeper layers", arXiv 2403.17887.
    """
    return positions.cos.acos() / math.pi


ANGULAR_DISTANCE = PositionMeans(
    info=MeasureInfo(
        name="angular_distance",
        unit="half-turns",
        meaning="angle between the stream that enters a layer and the one that leaves it, mean over all tokens",
        low=0.0,
        high=1.0,
    ),
    of=angular_distance,
)
"""The mean of it over a prompt's tokens."""
