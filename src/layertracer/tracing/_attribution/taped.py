"""Forward with gradients: what branches add to the residual stream and what leaves the layers, as autograd knows them.

Additions are found where they were found when the model was loaded, below autograd; the sum that one makes is the very
tensor to which autograd then attaches its history, so that the gradient with respect to the sum can be asked for
afterwards. It is the gradient with respect to what was added, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from layertracer.models import Layer, Network, Role, StreamShape, flatten, recording_gradients, replacing_forward
from layertracer.tracing._attribution.not_measured import NotMeasured
from layertracer.tracing._sites.branch_output import BranchWatcher

_SUMS = ("AddBackward0",)
"""What autograd calls a sum of two tensors that is a tensor of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TapedTerm:
    """Something that is added to the stream, and where autograd has the gradient with respect to it.

    Attributes:
        layer: Index of the layer.
        role: Whose addition it is; None for all that the layer changes.
        edge: The gradient with respect to the sum.
        added: What is added, in the shape of the stream.
        shape: That shape.
    """

    layer: int
    role: Role | None
    edge: GradientEdge
    added: Tensor
    shape: StreamShape


@dataclass(slots=True, kw_only=True)
class Tape:
    """What is to be known of one forward.

    Attributes:
        network: The model.
        branches: Whether the additions of branches are taped; what layers change is in any case.
        terms: What was taped, in order.
        left: What left the last layer that ran, as autograd knows it.
    """

    network: Network
    branches: bool
    terms: list[TapedTerm] = field(default_factory=list)
    left: Tensor | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Everything that runs in the block is recorded by autograd from the first layer on, and taped.

        The model's parameters stay as they are: whether they require gradients does not matter.
        """
        with ExitStack() as stack:
            stack.enter_context(recording_gradients(self.network))
            for layer in self.network.anatomy.layers:
                stack.enter_context(replacing_forward(layer.module, self._taped(layer)))
            yield
        self._check()

    def _taped(self, layer: Layer) -> Callable[..., Any]:
        forward, wiring = layer.module.forward, layer.wiring

        def taped(*args: Any, **kwargs: Any) -> Any:
            given = flatten((args, kwargs))
            stream = given.values[wiring.stream_in]
            if layer.index == 0:  # a copy: a layer may add to it in place, which autograd refuses of a leaf
                stream = stream.detach().requires_grad_().clone()
                args, kwargs = given.replaced(wiring.stream_in, stream)
            entering = stream.detach().clone()
            if self.branches:
                with _taping_additions(layer, stream, self.terms):
                    output = forward(*args, **kwargs)
            else:
                output = forward(*args, **kwargs)
            self.left = left = flatten(output).values[wiring.stream_out]
            self.terms.append(
                TapedTerm(
                    layer=layer.index,
                    role=None,
                    edge=edge_of(left, f"what leaves layer {layer.index}"),
                    added=left.detach() - entering,
                    shape=StreamShape.of(stream, wiring),
                )
            )
            return output

        return taped

    def _check(self) -> None:
        seen = [term.layer for term in self.terms if term.role is None]
        if seen != list(range(self.network.anatomy.n_layers)):
            raise NotMeasured("its layers do not run once each and in order on these prompts")


def edge_of(tensor: Tensor, what: str) -> GradientEdge:
    """Where autograd has the gradient with respect to a tensor as it is now, whatever is written into it later.

    Raises:
        NotMeasured: If autograd knows nothing of it.
    """
    if not tensor.requires_grad or tensor.grad_fn is None:
        raise NotMeasured(f"no gradient reaches {what}: the model's own code cuts them off")
    return get_gradient_edge(tensor)


class _AdditionTaper(BranchWatcher):
    """Tapes the additions to the stream of one layer while it runs."""

    def __init__(self, layer: Layer, stream: Tensor, terms: list[TapedTerm]) -> None:
        super().__init__(layer, stream, self._take)
        self._terms = terms
        self._taken: list[tuple[Role, Tensor]] = []
        self._sum: tuple[Tensor, list[tuple[Role, Tensor]]] | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator; keep what it adds to the stream."""
        self.settle()
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if self._taken:
            self._sum, self._taken = (result, self._taken), []
        return result

    def settle(self) -> None:
        """Tape the last addition, now that autograd has attached its history to the sum."""
        if self._sum is None:
            return
        (result, taken), self._sum = self._sum, None
        edge = edge_of(result, f"what is added to the stream in layer {self._layer.index}")
        if edge.node.name() not in _SUMS:
            raise NotMeasured(
                f"layer {self._layer.index} adds into a part of another tensor ({edge.node.name()}), whose gradient "
                "would not be that of what is added"
            )
        for role, added in taken:
            term = TapedTerm(layer=self._layer.index, role=role, edge=edge, added=added, shape=self._shape)
            self._terms.append(term)

    def _take(self, added: Tensor, role: Role) -> None:
        """Copy what a branch adds: the sum may be written over it."""
        self._taken.append((role, added.clone()))


@contextmanager
def _taping_additions(layer: Layer, stream: Tensor, terms: list[TapedTerm]) -> Iterator[None]:
    """The additions of one layer are taped for the length of the block, in which it runs."""
    taper = _AdditionTaper(layer, stream, terms)
    with taper.running():
        yield
        taper.settle()
