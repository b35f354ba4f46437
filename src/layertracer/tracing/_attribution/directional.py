"""Derivatives by differences: the plain model with what layers add made a little larger and smaller.

Nothing is shared with autograd: each forward runs one prompt alone, without gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layertracer.models import Layer, Network, Role, flatten, replacing_forward
from layertracer.tracing._attribution.objective import target_log_probs
from layertracer.tracing._batching.prompts import Prompt, bind_batch
from layertracer.tracing._passes.plain import plain_logits
from layertracer.tracing._proofs.rounding import eps_of, rounding_moves
from layertracer.tracing._sites.branch_output import watching

Weights = Mapping[tuple[int, Role | None], float]
"""By layer and role, how strongly what is added there grows; the role None stands for all that the layer changes."""

_ORDER = 5
"""Differences at two distances are exact up to the fourth order: their error is least at the fifth root of a rounding's
size."""
_CLOSER = (1, 8, 64)
"""How many times smaller the distance is in further tries: two sides of a kink of the model's (a ReLU, a choice of
experts) may lie within the first."""
_ROUNDINGS_ALLOWED, _SHARE = 4, 0.02
"""How many times the change by another rounding of the embeddings, and what share of the derivative, it may be off."""
_TELLS_NOTHING = 0.5
"""A tolerance beyond this share of the terms together could not tell a wrong gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """A derivative by differences, and how far it may be off.

    Attributes:
        value: The derivative, nats.
        tolerance: How far it may be off.
    """

    value: float
    tolerance: float

    def agrees(self, other: float) -> bool:
        """Whether a derivative is the same, as far as this one can tell."""
        return abs(self.value - other) <= self.tolerance + _SHARE * abs(other)

    def tells(self, size: float) -> bool:
        """Whether it can tell a derivative of terms of this size from a wrong one."""
        return self.tolerance <= _TELLS_NOTHING * size


class Differences:
    """Derivatives of a prompt's log-probability by differences of plain forwards, without gradients.

    Args:
        network: The model.
        prompt: The prompt.
    """

    def __init__(self, network: Network, prompt: Prompt) -> None:
        self._network, self._ids = bind_batch(network, [prompt])
        self._prompt = prompt
        self.own = self._log_prob({})
        moved = [abs(self._log_prob({}) - self.own) for _ in rounding_moves(self._network)]
        self._noise = _ROUNDINGS_ALLOWED * max(*moved, eps_of(network) * (1 + abs(self.own)))

    def slopes(self, weights: Weights) -> Iterator[Slope]:
        """The derivative while terms grow by their weights, over ever shorter distances."""
        widest = eps_of(self._network) ** (1 / _ORDER)
        for closer in _CLOSER:
            yield self._slope(weights, widest / closer)

    def _slope(self, weights: Weights, distance: float) -> Slope:
        """Richardson's extrapolation of central differences; off by what both sides differ in, too: a kink."""
        ends = {
            h: self._log_prob({place: 1 + h * weight for place, weight in weights.items()}) for h in _ends(distance)
        }
        wide, narrow = ((ends[h] - ends[-h]) / (2 * h) for h in (distance, distance / 2))
        value = (4 * narrow - wide) / 3
        kink = abs(ends[distance / 2] + ends[-distance / 2] - 2 * self.own) / distance
        return Slope(value=value, tolerance=2 * abs(value - narrow) + kink + self._noise / distance)

    def _log_prob(self, factors: Weights) -> float:
        with _scaling(self._network, factors):
            logits = plain_logits(self._network, self._ids, read=self._prompt.read)
        return float(target_log_probs([self._prompt], logits)[0])


def _ends(distance: float) -> tuple[float, ...]:
    return distance, -distance, distance / 2, -distance / 2


def verdict(found: Iterable[Slope], expected: float, *, size: float) -> bool | None:
    """Whether a derivative is the one by differences; None where differences cannot tell.

    They can where those over two distances agree: a jump of the model's (another choice of experts) lies between no two
    of them then.

    Args:
        found: Derivatives by differences, over ever shorter distances; no more are asked for than needed.
        expected: The derivative.
        size: The size of the terms that it is the sum of.
    """
    telling: list[Slope] = []
    for one in found:
        if one.tells(size):
            if one.agrees(expected):
                return True
            telling.append(one)
    has_settled = any(
        abs(one.value - other.value) <= one.tolerance + other.tolerance for one, other in pairwise(telling)
    )
    return False if has_settled else None


def signs(places: Sequence[tuple[int, Role | None]], *, seed: Sequence[int]) -> Weights:
    """A weight of 1 or -1 for each place, so that wrong terms do not cancel for every prompt."""
    drawn = np.random.default_rng(seed).choice([-1.0, 1.0], size=len(places))
    return dict(zip(places, drawn.tolist(), strict=True))


@contextmanager
def _scaling(network: Network, factors: Weights) -> Iterator[None]:
    """What layers add is multiplied wherever a factor is given."""
    with ExitStack() as stack:
        for layer in network.anatomy.layers:
            own = {role: factor for (index, role), factor in factors.items() if index == layer.index and factor != 1}
            if own:
                stack.enter_context(replacing_forward(layer.module, _scaled(layer, own)))
        yield


def _scaled(layer: Layer, factors: Mapping[Role | None, float]) -> Callable[..., Any]:
    forward, wiring = layer.module.forward, layer.wiring
    of_branches = [role for role in factors if role is not None]

    def larger(added: Tensor, role: Role) -> Tensor | None:
        return added * factors[role] if role in factors else None

    def scaled(*args: Any, **kwargs: Any) -> Any:
        stream = flatten((args, kwargs)).values[wiring.stream_in]
        entering = stream.clone()
        if of_branches:
            with watching(layer, stream, larger):
                output = forward(*args, **kwargs)
        else:
            output = forward(*args, **kwargs)
        if None not in factors:
            return output
        leaves = flatten(output)
        left = leaves.values[wiring.stream_out]
        return leaves.replaced(wiring.stream_out, torch.lerp(entering, left, factors[None]))

    return scaled
