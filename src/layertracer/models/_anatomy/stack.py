"""Stack of the decoder layers in a module, found by running it.

A stack is a container of modules that run once each, in order, every one taking the stream from the
one before and returning a tensor of the same shape. No name of a model decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import nn

from layertracer._errors import AnatomyError
from layertracer.models._anatomy.wiring import shape_preserving, stream_link
from layertracer.models._calling.hooks import CallRecord
from layertracer.models._weights.shapes import has_matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A container of layers that ran as a chain.

    Attributes:
        path: Name of the container in the model.
        layers: The layers' names and modules, in the order in which they ran.
    """

    path: str
    layers: tuple[tuple[str, nn.Module], ...]


def find_stack(
    module: nn.Module,
    calls: Sequence[CallRecord],
    *,
    n_positions: int,
    n_source_positions: int | None = None,
    path: str | None = None,
) -> Stack:
    """The decoder stack among the observed `calls` of all of `module`'s submodules.

    Args:
        module: The model.
        calls: What was observed while it ran, see `observe_calls`.
        n_positions: Number of tokens that it read.
        n_source_positions: Number of tokens that an encoder beside it read, another one.
        path: Name of the container to take, where several could be meant.

    Raises:
        AnatomyError: If there is no such stack, or more than one.
    """
    stacks = _outermost(_all_stacks(module, calls), calls)
    if path is not None:
        chosen = _chosen(stacks + _all_stacks(module, calls), path)
        _refuse_layers_behind(module, chosen, calls, containers=[path])
        return chosen
    if not any(len(stack.layers) > 1 for stack in stacks) and len(stacks) != 1:
        raise _no_stack(module, calls)
    own = [stack for stack in stacks if n_positions in _stream_shape(stack, calls)]
    stacks = own or [stack for stack in stacks if n_source_positions not in _stream_shape(stack, calls)]
    longest = max(len(stack.layers) for stack in stacks)
    likely = [stack for stack in stacks if len(stack.layers) > 1] if longest > 1 else stacks
    if len(likely) > 1:
        listed = ", ".join(f"{stack.path!r} ({len(stack.layers)} layers)" for stack in likely)
        raise AnatomyError(
            f"{type(module).__name__} has more than one stack of layers: {listed}. Say which one is the decoder: "
            f"wrap_model(module, layers={likely[-1].path!r})."
        )
    _refuse_layers_behind(module, likely[0], calls, containers=[name for name, _ in module.named_modules()])
    return likely[0]


def _no_stack(module: nn.Module, calls: Sequence[CallRecord]) -> AnatomyError:
    """The error for a model without a chain of layers, with what its containers do instead."""
    n_calls = Counter(call.module for call in calls)
    repeated = [
        f"{path!r} ({max(n_calls[child] for child in container.children())} times)"
        for path, container in module.named_modules()
        if isinstance(container, nn.ModuleList)
        and any(n_calls[child] > 1 and _n_matrices(child) > 1 for child in container.children())
    ]
    found = (
        f"The layers of {', '.join(repeated[:3])} run several times in one forward, so that what leaves a layer is not "
        "one thing; such a model cannot be traced."
        if repeated
        else "If the layers are held otherwise, put each into one module, and these into a torch.nn.ModuleList."
    )
    return AnatomyError(
        f"No decoder stack was found in {type(module).__name__}: expected a ModuleList or Sequential whose members "
        f"run once each, in order, each taking the residual stream [batch, position, width] and returning one of the "
        f"same shape. {found}"
    )


def _refuse_layers_behind(
    module: nn.Module, stack: Stack, calls: Sequence[CallRecord], *, containers: Sequence[str]
) -> None:
    """Raise where other blocks of some containers run after the stack: then the output is not read from it alone.

    Raises:
        AnatomyError: If that is so.
    """
    own = {layer for _, layer in stack.layers}
    last = max(index for index, call in enumerate(calls) if call.module in own)
    behind = {call.module for call in calls[last + 1 :] if not _runs_inside(call, own)}
    for path in containers:
        container = module.get_submodule(path)
        blocks = [child for child in container.children() if child in behind and _n_matrices(child) > 1]
        if isinstance(container, nn.ModuleList) and blocks:
            which = "other layers" if path == stack.path else "the layers"
            raise AnatomyError(
                f"{type(module).__name__} runs {which} of {path!r} after those of {stack.path!r}, the only ones found "
                "that hand one stream on unchanged from each to the next, so that the output is not read from them. A "
                "model whose last layers do not run as one chain cannot be traced."
            )


def _runs_inside(call: CallRecord, modules: set[nn.Module]) -> bool:
    within: CallRecord | None = call
    while within is not None:
        if within.module in modules:
            return True
        within = within.parent
    return False


def _n_matrices(module: nn.Module) -> int:
    return sum(parameter.ndim >= 2 for parameter in module.parameters())


def _stream_shape(stack: Stack, calls: Sequence[CallRecord]) -> tuple[int, ...]:
    """Shape of what enters a stack, without its width."""
    first = next(call for call in calls if call.module is stack.layers[0][1])
    link = shape_preserving(first)
    assert link is not None  # `_could_be_layer` has seen to it
    return tuple(first.inputs.values[link[0]].shape[:-1])


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
