"""Plain forwards of an audit: a prompt alone, its own logits, and what its layers hand on.

What they do not share with a trace is that others ran beside the prompt, and that prefixes were read once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from layertracer.models import Network
from layertracer.tracing._lenses.streams import StreamRows
from layertracer.tracing._observers.protocol import LAYER_MEASURES, Observer, fresh, numbers_of, observing
from layertracer.tracing._proofs.rounding import eps_of

_MANY_LOGITS = 2**26
"""A quarter of a gibibyte in float32."""

_MEASURE_TOLERANCE, _MEASURE_ROUNDINGS = 1e-4, 32
"""Of a layer measure, relative to one and its size: at least, and in roundings of the model's numbers."""


class Disagreement(Exception):  # noqa: N818 - not an error: it says that a slower way is to be taken
    """A trace holds another number than the plain way gives; the message says where, and both."""


def own_logits(network: Network, ids: Tensor, read: Sequence[int]) -> Tensor:
    """The model's own logits [prompt, read, d_vocab] at its last positions.

    Of all positions, as it is called everywhere: some models cut the stream inside their stack where they are told to
    keep few. They are told so only where all would take too much memory.
    """
    n_last, n_logits = ids.shape[1] - read[0], ids.numel() * network.anatomy.d_vocab
    if n_logits > _MANY_LOGITS:
        return network.call.last_logits(ids, n_last)
    return network.call.logits(ids)[:, -n_last:]


def watched_alone(
    network: Network, ids: Tensor, read: Sequence[int], *, observers: Sequence[Observer] = ()
) -> tuple[Tensor, Tensor]:
    """The model's own logits, and what entered its first layer and left every layer, [prompt, read, 1 + layer, …].

    Raises:
        Disagreement: If some layers do not run for a prompt that is alone.
    """
    layers, length = network.anatomy.layers, ids.shape[1]
    seen = StreamRows(network=network, read=read, length=length)
    with observing(network, [seen, *observers]):
        logits = own_logits(network, ids, read)
    if missing := [layer.index for layer in layers if layer.index not in seen.rows]:
        raise Disagreement(f"layers {missing} do not run for a prompt of {length} tokens that is alone")
    return logits, seen.stacked(dim=2)


class MeasuresAlone:
    """The layer measures of a prompt that runs alone, held against those of a trace.

    Args:
        names: Which ones.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.observers = fresh([LAYER_MEASURES[name] for name in names])

    def compare(self, stored: Mapping[str, NDArray[np.float32]], *, network: Network, sample: int) -> None:
        """Hold them against the trace's, once the prompt has run.

        Args:
            stored: The trace's numbers of the prompt by name, [layer].
            network: The model.
            sample: The prompt's index, for the message.

        Raises:
            Disagreement: If one differs by more than rounding explains.
        """
        share = max(_MEASURE_TOLERANCE, _MEASURE_ROUNDINGS * eps_of(network))
        for one in self.observers:
            for layer, number in (numbers_of(one) or {}).items():
                found, kept = float(number[0]), float(stored[one.name][layer])
                if not (
                    abs(found - kept) <= share * (1 + abs(found)) or found == kept or np.isnan([found, kept]).all()
                ):
                    raise Disagreement(
                        f"sample {sample} had a {one.name} of {kept:.4g} at layer {layer} beside others and "
                        f"{found:.4g} when it ran again alone"
                    )
