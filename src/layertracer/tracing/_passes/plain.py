"""Plain method: one hooked forward per variant, and one per lens row.

Slow and simple. The self-check holds the ladder against it, and models whose ladder does not pass
are traced with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from layertracer.models import Layer, Leaves, Network, flatten, replacing_forward
from layertracer.tracing._batching.rows import evenly_spaced, from_rows_first, to_rows_first
from layertracer.tracing._lenses.protocol import Lens, translated
from layertracer.tracing._passes.layer_edits import rerun_at
from layertracer.tracing._passes.row_groups import Edit, site_of
from layertracer.tracing._perturbers.protocol import LayerCall, Perturber
from layertracer.tracing._sites.protocol import EditRows, run_edited


def plain_logits(network: Network, ids: Tensor, *, read: Sequence[int]) -> Tensor:
    """The model's own logits at the positions that are read, [prompt, read, d_vocab]."""
    return network.call.logits(ids)[:, evenly_spaced(read)]


def plain_readout(
    network: Network, ids: Tensor, *, read: Sequence[int], layer: int, lens: Lens | None = None
) -> Tensor:
    """Logits [prompt, read, d_vocab] where all layers after `layer` hand the stream on; -1: all of them.

    With a lens, the last of them hands on what the lens makes of it.
    """
    layers = network.anatomy.layers
    with ExitStack() as stack:
        for later in layers[layer + 1 :]:
            reads = lens if later is layers[-1] else None

            def change(entering: Tensor, lens: Lens | None = reads) -> Tensor:
                if lens is None:
                    return entering
                rows = to_rows_first(entering, layers[-1].wiring)
                made = translated(lens, rows, layer=layer, n_layers=len(layers))
                return from_rows_first(made, layers[-1].wiring)

            stack.enter_context(replacing_forward(later.module, _handing_on(later, change)))
        return plain_logits(network, ids, read=read)


def _handing_on(layer: Layer, change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """The layer runs and returns the stream that it was given, changed.

    It runs, because what else it returns, or keeps for the tail to find, is to be of this prompt: what was returned in
    a probe at load is another's.
    """
    forward, wiring = layer.module.forward, layer.wiring

    def hand_on(*args: Any, **kwargs: Any) -> Any:
        entering = flatten((args, kwargs)).values[wiring.stream_in].clone()  # a layer may add to it in place
        return flatten(forward(*args, **kwargs)).replaced(wiring.stream_out, change(entering))

    return hand_on


def plain_perturbed(
    network: Network, ids: Tensor, *, read: Sequence[int], perturber: Perturber, layer: int, draw: int
) -> Tensor:
    """Logits [prompt, read, d_vocab] with one layer perturbed by one draw."""
    with perturbing(network.anatomy.layers[layer], perturber, draw=draw):
        return plain_logits(network, ids, read=read)


@contextmanager
def perturbing(layer: Layer, perturber: Perturber, *, draw: int, prompts: tuple[int, ...] = ()) -> Iterator[None]:
    """One layer perturbed in every row of the batch for the length of the block."""
    edits = PlainEdits(perturbers=[perturber], edits=[Edit(layer.index, draw)], prompts=prompts)
    with edits.made_in([layer]):
        yield


@dataclass(slots=True, kw_only=True)
class PlainEdits:
    """What is done to every row of a batch.

    Attributes:
        perturbers: What carries the edits out.
        edits: The edits, those at one place in their order.
        prompts: The prompts' indices in the task.
        base: What stood in base rows, which edits may ask for; where it is not known, that is what is perturbed.
    """

    perturbers: Sequence[Perturber | None]
    edits: Sequence[Edit]
    prompts: tuple[int, ...] = ()
    base: Mapping[tuple[int, str, int], Tensor] = field(default_factory=dict)

    @contextmanager
    def made_in(self, layers: Sequence[Layer]) -> Iterator[None]:
        """The edits are made whenever these layers run in the block."""
        with ExitStack() as stack:
            for layer in layers:
                own = [edit for edit in self.edits if edit.layer == layer.index]
                if own:
                    stack.enter_context(replacing_forward(layer.module, self._edited(layer, own)))
            yield

    def _edited(self, layer: Layer, edits: Sequence[Edit]) -> Callable[..., Any]:
        forward, wiring = layer.module.forward, layer.wiring

        def edited(*args: Any, **kwargs: Any) -> Any:
            leaves = flatten((args, kwargs))
            entering = to_rows_first(leaves.values[wiring.stream_in], wiring).clone()
            rerun, n_seen = partial(_rerun, layer, forward, leaves), dict[str, int]()

            def edit_rows(site: str, values: Tensor) -> Tensor:
                which = n_seen.get(site, 0)
                n_seen[site] = which + 1
                for edit in edits:
                    if site_of(edit, self.perturbers) == site:
                        perturber = self.perturbers[edit.perturber]
                        assert perturber is not None  # it has a site
                        call = LayerCall(
                            layer=layer.index,
                            entering=entering,
                            base=self.base.get((layer.index, site, which), values),
                            prompts=self.prompts,
                            rerun=partial(rerun_at, rerun, site, which),
                            which=which,
                        )
                        values = perturber(values, call=call, draws=[edit.draw])[0]
                return values

            sites = dict.fromkeys(site_of(edit, self.perturbers) for edit in edits)
            return run_edited(layer, forward, args, kwargs, {site: partial(edit_rows, site) for site in sites})

        return edited


def _rerun(
    layer: Layer, forward: Callable[..., Any], leaves: Leaves, rows: Tensor, edits: Mapping[str, EditRows]
) -> object:
    """Call a layer once more, with another stream [row, position, …, width] of as many rows."""
    args, kwargs = leaves.replaced(layer.wiring.stream_in, from_rows_first(rows.clone(), layer.wiring))
    return run_edited(layer, forward, args, kwargs, edits)
