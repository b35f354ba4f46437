"""Observers of clean rows: what enters and what leaves each layer of a model, seen while it runs.

An observer changes nothing and keeps no tensor of the stream. It sees every position of every prompt once: the tokens
of a prefix that is read once for several prompts are seen once, and count for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from layertracer._types import Site
from layertracer._types.measures import MeasureInfo
from layertracer._types.registries import Registrations
from layertracer.models import Layer, Network, flatten, replacing_forward
from layertracer.tracing._batching.rows import to_rows_first
from layertracer.tracing._failures import telling_whose
from layertracer.tracing._measure_names import register_measure
from layertracer.tracing._sites.protocol import run_edited


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanCall:
    """A layer that runs on clean rows.

    Attributes:
        layer: The layer.
        entering: The stream that enters it, [prompt, position, …, width].
        shared: What observers of this call have computed and others may use.
    """

    layer: Layer
    entering: Tensor
    shared: dict[Any, Any] = field(default_factory=dict)


@runtime_checkable
class Observer(Protocol):
    """Something that looks at the layers of a model in clean rows."""

    @property
    def site(self) -> Site:
        """Where it looks: "block_output" for what leaves the layer, or what a branch adds."""

    def see(self, call: CleanCall, leaving: Tensor) -> None:
        """Take in some positions of some prompts; of the same prompts each time, in the same order.

        Neither tensor may be kept: the model may go on to write over both.

        Args:
            call: The layer, and what enters it.
            leaving: What stands at the site, [prompt, position, …, width].
        """


@runtime_checkable
class BatchObserver(Observer, Protocol):
    """An observer of a trace, whose prompts run in batches, behind prefixes that are read once for several of them."""

    @property
    def name(self) -> str:
        """What its numbers are called."""

    def fresh(self) -> BatchObserver:
        """Another one of its kind, which has seen nothing: each batch and each prefix has its own."""

    def add(self, other: Any, *, times: int = 1) -> None:
        """Take in what another one of its kind saw of tokens that `times` prompts share, once for each of them."""

    def per_prompt(self) -> Mapping[int, Float[Tensor, " prompt"]] | None:
        """A number of each prompt, by layer; None where it keeps sums, which are added up over all prompts."""


@runtime_checkable
class LayerMeasurer(BatchObserver, Protocol):
    """An observer that makes a number of each prompt and layer: a layer measure."""

    @property
    def info(self) -> MeasureInfo:
        """What the number is called, its unit, and what it means."""


LAYER_MEASURES: dict[str, LayerMeasurer] = {}
"""What is measured of every layer in clean rows, by name: observers that have seen nothing."""


def register_layer_measure(measure: LayerMeasurer) -> Registrations:
    """Have a number of every layer measured in every trace from now on, until that is undone.

    Raises:
        UsageError: If its name stands for something else in every trace, or another measure has it.
    """
    return register_measure("layer measure", LAYER_MEASURES, measure.info, measure)


def add_each(observers: Sequence[BatchObserver], others: Sequence[BatchObserver], *, times: int = 1) -> None:
    """What others saw, if there are any, taken in by observers of the same kinds in the same order."""
    for one, other in zip(observers, others, strict=True) if others else ():
        with _telling_whose(one, "when it took in what a prefix showed"):
            one.add(other, times=times)


def show(observer: Observer, call: CleanCall, leaving: Tensor) -> None:
    """Show an observer what stands at its site.

    Raises:
        UsageError: If it is a user's own and raises something.
    """
    with _telling_whose(observer, f"at layer {call.layer.index}"):
        observer.see(call, leaving)


def fresh(observers: Sequence[BatchObserver]) -> tuple[BatchObserver, ...]:
    """Others of their kinds, which have seen nothing."""

    def one_of(observer: BatchObserver) -> BatchObserver:
        with _telling_whose(observer, "when a fresh one was made for a batch"):
            return observer.fresh()

    return tuple(map(one_of, observers))


def numbers_of(observer: BatchObserver) -> Mapping[int, Float[Tensor, " prompt"]] | None:
    """What an observer has of each prompt, by layer; None where it keeps sums."""
    with _telling_whose(observer, "when its numbers were asked for"):
        return observer.per_prompt()


def _telling_whose(observer: Observer, when: str) -> AbstractContextManager[None]:
    """What a user's own observer raises in the block is told as theirs."""
    named = f"The layer measure {observer.name!r}" if isinstance(observer, BatchObserver) else "An observer"
    return telling_whose(named, when, code=observer)


def looking_at(observers: Sequence[Observer], site: Site) -> list[Observer]:
    """Those that look at a site."""
    return [one for one in observers if one.site == site]


@contextmanager
def observing(network: Network, observers: Sequence[Observer]) -> Iterator[None]:
    """Shows the observers every layer that runs in the block."""
    with ExitStack() as stack:
        for layer in network.anatomy.layers if observers else ():
            stack.enter_context(replacing_forward(layer.module, _observed(layer, observers)))
        yield


def _observed(layer: Layer, observers: Sequence[Observer]) -> Callable[..., Any]:
    forward, wiring = layer.module.forward, layer.wiring

    def observed(*args: Any, **kwargs: Any) -> Any:
        stream = flatten((args, kwargs)).values[wiring.stream_in]
        # A copy: a layer may add to the stream in place.
        call = CleanCall(layer=layer, entering=to_rows_first(stream, wiring).clone())

        def note(site: Site, values: Tensor) -> None:
            for one in looking_at(observers, site):
                show(one, call, values)

        notes = {one.site: partial(note, one.site) for one in observers}
        return run_edited(layer, forward, args, kwargs, notes)

    return observed
