"""Wiring of a layer: which tensor of its call is the residual stream, and which axis of which tensor is the batch.

A dimension that merely equals the batch size is no evidence. Two probes differ in batch (2 and 3)
and in length (5 and 13); an axis is a batch axis where its size is `2k` in the one and `3k` in the
other (k > 1: batch times heads). The lengths are such that no half, third, … of them, rounded
either way, makes that ratio. Where only one of them brings an argument, as a window that holds the
shorter one does, a third probe is as long as the longer one and as wide as the shorter one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from layertracer._errors import AnatomyError
from layertracer.models._calling.hooks import CallRecord
from layertracer.models._calling.pytree import Leaves

PROBE_BATCHES = (2, 3)
PROBE_LENGTHS = (5, 13)


@dataclass(frozen=True, slots=True)
class BatchAxis:
    """The axis of a tensor that grows with the batch.

    Attributes:
        axis: Which axis.
        per_row: How many entries of it belong to one row of the batch (1, or e.g. the number of heads).
    """

    axis: int
    per_row: int


Signature = tuple[int | None, ...]
"""Number of axes of every leaf that is a tensor, None for the others."""


def signature_of(leaves: Leaves) -> Signature:
    """The shape of a call's arguments, without sizes."""
    return tuple(leaf.ndim if isinstance(leaf, Tensor) else None for leaf in leaves.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """How one layer is wired into its model.

    Attributes:
        stream_in: Leaf of (args, kwargs) that is the stream.
        stream_out: Leaf of the output that is the stream.
        batch_axis: Axis of the stream that is the batch.
        position_axis: Axis of the stream that is the position; the width is the last.
        n_leading: Entries of that axis that come before the first token's (learnt prompts in front of it).
        n_parallel: Entries of that axis for each token, as blocks one behind the other (ProphetNet's n-gram streams).
        inputs: Batch axis of every tensor among the arguments, None where it does not grow with the batch.
        outputs: Likewise for the output.
        signature: Shape of the arguments for which `inputs` holds.
    """

    stream_in: int
    stream_out: int
    batch_axis: int
    position_axis: int
    n_leading: int
    n_parallel: int
    inputs: tuple[BatchAxis | None, ...]
    outputs: tuple[BatchAxis | None, ...]
    signature: Signature


def stream_link(earlier: CallRecord, later: CallRecord) -> tuple[int, int] | None:
    """The leaf of `earlier`'s output and the leaf of `later`'s input that are the same tensor.

    The same object, or the same values, or (where the model rescales its stream between layers) the
    same values up to a factor.
    """
    assert earlier.outputs is not None  # both calls have ended
    outs = [(index, leaf) for index, leaf in earlier.outputs.tensors() if _is_streamlike(leaf)]
    ins = [(index, leaf) for index, leaf in later.inputs.tensors() if _is_streamlike(leaf)]
    for same in (_same_memory, _same_values, _proportional):
        for out_index, out in outs:
            for in_index, entering in ins:
                if out.shape == entering.shape and same(out, entering):
                    return out_index, in_index
    return None


def _is_streamlike(leaf: Tensor) -> bool:
    return torch.is_floating_point(leaf) and leaf.ndim >= 3


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.device.type != "meta" and one.data_ptr() == other.data_ptr())


def _same_values(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other.to(one.device))


def _proportional(one: Tensor, other: Tensor) -> bool:
    a, b = one.double().flatten(), other.double().flatten().to(one.device)
    factor = torch.dot(a, b) / torch.dot(a, a).clamp(min=1e-30)
    return bool(factor.abs() > 1e-6) and torch.allclose(a * factor, b, rtol=1e-5, atol=1e-8)


def batch_axes(smaller: Leaves, larger: Leaves) -> tuple[BatchAxis | None, ...]:
    """The batch axis of every leaf, from the same call at batch 2 and at batch 3.

    Raises:
        AnatomyError: If a tensor has two such axes, or the two calls have different arguments.
    """
    if signature_of(smaller) != signature_of(larger):
        raise AnatomyError(
            "A layer is called with different kinds of arguments at batch 2 and at batch 3, so that its batch axes "
            "cannot be found. Run its prompts one at a time: trace a model wrapped so that it takes a single prompt."
        )
    return tuple(
        batch_axis(one.shape, other.shape) if isinstance(one, Tensor) and isinstance(other, Tensor) else None
        for one, other in zip(smaller.values, larger.values, strict=True)
    )


def batch_axis(smaller: Sequence[int], larger: Sequence[int]) -> BatchAxis | None:
    """The batch axis of a tensor, from its shapes at batch 2 and at batch 3.

    Raises:
        AnatomyError: If it has two such axes.
    """
    small, large = PROBE_BATCHES
    found = [
        BatchAxis(axis, a // small)
        for axis, (a, b) in enumerate(zip(smaller, larger, strict=True))
        if a != b and a % small == 0 and b % large == 0 and a // small == b // large
    ]
    if len(found) > 1:
        raise AnatomyError(
            f"A tensor of shape {list(smaller)} at batch {small} and {list(larger)} at batch {large} has "
            "more than one axis that grows with the batch; LayerTracer cannot tell which one holds the rows."
        )
    return found[0] if found else None


def are_called_alike(one: Sequence[CallRecord], other: Sequence[CallRecord]) -> bool:
    """Whether layers were given the same kinds of arguments in two probes."""
    return all(signature_of(a.inputs) == signature_of(b.inputs) for a, b in zip(one, other, strict=True))


def wire_layers(
    shorter: Sequence[CallRecord], larger: Sequence[CallRecord], *, smaller: Sequence[CallRecord] | None = None
) -> tuple[Wiring, ...]:
    """The wiring of a stack, from the calls of its layers in the probes.

    Args:
        shorter: The calls at the smaller batch and the shorter length.
        larger: At the larger batch and the longer length.
        smaller: At the smaller batch and the longer length, where the length decides what layers are given: the batch
            axes of such layers are those of longer prompts, and those of shorter ones are to be looked into.

    Raises:
        AnatomyError: If the stream or a batch axis cannot be told.
    """
    stream = _stream_leaves(shorter)
    if smaller is not None and _stream_leaves(smaller) != stream:
        raise AnatomyError(
            "A layer takes or returns its stream in another place in long prompts than in short ones. Such a model "
            "cannot be traced."
        )
    wirings = []
    for (stream_in, stream_out), short, long, other in zip(stream, shorter, smaller or shorter, larger, strict=True):
        one = short if are_called_alike([short], [other]) else long
        assert one.outputs is not None and other.outputs is not None  # both probes have ended
        inputs, outputs = batch_axes(one.inputs, other.inputs), batch_axes(one.outputs, other.outputs)
        entering, leaving = inputs[stream_in], outputs[stream_out]
        positions = _positions(short.inputs.values[stream_in], other.inputs.values[stream_in])
        if entering is None or leaving != entering or entering.per_row != 1 or positions is None:
            raise AnatomyError(
                f"The stream of {type(one.module).__name__} has shape {list(short.inputs.values[stream_in].shape)} at "
                f"batch {PROBE_BATCHES[0]} and length {PROBE_LENGTHS[0]}: LayerTracer expects one axis for the batch "
                "and one that grows with the position. A model that pads its prompts or lays them out otherwise cannot "
                "be traced."
            )
        wirings.append(
            Wiring(
                stream_in=stream_in,
                stream_out=stream_out,
                batch_axis=entering.axis,
                position_axis=positions.axis,
                n_leading=positions.n_leading,
                n_parallel=positions.n_parallel,
                inputs=inputs,
                outputs=outputs,
                signature=signature_of(one.inputs),
            )
        )
    return tuple(wirings)


class _Positions(NamedTuple):
    """An axis whose size is `n_leading + n_parallel × tokens`."""

    axis: int
    n_leading: int
    n_parallel: int


def _positions(smaller: Tensor, larger: Tensor) -> _Positions | None:
    """The axis of the positions: the only one that grows with the length, by whole entries for each token."""
    short, long = PROBE_LENGTHS
    found = []
    for axis, (few, many) in enumerate(zip(smaller.shape[:-1], larger.shape[:-1], strict=True)):
        n_parallel, rest = divmod(many - few, long - short)
        n_leading = few - n_parallel * short
        if n_parallel >= 1 and rest == 0 and n_leading >= 0:
            found.append(_Positions(axis, n_leading, n_parallel))
    return found[0] if len(found) == 1 else None


def _stream_leaves(calls: Sequence[CallRecord]) -> list[tuple[int, int]]:
    """For every layer, which leaf of its input and of its output is the stream."""
    links = [stream_link(one, other) for one, other in pairwise(calls)]
    result = []
    for index, call in enumerate(calls):
        before = links[index - 1] if index else None
        after = links[index] if index < len(links) else None
        found = shape_preserving(call, stream_in=before and before[1], stream_out=after and after[0])
        if found is None:
            raise AnatomyError(
                f"Layer {index} ({type(call.module).__name__}) does not return a tensor of the shape of the stream "
                "that it takes, so that it cannot be read as a decoder layer."
            )
        result.append(found)
    return result


def shape_preserving(
    call: CallRecord, *, stream_in: int | None = None, stream_out: int | None = None
) -> tuple[int, int] | None:
    """The first input and the first output leaf of equal shape, where given at the given leaves."""
    assert call.outputs is not None  # the call has ended
    for in_index, entering in call.inputs.tensors():
        for out_index, leaving in call.outputs.tensors():
            fits = (stream_in in (None, in_index)) and (stream_out in (None, out_index))
            if fits and _is_streamlike(entering) and _is_streamlike(leaving) and entering.shape == leaving.shape:
                return in_index, out_index
    return None
