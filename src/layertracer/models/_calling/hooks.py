"""Hooks on modules: their calls, inputs and outputs observed, changed, and made once more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from layertracer.models._calling.pytree import Leaves, flatten


@dataclass(slots=True, kw_only=True, eq=False)  # two calls are never the same, whatever their tensors hold
class CallRecord:
    """One call of one module.

    Attributes:
        module: The module that was called.
        inputs: Leaves of (args, kwargs).
        outputs: Leaves of what it returned; None while it runs.
        parent: The observed call inside which it happened; None at the top.
    """

    module: nn.Module
    inputs: Leaves
    outputs: Leaves | None = None
    parent: CallRecord | None = field(default=None, repr=False)


@contextmanager
def hooking(
    modules: Iterable[nn.Module],
    *,
    before: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any] | None = None,
    after: Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], Any] | None = None,
) -> Iterator[None]:
    """Hooks on `modules` for the length of the block; none is left behind, whatever happens."""
    with ExitStack() as stack:
        for module in modules:
            if before is not None:
                stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            if after is not None:
                stack.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        yield


@contextmanager
def replacing_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Another `forward` for one module for the length of the block."""
    own = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own


def observe_calls(modules: Iterable[nn.Module], run: Callable[[], object]) -> list[CallRecord]:
    """Every call of `modules` during `run`, in the order in which they began."""
    calls: list[CallRecord] = []
    open_calls: list[CallRecord] = []

    def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        parent = open_calls[-1] if open_calls else None
        call = CallRecord(module=module, inputs=flatten((args, kwargs)), parent=parent)
        calls.append(call)
        open_calls.append(call)

    def end(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        del module, args, kwargs
        open_calls.pop().outputs = flatten(output)

    with hooking(dict.fromkeys(modules), before=begin, after=end):
        run()
    return calls


def call_again(function: Callable[..., Any], inputs: Leaves, values: Sequence[Any] | None = None) -> Leaves:
    """What a function returns when it is given once more what it was given.

    Args:
        function: A module or a forward.
        inputs: Leaves of (args, kwargs) of its call.
        values: Leaves in place of those; they are handed over as they are, see `cloned`.
    """
    args, kwargs = inputs.rebuilt(inputs.values if values is None else values)
    return flatten(function(*args, **kwargs))


def call_inside(outer: CallRecord, calls: Iterable[CallRecord], module: nn.Module) -> CallRecord:
    """The first call of `module` during the call `outer`, which may be `outer` itself."""
    for call in calls:
        within: CallRecord | None = call
        while call.module is module and within is not None:
            if within is outer:
                return call
            within = within.parent
    raise LookupError(f"{type(module).__name__} was not called inside {type(outer.module).__name__}")
