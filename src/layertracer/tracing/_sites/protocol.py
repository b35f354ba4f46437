"""Which layers of a model have a site, and which have none: the only place that says so."""

from __future__ import annotations

from layertracer._types import Site
from layertracer.models import Network
from layertracer.tracing._sites.branch_output import role_at


def layers_with(site: Site, network: Network) -> tuple[int, ...]:
    """The layers that have something to perturb at a site, in order.

    In hybrids some layers are a mixer or an MLP alone. A layer without the site is not perturbed, and its JS
    divergence is missing (NaN). A layer whose additions could not be told apart does not pass for one without them:
    the self-check fails, and the site is not offered.
    """
    layers = network.anatomy.layers
    if site == "block_output":
        return tuple(layer.index for layer in layers)
    role = role_at(site)
    return tuple(layer.index for layer in layers if layer.additions.of(role))
