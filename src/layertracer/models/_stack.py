"""The decoder stack of a module, found by running it.

A stack is a container of modules that run once each, in order, every one taking the stream from the
one before and returning a tensor of the same shape. No name of a model decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import nn

from layertracer._errors import AnatomyError
from layertracer.models._observe import CallRecord
from layertracer.models._weights import has_matrix
from layertracer.models._wiring import shape_preserving, stream_link


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A container of layers that ran as a chain.

    Attributes:
        path: Name of the container in the model.
        layers: The layers' names and modules, in the order in which they ran.
    """

    path: str
    layers: tuple[tuple[str, nn.Module], ...]


def find_stack(module: nn.Module, calls: Sequence[CallRecord], *, path: str | None = None) -> Stack:
    """The decoder stack among the observed `calls` of all of `module`'s submodules.

    Args:
        module: The model.
        calls: What was observed while it ran, see `observe_calls`.
        path: Name of the container to take, where several could be meant.

    Raises:
        AnatomyError: If there is no such stack, or more than one.
    """
    stacks = _outermost(_all_stacks(module, calls), calls)
    if path is not None:
        return _chosen(stacks + _all_stacks(module, calls), path)
    if not stacks:
        raise AnatomyError(
            f"No decoder stack was found in {type(module).__name__}: expected a ModuleList or Sequential whose members "
            "run once each, in order, each taking the residual stream [batch, position, width] and returning one of "
            "the same shape. If the layers are held otherwise, put them into a torch.nn.ModuleList."
        )
    longest = max(len(stack.layers) for stack in stacks)
    likely = [stack for stack in stacks if len(stack.layers) > 1] if longest > 1 else stacks
    if len(likely) > 1:
        listed = ", ".join(f"{stack.path!r} ({len(stack.layers)} layers)" for stack in likely)
        raise AnatomyError(
            f"{type(module).__name__} has more than one stack of layers: {listed}. Say which one is the decoder: "
            f"wrap_model(module, layers={likely[-1].path!r})."
        )
    return likely[0]


def _chosen(stacks: Sequence[Stack], path: str) -> Stack:
    for stack in stacks:
        if stack.path == path:
            return stack
    listed = ", ".join(sorted({repr(stack.path) for stack in stacks})) or "none"
    raise AnatomyError(
        f"layers={path!r} does not name a container whose members run once each, in order, on one stream. "
        f"Such containers in this model: {listed}."
    )


def _all_stacks(module: nn.Module, calls: Sequence[CallRecord]) -> list[Stack]:
    calls_of: dict[nn.Module, list[CallRecord]] = {}
    for call in calls:
        calls_of.setdefault(call.module, []).append(call)
    stacks = []
    for path, container in module.named_modules():
        if not isinstance(container, nn.ModuleList | nn.Sequential | nn.ModuleDict):
            continue
        members = [(f"{path}.{name}" if path else name, child) for name, child in container.named_children()]
        called = [(name, child) for name, child in members if len(calls_of.get(child, ())) == 1]
        if any(len(calls_of.get(child, ())) > 1 for _, child in members):
            continue
        chain = _longest_chain([(name, child, calls_of[child][0]) for name, child in called])
        if chain:
            stacks.append(Stack(path=path, layers=tuple((name, child) for name, child, _ in chain)))
    return stacks


_Member = tuple[str, nn.Module, CallRecord]


def _longest_chain(members: list[_Member]) -> list[_Member]:
    """The longest run of members that hand a stream on; norms and activations alone are no layers."""
    chains: list[list[_Member]] = []
    for fits, group in groupby(members, key=_could_be_layer):
        if not fits:
            continue
        for member in group:
            record = member[2]
            last = chains[-1][-1][2] if chains else None
            if last is not None and last.parent is record.parent and stream_link(last, record) is not None:
                chains[-1].append(member)
            else:
                chains.append([member])
    return max(chains, key=len, default=[])


def _could_be_layer(member: _Member) -> bool:
    _, child, record = member
    return has_matrix(child) and record.outputs is not None and shape_preserving(record) is not None


def _outermost(stacks: Sequence[Stack], calls: Sequence[CallRecord]) -> list[Stack]:
    """The stacks that do not run inside a layer of another stack."""
    owner = {layer: stack.path for stack in stacks for _, layer in stack.layers}
    record_of = {call.module: call for call in calls}

    def runs_inside_another(stack: Stack) -> bool:
        parent = record_of[stack.layers[0][1]].parent
        while parent is not None:
            if owner.get(parent.module, stack.path) != stack.path:
                return True
            parent = parent.parent
        return False

    return [stack for stack in stacks if not runs_inside_another(stack)]
