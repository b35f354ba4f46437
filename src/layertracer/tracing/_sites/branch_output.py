"""Additions of the mixer and the MLP to the residual stream, hooked and changed where they are added.

The site is not the output of a module: families norm it afterwards (Gemma, OLMo 2), multiply it
(Granite), add it to the stream inside the module itself (BLOOM), or norm the stream after the addition
(BERT). So the additions themselves are watched, at the sites that were found when the model was
loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from layertracer._errors import SiteError
from layertracer._types import SiteFacts
from layertracer._types.sites import SITES as FACTS
from layertracer.models import (
    ADDITIONS,
    Layer,
    Network,
    OpSites,
    Role,
    StreamShape,
    has_stream_shape,
    operand_tensors,
)
from layertracer.tracing._batching.rows import from_rows_first, to_rows_first
from layertracer.tracing._sites.protocol import EditRows, Join, LayerRun

Edit = Callable[[Tensor, Role], Tensor | None]
"""Given what a branch adds, shaped as the stream, the rows to put in place of its last ones; None for no change."""


class BranchWatcher(TorchDispatchMode):
    """Watches the additions to the stream of one layer while it runs.

    Args:
        layer: The layer.
        stream: What enters it.
        edit: Called with each addition by a branch. What it returns replaces the last rows (along the
            batch) of what is added.
    """

    def __init__(self, layer: Layer, stream: Tensor, edit: Edit) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        wiring = layer.wiring
        self._edit = edit
        self._batch_axis = wiring.batch_axis
        self._shape = StreamShape.of(stream, wiring)
        self._layer = layer
        self._operands: dict[Any, dict[int, Role]] = {}
        for addition in layer.additions.found:
            self._operands.setdefault(addition.op_site, {})[addition.operand] = addition.role
        self.op_sites = OpSites(layer.module)
        self.n_seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator; change what is added where it is an addition to the stream."""
        kwargs = kwargs or {}
        name = func._schema.name
        if name not in ADDITIONS or not has_stream_shape(self._shape, tensors := operand_tensors(args, kwargs)):
            return func(*args, **kwargs)
        if any(map(self._is_of_scores, tensors)):
            return func(*args, **kwargs)
        roles = self._operands.get(self.op_sites.next(name))
        if roles is None:
            return func(*args, **kwargs)
        self.n_seen += len(roles)
        if len(tensors) != 2 or any(self._shape.view(tensors[which]) is None for which in roles):
            raise _took_another_path(self._layer)
        if any(self._shape.view(tensor) is None for tensor in tensors):
            return self._add_to_some(func, args, kwargs, roles=roles)
        return self._add(func, args, kwargs, roles=roles)

    def _is_of_scores(self, tensor: Tensor) -> bool:
        """Whether a tensor holds attention scores [row, head, query, key], of as many heads as there are tokens.

        Then heads pass for positions, as they did not when the additions were found, at other numbers of tokens.
        """
        n_tokens = self._shape.n_positions
        return n_tokens > 1 and tuple(tensor.shape[1:]) == (n_tokens,) * 3 != tuple(self._shape.shape[1:])

    def _add(self, func: Any, args: Any, kwargs: Any, *, roles: dict[int, Role]) -> Tensor:
        """An addition to the stream, with the last rows of what is added replaced."""
        first, second = (self._as_stream(operand) for operand in args)
        alpha = kwargs.get("alpha", 1)
        terms = (first, second if alpha == 1 else alpha * second)
        edited = [self._edited(term, roles[which]) if which in roles else None for which, term in enumerate(terms)]
        n_rows = max((rows.shape[self._batch_axis] for rows in edited if rows is not None), default=0)
        last = [self._with_edited(term, rows, n_rows) for term, rows in zip(terms, edited, strict=True)]
        result: Tensor = func(*args, **kwargs)
        if n_rows:
            # A view, so that the result itself changes; a layout that allows none is refused by torch.
            target = result.view(first.shape) if result.numel() == first.numel() else result
            self._last_rows(target, n_rows).copy_(last[0] + last[1])
        return result

    def _add_to_some(self, func: Any, args: Any, kwargs: Any, *, roles: dict[int, Role]) -> Tensor:
        """An addition to some of several streams, with the last rows of what is added replaced."""
        operands = list(args)
        for which, role in roles.items():
            rows = self._edited(self._as_stream(operands[which]), role)
            if rows is not None:
                operands[which] = operands[which].clone()
                self._last_rows(self._as_stream(operands[which]), rows.shape[self._batch_axis]).copy_(rows)
        result: Tensor = func(*operands, **kwargs)
        return result

    def _edited(self, added: Tensor, role: Role) -> Tensor | None:
        """What an edit makes of an addition; whatever it runs meanwhile, the layer itself too, is not counted here."""
        with self.op_sites.paused():
            return self._edit(added, role)

    def _with_edited(self, term: Tensor, rows: Tensor | None, n_rows: int) -> Tensor:
        """The last rows of a term, those that were edited in their places."""
        if rows is not None and rows.shape[self._batch_axis] == n_rows:
            return rows
        last = self._last_rows(term, n_rows).clone()
        if rows is not None:
            self._last_rows(last, rows.shape[self._batch_axis]).copy_(rows)
        return last

    def _as_stream(self, tensor: Tensor) -> Tensor:
        """A view of `tensor` in the shape of the stream."""
        seen = self._shape.view(tensor)
        assert seen is not None  # looked at before
        return seen

    def _last_rows(self, tensor: Tensor, n_rows: int) -> Tensor:
        size = tensor.shape[self._batch_axis]
        return tensor.narrow(self._batch_axis, size - n_rows, n_rows)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watches for the length of the block, in which the layer runs.

        Raises:
            SiteError: If the layer runs through other code than when its additions were found.
        """
        with self.op_sites.following(self._layer.additions.modules), self:
            yield
        self.check()

    def check(self) -> None:
        """Raise where the layer did not run through the code in which its additions were found.

        Raises:
            SiteError: If that is so.
        """
        expected = self._layer.additions
        counts = self.op_sites.counts
        if self.n_seen != len(expected.found) or any(
            sum(counts[call][name] for name in ADDITIONS) != count if call in counts else True
            for call, count in expected.counts.items()
        ):
            raise _took_another_path(self._layer)


def _took_another_path(layer: Layer) -> SiteError:
    return SiteError(
        f"Layer {layer.index} ({layer.path}) ran through other code than when the model was loaded, so that what it "
        "adds to the stream was not found again. Use site='block_output' for this model, or prompts of another length."
    )


@contextmanager
def watching(layer: Layer, stream: Tensor, edit: Edit) -> Iterator[BranchWatcher]:
    """A watcher over one layer's additions for the length of the block, in which the layer runs.

    Raises:
        SiteError: If the layer runs through other code than when its additions were found.
    """
    watcher = BranchWatcher(layer, stream, edit)
    with watcher.running():
        yield watcher


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchOutput:
    """What a layer's mixer or MLP adds to the stream, as a site.

    Attributes:
        role: Which of them.
    """

    role: Role

    @property
    def facts(self) -> SiteFacts:
        """What is known of it without a model."""
        return FACTS[f"{self.role}_output"]

    @property
    def joins(self) -> Join:
        """Before the layer runs."""
        return "entrance"

    def layers(self, network: Network) -> tuple[int, ...]:
        """The layers in which an addition of the branch was found."""
        return tuple(layer.index for layer in network.anatomy.layers if layer.additions.of(self.role))

    def width(self, network: Network) -> int:
        """That of the stream."""
        return network.anatomy.d_model

    @staticmethod
    @contextmanager
    def watching(run: LayerRun, edits: Mapping[str, EditRows]) -> Iterator[None]:
        """Calls the edits with what the branches add; each addition of a branch is one call.

        Raises:
            SiteError: If nothing was added by a branch that the layer has.
        """
        wiring, seen = run.layer.wiring, set()

        def edit(added: Tensor, role: Role) -> Tensor | None:
            wanted = edits.get(f"{role}_output")
            if wanted is None:
                return None
            seen.add(role)
            rows = wanted(to_rows_first(added, wiring))
            return None if rows is None else from_rows_first(rows, wiring)

        with watching(run.layer, run.stream, edit):
            yield
        for site in BRANCH_SITES:
            if site.facts.name in edits:
                refuse_unseen(run.layer, site.role, seen=site.role in seen)


BRANCH_SITES = (BranchOutput(role="mixer"), BranchOutput(role="mlp"))
"""The sites that are what a branch adds to the stream."""


def refuse_unseen(layer: Layer, role: Role, *, seen: bool) -> None:
    """Raise where a layer has a part but no addition of it was seen: nothing would have been changed.

    Raises:
        SiteError: If that is so.
    """
    if role in layer.additions.unclear:
        raise SiteError(
            f"What the {role} of layer {layer.index} ({layer.path}) adds to the stream cannot be told apart: "
            f"{layer.additions.unclear[role]}. Use site='block_output' for this model."
        )
    if not seen and role in layer.roles:
        raise SiteError(
            f"Layer {layer.index} ({layer.path}) has a part that should add to the stream as its {role}, but no such "
            "addition was seen, so that nothing would be perturbed there. Use site='block_output' for this model."
        )
