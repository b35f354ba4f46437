"""Proof of the sites inside a layer: what is masked there is what the mixer or the MLP adds, no more or less.

Of every layer, on a short batch:

- What leaves it is what entered it plus the additions that were seen. Where the layer norms or scales
  the sum as well, that cannot hold, and two other things must. It is *reproduced from its additions*:
  with every matrix in it corrupted (answering wrongly), but its additions put back, it returns what it
  returned. And they are *input-free*: with every matrix giving a fixed answer, its additions no longer
  depend on the stream, while what leaves it does.
- Its mixer is whole: with the mixer's additions put back, nothing moves from one position to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from layertracer._types import Check, Site
from layertracer.models import (
    CONTRACTIONS,
    Layer,
    Leaves,
    Network,
    Role,
    call_again,
    cloned,
    flatten,
    has_matrix,
    hooking,
    is_quantised,
    keeping_loaded,
    replacing_forward,
    rounding_between_positions,
)
from layertracer.tracing._batching.rows import to_rows_first
from layertracer.tracing._proofs.checks import error_or_infinity, judge, worst_of
from layertracer.tracing._sites.branch_output import BRANCH_SITES, watching


def check_sites(
    network: Network,
    ids: Tensor,
    *,
    masking_error: Callable[[Site], float],
) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """One check for each site inside the layer that the model has, and what to say of those that fail.

    Args:
        network: The model.
        ids: A short batch of prompts.
        masking_error: How far a site's masks are from the plain method's.
    """
    layers = network.anatomy.layers
    sites = [site for site in BRANCH_SITES if any(site.role in layer.roles for layer in layers)]
    if not sites:
        return (), ()
    tolerance = judge(network, sites[0].facts.name, 0.0).tolerance
    proofs = error_or_infinity(lambda: _addition_error(network, ids, tolerance=tolerance))
    checks, notes = [], []
    for site in sites:
        reason, name = _why_unclear(network, site.role), site.facts.name
        masking = 0.0 if reason else error_or_infinity(partial(masking_error, name))
        error = float("inf") if reason else worst_of([proofs, masking])
        checks.append(judge(network, name, error))
        if not checks[-1].passed:
            reason = reason or "what a layer adds to its stream there could not be told apart"
            notes.append(f"{name} is not offered: {reason}.")
    return tuple(checks), tuple(notes)


def _why_unclear(network: Network, role: Role) -> str | None:
    """Why a site cannot be offered, as far as the anatomy says; None where it can."""
    name = {"mixer": "mixer", "mlp": "MLP"}[role]
    for layer in network.anatomy.layers:
        if role in layer.additions.unclear:
            return f"of layer {layer.index}'s {name}, {layer.additions.unclear[role]}"
        if role in layer.roles and not layer.additions.of(role):
            return f"layer {layer.index} has a part that is its {name}, but it adds nothing of its own to the stream"
    return None


def _addition_error(network: Network, ids: Tensor, *, tolerance: float) -> float:
    """The largest relative error of any layer's proof."""
    errors: list[float] = []
    with ExitStack() as stack:
        for layer in network.anatomy.layers:
            stack.enter_context(replacing_forward(layer.module, _proving(layer, errors, tolerance=tolerance)))
        network.call(ids)
    return worst_of(errors)


def _proving(layer: Layer, errors: list[float], *, tolerance: float) -> Callable[..., Any]:
    """The layer's forward, which also notes the errors of its proof."""
    forward, wiring = layer.module.forward, layer.wiring

    def proven(*args: Any, **kwargs: Any) -> Any:
        with keeping_loaded(layer.module.modules()):  # run many times
            return prove(*args, **kwargs)

    def prove(*args: Any, **kwargs: Any) -> Any:
        entering = flatten((args, kwargs))
        before = cloned(entering.values)
        output, additions = _run(layer, forward, (args, kwargs))
        after = flatten((args, kwargs)).values
        leaving = flatten(output).values[wiring.stream_out].clone()
        entered = before[wiring.stream_in].double()
        difference = _relative(sum((one.double() for one in additions), start=entered), leaving)
        bench = _Bench(layer, forward, Leaves(before, entering.spec), additions, leaving)
        leak = bench.leak()
        is_rounding = is_quantised(layer.module) and leak < rounding_between_positions(layer.module)
        errors.append(0.0 if is_rounding else leak)
        errors.append(difference if difference <= tolerance else bench.reproduction_error(tolerance=tolerance))
        # What the trials wrote into shared mappings is undone.
        entering.rebuilt(after)
        return output

    return proven


def _run(layer: Layer, forward: Callable[..., Any], call: tuple[Any, Any]) -> tuple[Any, list[Tensor]]:
    """A layer's output, and what its branches added."""
    additions: list[Tensor] = []
    args, kwargs = call

    def note(added: Tensor, role: Role) -> None:
        del role
        additions.append(added.clone())

    with watching(layer, flatten(call).values[layer.wiring.stream_in], note):
        output = forward(*args, **kwargs)
    return output, additions


Corruption = Callable[[Tensor], Tensor]
"""What a matrix answers in place of its own answer."""


@dataclass(frozen=True, slots=True)
class _Bench:
    """One call of a layer, to be repeated with something changed.

    Attributes:
        layer: The layer.
        forward: Its own forward.
        given: What it was called with.
        additions: What its branches added, in order.
        leaving: The stream that left it.
    """

    layer: Layer
    forward: Callable[..., Any]
    given: Leaves
    additions: Sequence[Tensor]
    leaving: Tensor

    def leak(self) -> float:
        """How much of one position reaches others while the mixer's additions are put back."""
        wiring = self.layer.wiring
        stream = self.given.values[wiring.stream_in].clone()
        rows = to_rows_first(stream, wiring)
        n_positions, shift = rows.shape[1], self.layer.additions.shift
        at = max(0, (n_positions - shift) // 2 - 1)
        rows[:, at] = 1 - 3 * rows[:, at].flip(0)
        leaving, _ = self._repeat(stream, put_back=("mixer", "other"))
        positions = [position for position in range(n_positions) if not 0 <= position - at <= shift]
        one, other = (to_rows_first(tensor, wiring)[:, positions] for tensor in (leaving, self.leaving))
        return _relative(one, other)

    def reproduction_error(self, *, tolerance: float) -> float:
        """How far the layer is from reproduced, its additions from input-free; infinity where trials show nothing."""
        stream = self.given.values[self.layer.wiring.stream_in]
        gates = self.layer.additions.gates
        with _corrupting(self.layer, lambda answer: -3 * answer, spared=gates):
            reproduced, _ = self._repeat(stream, put_back=("mixer", "mlp", "other"))
            corrupted, _ = self._repeat(stream, put_back=())
        with _corrupting(self.layer, _fixed_answer, spared=frozenset()):
            one, added = self._repeat(stream, put_back=())
            other, added_to_other = self._repeat(1 - 3 * stream.flip(self.layer.wiring.batch_axis), put_back=())
        if _relative(corrupted, self.leaving) <= 10 * tolerance or _relative(one, other) <= 10 * tolerance:
            return float("inf")
        dependent = [_relative(a, b) for a, b in zip(added, added_to_other, strict=True)]
        return worst_of([_relative(reproduced, self.leaving), *dependent])

    def _repeat(self, stream: Tensor, *, put_back: Sequence[Role]) -> tuple[Tensor, list[Tensor]]:
        """What leaves the layer, and what its branches added, when it is given `stream`."""
        wiring = self.layer.wiring
        values = cloned(self.given.values)
        values[wiring.stream_in] = stream.clone()
        seen: list[Tensor] = []

        def edit(added: Tensor, role: Role) -> Tensor | None:
            seen.append(added.clone())
            return self.additions[len(seen) - 1] if role in put_back else None

        with watching(self.layer, values[wiring.stream_in], edit):
            leaving: Tensor = call_again(self.forward, self.given, values).values[wiring.stream_out]
        return leaving, seen


@contextmanager
def _corrupting(layer: Layer, corruption: Corruption, *, spared: frozenset[nn.Module]) -> Iterator[None]:
    """Whatever holds a matrix in a layer answers something else in the block, except for some modules."""
    holders = [
        module
        for module in layer.module.modules()
        if module is not layer.module and module not in spared and has_matrix(module, recurse=False)
    ]
    # A module that adds to the stream itself must not answer something else: what its matrices give does.
    adding = [module for module in holders if any(module is one.op_site.module for one in layer.additions.found)]
    mode = _CorruptedContractions(corruption)

    def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
        del module, args, kwargs
        mode.depth += 1

    def end(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        del module, args, kwargs, output
        mode.depth -= 1

    def answer(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        del module, args, kwargs
        leaves = flatten(output)
        return leaves.rebuilt([corruption(value) if _is_number(value) else value for value in leaves.values])

    with (
        hooking([module for module in holders if module not in adding], after=answer),
        hooking(adding, before=begin, after=end),
        mode if adding else nullcontext(),
    ):
        yield


class _CorruptedContractions(TorchDispatchMode):
    """Products of matrices answer something else inside some modules."""

    def __init__(self, corruption: Corruption) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self._corruption = corruption
        self.depth = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return self._corruption(result) if self.depth and func._schema.name in CONTRACTIONS else result


def _is_number(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _fixed_answer(answer: Tensor) -> Tensor:
    """Values that depend on the shape alone."""
    count = torch.arange(answer.numel(), device=answer.device, dtype=torch.float32)
    return torch.cos(count).reshape(answer.shape).to(answer.dtype)


def _relative(one: Tensor, other: Tensor) -> float:
    """Largest difference, over the largest value."""
    return float((one.double() - other.double()).abs().max() / other.double().abs().max().clamp(min=1e-30))
