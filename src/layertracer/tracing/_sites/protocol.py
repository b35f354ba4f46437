"""Sites of a layer: where activations are seen, ablated and patched.

A site is an object with two halves. What is known of it without a model stands in `_types/sites.py`. The other half
says which layers have it, and how what stands there is seen and changed while a layer runs. Ladder, plain method, plain
hooks and observers ask it; none of them knows one site from another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from layertracer._types import Registration, Registrations, SiteFacts
from layertracer.models import Layer, Network, flatten
from layertracer.tracing._batching.rows import from_rows_first, to_rows_first

Join = Literal["entrance", "exit", "cache"]
"""Where perturbed rows come in: before the layer runs, after it has run, or into what the model remembers."""

EditRows = Callable[[Tensor], Tensor | None]
"""Given what stands at a site in all rows, [row, position, …, width], what takes the place of the last of them; None
where nothing changes."""


@dataclass(slots=True)
class LayerRun:
    """A layer that is about to run.

    Attributes:
        layer: The layer.
        stream: What enters it, in the model's own order of axes; it may be exchanged before the layer runs.
    """

    layer: Layer
    stream: Tensor


@runtime_checkable
class LayerSite(Protocol):
    """A place in a layer where something stands that can be seen and changed."""

    @property
    def facts(self) -> SiteFacts:
        """What is known of it without a model."""

    @property
    def joins(self) -> Join:
        """Where perturbed rows come in."""

    def layers(self, network: Network) -> tuple[int, ...]:
        """The layers that have it, in order; others are not perturbed, and their divergence is missing (NaN)."""

    def width(self, network: Network) -> int:
        """How many dimensions stand there at a position."""


@runtime_checkable
class EntranceSite(LayerSite, Protocol):
    """A site that is reached before a layer's output is there: its rows go through the layer."""

    def watching(self, run: LayerRun, edits: Mapping[str, EditRows]) -> AbstractContextManager[None]:
        """Calls the edits, by their sites' names, with what stands there while the layer runs in the block.

        Sites that have this function in common are watched together.
        """


@runtime_checkable
class ExitSite(LayerSite, Protocol):
    """A site that is part of what leaves a layer."""

    def taken(self, leaving: Tensor) -> Tensor:
        """What stands there, of the stream [row, position, …, width] that leaves the layer."""

    def put(self, leaving: Tensor, values: Tensor) -> Tensor:
        """The stream with other values there; both may have further axes in front."""


def is_at_exit(site: LayerSite) -> TypeGuard[ExitSite]:
    """Whether a site is part of what leaves a layer: by what it says, since looking for methods takes its time."""
    return site.joins == "exit"


def is_at_entrance(site: LayerSite) -> TypeGuard[EntranceSite]:
    """Whether a site is reached before a layer's output is there."""
    return site.joins == "entrance"


SITES: dict[str, LayerSite] = {}
"""All sites by name."""


def register_site(site: LayerSite) -> Registrations:
    """Make a site known, its facts included where they are not yet; undone by what is returned, or at its block's end.

    Raises:
        UsageError: If another site has the name.
    """
    from layertracer._types.sites import SITES as FACTS

    named = site.facts.name
    own = [] if FACTS.get(named) is site.facts else [Registration(FACTS, named, site.facts)]
    return Registrations((*own, Registration(SITES, named, site)))


def layers_with(site: str, network: Network) -> tuple[int, ...]:
    """The layers that have something to perturb at a site, in order.

    In hybrids some layers are a mixer or an MLP alone. A layer without the site is not perturbed, and its JS
    divergence is missing (NaN). A layer whose additions could not be told apart does not pass for one without them:
    the self-check fails, and the site is not offered.
    """
    return SITES[site].layers(network)


@contextmanager
def watching_sites(run: LayerRun, edits: Mapping[str, EditRows]) -> Iterator[None]:
    """Calls the edits of all those sites that are reached while a layer runs in the block."""
    together: dict[Any, dict[str, EditRows]] = {}
    for name, edit in edits.items():
        site = SITES[name]
        if is_at_entrance(site):
            together.setdefault(site.watching, {})[name] = edit
    with ExitStack() as stack:
        for watch, own in together.items():
            stack.enter_context(watch(run, own))
        yield


def run_edited(layer: Layer, forward: Callable[..., Any], args: Any, kwargs: Any, edits: Mapping[str, EditRows]) -> Any:
    """A layer's output, with what stands at some sites seen or changed in all of its rows."""
    wiring, given = layer.wiring, flatten((args, kwargs))
    run = LayerRun(layer, given.values[wiring.stream_in])
    with watching_sites(run, edits):
        if run.stream is not given.values[wiring.stream_in]:
            args, kwargs = given.replaced(wiring.stream_in, run.stream)
        output = forward(*args, **kwargs)
    at_exit = [(site, edits[name]) for name in edits if is_at_exit(site := SITES[name])]
    if not at_exit:
        return output
    leaves = flatten(output)
    leaving, is_changed = to_rows_first(leaves.values[wiring.stream_out], wiring), False
    for site, edit in at_exit:
        values = edit(site.taken(leaving))
        if values is not None:
            leaving, is_changed = with_last_rows(leaving, site.put(leaving[-len(values) :], values)), True
    return leaves.replaced(wiring.stream_out, from_rows_first(leaving, wiring)) if is_changed else output


def with_last_rows(rows: Tensor, last: Tensor) -> Tensor:
    """Rows [row, …] with others in place of the last of them."""
    return last if len(last) == len(rows) else torch.cat((rows[: len(rows) - len(last)], last))
