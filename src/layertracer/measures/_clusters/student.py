"""Quantiles of Student's t."""

from __future__ import annotations

import numpy as np

_N_STEPS = 20_000
"""Steps of the integral: the quantiles are right to six digits for the levels in use."""


def student_quantile(share: float, degrees: int) -> float:
    """The value below which Student's t with so many degrees of freedom lies with probability `share`.

    With t = √d · tan θ its density is proportional to cos θ to the power d − 1, on a finite range: it is summed there.

    Example:
        >>> round(student_quantile(0.975, 1), 3), round(student_quantile(0.975, 7), 3)
        (12.706, 2.365)

    Source:
        Student (1908), "The probable error of a mean".
    """
    angle = np.linspace(0.0, np.pi / 2.0, _N_STEPS + 1)
    density = np.cos(angle) ** (degrees - 1) if degrees > 1 else np.ones_like(angle)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2.0)])
    reached = 0.5 + 0.5 * below / below[-1]
    place = float(np.interp(max(share, 1.0 - share), reached, angle))
    return float(np.sign(share - 0.5) * np.sqrt(degrees) * np.tan(place))
