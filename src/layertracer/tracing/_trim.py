"""The last layer computed at the positions that are read, where that changes nothing there.

What leaves the last layer elsewhere is asked for by nobody. Parts of it that treat every position by
itself, and come after its positions were mixed or ask of the others rather than answer them (an MLP, an
output projection, queries), need not run there. Which parts those are is found by trying: a part says NaN at
the other positions, and none of it may reach what leaves the layer where it is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from layertracer.models import CallRecord, Layer, Leaves, Network, is_out_of_memory, observe_calls, take_apart
from layertracer.tracing._rows import evenly_spaced, to_rows_first
from layertracer.tracing._tail import replacing_forward

_BATCH, _LENGTH = 3, 7
_READ = (_LENGTH - 3, _LENGTH - 1)


def find_trimmable(network: Network) -> tuple[nn.Module, ...]:
    """The parts of the last layer that may be left out of positions that nobody reads; none contains another.

    Args:
        network: The model.
    """
    layer = network.anatomy.layers[-1]
    wiring = layer.wiring
    laid_out = (wiring.batch_axis, wiring.position_axis, wiring.n_leading, wiring.n_parallel) == (0, 1, 0, 1)
    if not laid_out or any(parameter.is_meta for parameter in layer.module.parameters()):
        return ()
    bound, ids = network.probe(batch=_BATCH, length=_LENGTH, seed=6)
    parts = [part for part in layer.module.modules() if part is not layer.module]
    calls = observe_calls([layer.module, *parts], lambda: bound.call(ids))
    own = next(call for call in calls if call.module is layer.module)
    inner = [call for call in calls if call.module is not layer.module]
    once = [call for call in inner if _takes_positions(call) and sum(call.module is one.module for one in inner) == 1]
    return _choose(layer, own, once)


def _takes_positions(call: CallRecord) -> bool:
    """Whether a part is called with one tensor of all rows and positions, and returns another."""
    entering, leaving = call.inputs.tensors(), [] if call.outputs is None else call.outputs.tensors()
    return (
        len(entering) == len(leaving) == 1
        and call.outputs is not None
        and len(call.outputs.values) == 1
        and all(leaf.ndim >= 3 and leaf.shape[:2] == (_BATCH, _LENGTH) for _, leaf in (*entering, *leaving))
    )


def _choose(layer: Layer, own: CallRecord, calls: Sequence[CallRecord]) -> tuple[nn.Module, ...]:
    """The outermost parts that may be left out, all of them together."""
    chosen: list[nn.Module] = []
    inside: set[nn.Module] = set()
    expected = _leaving(layer, own, ())
    for call in calls:  # a part is called before those inside it
        part = call.module
        if part not in inside and _has_weights(part) and _is_same(_leaving(layer, own, (part, *chosen)), expected):
            chosen.append(part)
            inside.update(part.modules())
    return tuple(chosen)


def _is_same(found: Tensor | None, expected: Tensor | None) -> bool:
    """Whether two outputs differ by rounding at most: products of fewer rows are summed in another order."""
    if found is None or expected is None or not bool(found.isfinite().all()):
        return False
    tolerance = 64 * torch.finfo(expected.dtype).eps
    return bool(((found - expected).abs().amax(dim=-1) <= tolerance * expected.abs().amax(dim=-1)).all())


def _has_weights(part: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in part.parameters())


def _leaving(layer: Layer, own: CallRecord, parts: Sequence[nn.Module]) -> Tensor | None:
    """What leaves the layer where it is read, with NaN from some parts elsewhere; None where it does not run so."""
    values = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in own.inputs.values]
    args, kwargs = own.inputs.rebuilt(values)
    try:
        with trimming(parts, read=_READ, length=_LENGTH, elsewhere=math.nan):
            output = take_apart(layer.module(*args, **kwargs)).values[layer.wiring.stream_out]
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        return None
    return to_rows_first(output, layer.wiring)[:, list(_READ)].clone()


@contextmanager
def trimming(
    parts: Sequence[nn.Module], *, read: Sequence[int], length: int, n_whole: int = 0, elsewhere: float = 0.0
) -> Iterator[None]:
    """Parts of a layer run at the positions that are `read` alone for the length of the block.

    Args:
        parts: See `find_trimmable`.
        read: Positions that are read; where these are all there are, nothing is left out.
        length: How many positions there are.
        n_whole: How many rows, the first ones, are run at all positions.
        elsewhere: What the parts say at the other positions of the other rows.
    """
    here = _Positions(where=evenly_spaced(read), length=length, n_whole=n_whole, elsewhere=elsewhere)
    with ExitStack() as stack:
        for part in parts if len(read) < length else ():
            stack.enter_context(replacing_forward(part, partial(_trimmed, part.forward, here)))
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class _Positions:
    where: slice
    length: int
    n_whole: int
    elsewhere: float


def _trimmed(forward: Callable[..., Any], here: _Positions, /, *args: Any, **kwargs: Any) -> Any:
    """A part's output, [row, position, …], computed where it is wanted."""
    leaves = take_apart((args, kwargs))
    (index, entering), *others = leaves.tensors()
    if others or entering.ndim < 3 or entering.shape[1] != here.length:
        return forward(*args, **kwargs)

    def run(values: Tensor) -> Leaves:
        args, kwargs = leaves.replaced(index, values)
        return take_apart(forward(*args, **kwargs))

    if len(entering) <= here.n_whole:
        return forward(*args, **kwargs)
    # Gathered first: matrix products take rows that lie apart one by one.
    output = run(entering[here.n_whole :, here.where].contiguous())
    (place, there), *_ = output.tensors()
    whole = there.new_full((len(entering), here.length, *there.shape[2:]), here.elsewhere)
    whole[here.n_whole :, here.where] = there
    if here.n_whole:
        whole[: here.n_whole] = run(entering[: here.n_whole]).values[place]
    return output.replaced(place, whole)
