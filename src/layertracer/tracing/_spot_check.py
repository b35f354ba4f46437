"""A look at one prompt of a trace whose prefix is shared: it must give what it gives alone and in one piece.

The proof on short probes says nothing of long prefixes, where a window slides or a chunk ends. So the
first prompt after a prefix longer than any before it is run by the plain method too.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from layertracer.models import Network
from layertracer.tracing._divergence import js_divergence
from layertracer.tracing._gaps import largest_gap, worst_of
from layertracer.tracing._measure import Measured
from layertracer.tracing._perturb import Perturber
from layertracer.tracing._plain import plain_logits, plain_perturbed
from layertracer.tracing._probing import tolerance_of
from layertracer.tracing._reduce import log_probs_of


def find_disagreement(
    network: Network, ids: Tensor, measured: Measured, *, read: Sequence[int], perturber: Perturber | None
) -> str | None:
    """What the first prompt of a batch gives otherwise when it is run alone and in one piece; None where nothing.

    Args:
        network: The model.
        ids: Token ids [prompt, position] of whole prompts.
        measured: The numbers of the batch.
        read: Positions that are read.
        perturber: What was done to the layers.
    """
    own = log_probs_of(plain_logits(network, ids[:1], read=read))
    top, said = measured.lens.top_ids[:1, :, -1], measured.lens.top_log_prob[:1, :, -1]
    nats = largest_gap(own.gather(-1, top), said)
    if not nats <= tolerance_of(network, "nats"):
        return f"the model's own output differs by {nats:.2g} nats"
    gaps = [0.0]
    for layer, draw in _few(list(measured.js)) if perturber is not None else ():
        assert perturber is not None  # as above
        perturbed = log_probs_of(
            plain_perturbed(network, ids[:1], read=read, perturber=perturber, layer=layer, draw=draw)
        )
        bits = js_divergence(perturbed, own).mean(dim=-1)
        gaps.append(largest_gap(bits, measured.js[layer, draw][:1]))
    worst = worst_of(gaps)
    return None if worst <= tolerance_of(network, "bits") else f"a perturbed output differs by {worst:.2g} bits"


def _few(variants: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """The first variant, which goes through all layers, and one in the middle."""
    return [variants[place] for place in sorted({0, len(variants) // 2})] if variants else ()
