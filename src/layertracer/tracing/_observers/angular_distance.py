"""Angular distance: the angle by which a layer turns the residual stream."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._types.measures import MeasureInfo
from layertracer.tracing._observers.position_means import PositionMeans, Turn


def angular_distance(
    entering: Float[Tensor, "*position width"], leaving: Float[Tensor, "*position width"]
) -> Float[Tensor, "*position"]:
    """Angular distance arccos(cos(resid_pre[i], resid_post[i])) / π at each position.

    Of the lengths d and s of the difference and the sum of both at length 1: the angle is 2 arctan(d / s), which keeps
    its digits where both are all but parallel. The source takes blocks of layers and each text's last token; here it
    is one layer, and the mean over all tokens.

    Returns:
        Half-turns, within [0, 1]; ½ where one of the two is 0, and 0 where both are.

    Source:
        Gromov et al. (2024), "The unreasonable ineffectiveness of the deeper layers", arXiv 2403.17887.
    """
    turn = Turn.of(entering, leaving)
    return 2 / math.pi * torch.atan2(turn.apart, turn.together)


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
