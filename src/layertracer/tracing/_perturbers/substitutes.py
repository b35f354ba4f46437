"""Substitutes of mixers on tensors: a window, nothing, or the mean in the place of what a mixer adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from layertracer._types import Window
from layertracer.tracing._batching.on_devices import OnDevices
from layertracer.tracing._perturbers.protocol import LayerCall


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPerturber:
    """A window in the place of all that attention sees.

    Attributes:
        window: The window.
        n_calls: How often attention was narrowed in each layer; counted as it is.
    """

    window: Window
    n_calls: dict[int, int] = field(default_factory=dict)
    site: str = "attention_reach"
    is_per_prompt: bool = False
    keeps_pairs: bool = False

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """See `Perturber`; the values are how many last and how many first tokens are seen."""
        self.n_calls[call.layer] = self.n_calls.get(call.layer, 0) + 1
        reach = values.new_tensor((self.window.size, self.window.sinks))
        return reach.expand(len(draws), *values.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantMixer:
    """The same in the place of what a layer's mixer adds, at every position.

    Attributes:
        means: What it adds in each layer, [layer, width]; None for nothing.
    """

    means: OnDevices | None = None
    site: str = "mixer_output"
    is_per_prompt: bool = False
    keeps_pairs: bool = False

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """See `Perturber`."""
        if self.means is None:
            return values.new_zeros(()).expand(len(draws), *values.shape)
        mean = self.means.on(values.device)[call.layer].to(values.dtype)
        return mean.expand(len(draws), *values.shape)
