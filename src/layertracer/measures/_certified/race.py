"""A race of means: which of several bounded means is the largest, decided as rounds come in, valid at every stop.

For every option there is one bettor, who bets that it is *not* the best: in every round on the difference between the
option that leads so far and this one, both observed in the same round. If the option truly is the best, no such bet
gains on average, whatever was seen before, and the capital of that bettor is a nonnegative supermartingale: it ever
reaches 2 / α with a probability of at most α / 2 (Ville 1939). An option whose bettor gets there is out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from layertracer._errors import UsageError

_MOST_BET = 0.9
"""Largest share of the capital that one round may cost; all of it would end a bettor at a single loss."""

_PRIOR_VARIANCE = 0.05
"""What one round is taken to vary by before any was seen."""

_ROUNDING = 1e-5
"""What a share or a divergence may leave [0, 1] by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """How a race of means stands.

    Attributes:
        contenders: The options that can still be the best, ascending.
        out_after: For each option the number of rounds after which it was out; None where it is not, and where it never
            took part.
        n_rounds: How many rounds there were.
    """

    contenders: tuple[int, ...]
    out_after: tuple[int | None, ...]
    n_rounds: int

    @property
    def winner(self) -> int | None:
        """The option that is certified to have the largest mean of all; None where several are left."""
        return self.contenders[0] if len(self.contenders) == 1 else None


def race_means(values: Float[np.ndarray, "round option"], *, level: float) -> Race:
    """Which options can still have the largest mean, after rounds that were looked at one by one.

    Rounds are independent draws of one population, the options of a round any way dependent on one another; their means
    over the population are compared. Let A be the event that one option is left and its mean is not larger than that of
    every other one. P(A) ≤ 1 − `level`, whenever and for whatever reason the rounds end: the best option is out with a
    probability of at most (1 − level) / 2, and where k options share the largest mean k − 1 of their bettors must reach
    2 / (1 − level), which has a probability of at most k / (k − 1) · (1 − level) / 2. So no union over options is paid.

    The bet of a round is the share m / (v + m²) of the capital, between 0 and 0.9, with m and v the mean and the
    variance of that difference in the rounds before: what grows fastest where the next rounds are like those (the
    source's "aGRAPA"). The leader itself is never out, and an option that is out stays out.

    Laws: a constant added to all options, within [0, 1], changes nothing; options in another order are out after as
    many rounds; more rounds never bring an option back; what an option does once it is not observed any more changes
    nothing for those that are.

    Args:
        values: Observations in [0, 1]. NaN in all rounds where an option takes no part; NaN from a round on where it is
            not observed any more, which is for options that are out.
        level: Confidence of the whole statement, in (0, 1).

    Raises:
        UsageError: If there is no option to compare, `level` is out of range, a value is, or an option stops being
            observed before it is out.

    Example:
        >>> values = np.tile([0.2, 0.6, 0.1], (20, 1))
        >>> race = race_means(values, level=0.95)
        >>> race.winner, race.out_after
        (1, (13, None, 11))

    Source:
        Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting", for the bets; Hsu
        (1984) for comparing with the best; Ville (1939) for the bound. The two are put together here.
    """
    observed, takes_part = _checked(values, level)
    n_rounds, n_options = observed.shape
    out_after: list[int | None] = [None] * n_options
    bettors = _Bettors.of(n_options, takes_part)
    threshold = math.log(2 / (1 - level))
    for index in range(n_rounds):
        if bettors.is_over:
            break
        now = observed[index]
        unseen = bettors.contends & np.isnan(now)
        if unseen.any():
            raise UsageError(
                f"Option {int(unseen.argmax())} is not observed in round {index}, and was not out. Observe every "
                "option until it is."
            )
        bettors.bet(now)
        for option in bettors.drop(threshold):
            out_after[option] = index + 1
    contenders = tuple(np.flatnonzero(bettors.contends).tolist())
    return Race(contenders=contenders, out_after=tuple(out_after), n_rounds=n_rounds)


@dataclass(slots=True, kw_only=True)
class _Bettors:
    """One bettor for every option, and what was seen so far.

    Attributes:
        contends: Which options are not out.
        log_capital: Of every bettor.
        total: Sum of every option's observations.
        products: Sums of their products, two by two.
        n_seen: Number of rounds.
    """

    contends: NDArray[np.bool_]
    log_capital: NDArray[np.float64]
    total: NDArray[np.float64]
    products: NDArray[np.float64]
    n_seen: int = 0

    @classmethod
    def of(cls, n_options: int, takes_part: NDArray[np.bool_]) -> _Bettors:
        """Before the first round."""
        zeros = np.zeros(n_options)
        return cls(
            contends=takes_part.copy(),
            log_capital=zeros,
            total=zeros.copy(),
            products=np.zeros((n_options, n_options)),
        )

    @property
    def is_over(self) -> bool:
        """Whether one option is left."""
        return int(self.contends.sum()) == 1

    def bet(self, now: NDArray[np.float64]) -> None:
        """One round; the bets are settled by what was seen before it."""
        own = np.arange(len(now))
        rivals = self._rivals()
        gain = np.where(self.contends, now[rivals] - now, 0.0)
        lead, n_seen = self.total[rivals] - self.total, self.n_seen
        mean = lead / (n_seen + 1)
        squares = self.products[rivals, rivals] + self.products[own, own] - 2 * self.products[rivals, own]
        spread = squares - lead**2 / max(n_seen, 1)
        variance = (_PRIOR_VARIANCE + np.maximum(spread, 0.0)) / (n_seen + 1)
        share = np.clip(mean / (variance + mean**2), 0.0, _MOST_BET)
        self.log_capital += np.log1p(share * gain)
        seen = np.where(self.contends, now, 0.0)
        self.total += seen
        self.products += np.outer(seen, seen)
        self.n_seen += 1

    def drop(self, threshold: float) -> list[int]:
        """The options that are out now; never the one that leads."""
        is_out = self.contends & (self.log_capital >= threshold)
        is_out[self._leader()] = False
        self.contends &= ~is_out
        return [int(option) for option in np.flatnonzero(is_out)]

    def _leader(self) -> int:
        return int(np.where(self.contends, self.total, -np.inf).argmax())

    def _rivals(self) -> NDArray[np.intp]:
        """Against which other option each one is held: the one that leads, for the leader the second."""
        leader = self._leader()
        others = self.contends.copy()
        others[leader] = False
        rivals = np.full(len(others), leader, dtype=np.intp)
        rivals[leader] = int(np.where(others, self.total, -np.inf).argmax())
        return rivals


def _checked(
    values: Float[np.ndarray, "round option"], level: float
) -> tuple[Float[np.ndarray, "round option"], Bool[np.ndarray, " option"]]:
    """Observations as float64 in [0, 1], and which options take part."""
    check_level(level)
    observed = np.asarray(values, dtype=np.float64)
    if observed.ndim != 2 or not observed.shape[1]:
        raise UsageError(
            f"A race needs values of shape [round, option] with at least one option, got {list(observed.shape)}."
        )
    takes_part = np.asarray(~np.isnan(observed).all(axis=0) | (len(observed) == 0))
    if not takes_part.any():
        raise UsageError("A race needs an option that is observed, and every value is NaN.")
    check_unit_range(observed[~np.isnan(observed)])
    return np.clip(observed, 0.0, 1.0), takes_part


def least_rounds(level: float) -> int:
    """Rounds below which no option can be out, however they fall: the first bets nothing, each other one wins all.

    Example:
        >>> least_rounds(0.95)
        7
    """
    check_level(level)
    return 1 + math.ceil(math.log(2 / (1 - level)) / math.log1p(_MOST_BET))


def check_level(level: float) -> None:
    """Refuse a confidence that is none.

    Raises:
        UsageError: If it is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise UsageError(f"confidence must be between 0 and 1, got {level}. It is 0.95 for 95 %.")


def check_unit_range(values: Float[np.ndarray, " value"]) -> None:
    """Refuse observations outside of [0, 1]: the bets rest on these bounds.

    Raises:
        UsageError: If there is one.
    """
    outside = ~((values >= -_ROUNDING) & (values <= 1 + _ROUNDING))
    if outside.any():
        raise UsageError(
            f"Observations must lie in [0, 1], got {values[outside][0]:g}. What is bet rests on these bounds: give "
            "shares, probabilities, or divergences in bits."
        )
