"""What the mixer and the MLP add to the stream, seen and changed where it is added.

The site is not the output of a module: families norm it afterwards (Gemma, OLMo 2), multiply it
(Granite), or add it to the stream inside the module itself (BLOOM). So the additions themselves are
watched. While a layer runs, tensors carry a tag: `stream` (what entered the layer, or a sum with it),
`mixer` or `mlp` (computed from that part's output). Where something tagged `mixer` is added to
anything that is not, that is the mixer's addition; likewise for the MLP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from layertracer._errors import SiteError
from layertracer._types import Site
from layertracer.models import Layer, Role, hooking, take_apart

Tag = Literal["stream", "mixer", "mlp", "both"]
_TAG = "_layertracer_tag"

_aten = torch.ops.aten
_ADDITIONS = frozenset({_aten.add.Tensor, _aten.add_.Tensor})
_SAME_VALUES = frozenset(
    {
        _aten.view.default,
        _aten._unsafe_view.default,
        _aten.reshape.default,
        _aten.alias.default,
        _aten.detach.default,
        _aten.clone.default,
        _aten.contiguous.default,
        _aten._to_copy.default,
        _aten.to.dtype,
        _aten.transpose.int,
        _aten.permute.default,
        _aten.t.default,
        _aten.unsqueeze.default,
        _aten.squeeze.default,
        _aten.squeeze.dim,
        _aten.expand.default,
        _aten.dropout.default,
    }
)

Edit = Callable[[Tensor, Role], Tensor | None]
"""Given what a part adds, shaped as the stream, the rows to put in place of its last ones; None for no change."""


class BranchWatcher(TorchDispatchMode):
    """Watches the additions to the stream of one layer while it runs.

    Args:
        edit: Called with each addition by a mixer or an MLP. What it returns replaces the last rows
            (along the batch) of what is added.
        batch_axis: Axis of the stream that is the batch.
    """

    def __init__(self, edit: Edit, *, batch_axis: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self._edit = edit
        self._batch_axis = batch_axis
        self._inside: list[Role] = []
        self._shape: torch.Size | None = None
        self.base: Tensor | None = None
        """What the first addition was made to: the stream, unless the layer norms it at its entrance."""

    def begin_layer(self, stream: Tensor) -> None:
        """Note what enters the layer."""
        self._shape = stream.shape
        setattr(stream, _TAG, "stream")

    def begin_part(self, role: Role) -> None:
        """Note that the layer's mixer or MLP begins."""
        self._inside.append(role)

    def end_part(self, output: Any) -> None:
        """Note that it ends: what it returns carries its tag, unless it has been added to the stream inside."""
        role = self._inside.pop()
        for _, leaf in take_apart(output).tensors():
            if _tag_of(leaf) != "stream":
                setattr(leaf, _TAG, role)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator; tag its result; change what is added where it is an addition to the stream."""
        kwargs = kwargs or {}
        tensors = [leaf for leaf in _pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        tags = [_tag_of(tensor) for tensor in tensors]
        if func in _ADDITIONS and len(tensors) == 2 and any(self._is_added(tags, which) for which in (0, 1)):
            return self._add(func, args, kwargs, tags=tags)
        result = func(*args, **kwargs)
        tag = self._result_tag(func, tags)
        for leaf in _pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                setattr(leaf, _TAG, tag)
        return result

    def _is_added(self, tags: Sequence[Tag | None], which: int) -> bool:
        """Whether that operand is what a part adds: it carries the part's tag and the other one does not.

        Inside a part, what it computes with is untagged too; there only a sum with the stream counts.
        """
        own, other = tags[which], tags[1 - which]
        if own not in ("mixer", "mlp") or other == own:
            return False
        return other == "stream" if self._inside else True

    def _result_tag(self, func: Any, tags: Sequence[Tag | None]) -> Tag | None:
        if func in _SAME_VALUES and tags and tags[0] == "stream":
            return "stream"
        if self._inside:
            return self._inside[-1]
        if func in _ADDITIONS and "stream" in tags:
            return "stream"
        roles = {tag for tag in tags if tag in ("mixer", "mlp", "both")}
        if not roles:
            return None
        return roles.pop() if len(roles) == 1 else "both"

    def _add(self, func: Any, args: Any, kwargs: Any, *, tags: Sequence[Tag | None]) -> Tensor:
        """An addition to the stream, with the last rows of what is added replaced."""
        first, second = (self._as_stream(operand) for operand in args)
        if first is None or second is None:
            result: Tensor = func(*args, **kwargs)
            setattr(result, _TAG, self._inside[-1] if self._inside else None)
            return result
        alpha = kwargs.get("alpha", 1)
        terms = (first, second if alpha == 1 else alpha * second)
        edited = [
            self._edit(term, _as_role(tags[which])) if self._is_added(tags, which) else None
            for which, term in enumerate(terms)
        ]
        if self.base is None and not all(tag in ("mixer", "mlp", "both") for tag in tags):
            self.base = (terms[0] if self._is_added(tags, 1) else terms[1]).clone()
        n_rows = next((rows.shape[self._batch_axis] for rows in edited if rows is not None), 0)
        last = [
            self._last_rows(term, n_rows).clone() if rows is None else rows
            for term, rows in zip(terms, edited, strict=True)
        ]
        result = func(*args, **kwargs)
        both_parts = all(tag in ("mixer", "mlp", "both") for tag in tags)
        setattr(result, _TAG, "both" if both_parts else "stream")
        if n_rows:
            # A view, so that the result itself changes; a layout that allows none is refused by torch.
            self._last_rows(result.view(first.shape), n_rows).copy_(last[0] + last[1])
        return result

    def _as_stream(self, tensor: Tensor) -> Tensor | None:
        """A view of `tensor` in the shape of the stream, also where batch and position were flattened."""
        assert self._shape is not None  # begin_layer comes first
        if tensor.numel() != self._shape.numel() or tensor.shape[-1] != self._shape[-1]:
            return None
        return tensor.reshape(self._shape)

    def _last_rows(self, tensor: Tensor, n_rows: int) -> Tensor:
        size = tensor.shape[self._batch_axis]
        return tensor.narrow(self._batch_axis, size - n_rows, n_rows)


def _tag_of(tensor: Tensor) -> Tag | None:
    tag: Tag | None = getattr(tensor, _TAG, None)
    return tag


def _as_role(tag: Tag | None) -> Role:
    assert tag in ("mixer", "mlp")  # _is_added said so
    return tag


@contextmanager
def watching(layer: Layer, stream: Tensor, edit: Edit) -> Iterator[BranchWatcher]:
    """A watcher over one layer's additions for the length of the block, in which the layer runs."""
    watcher = BranchWatcher(edit, batch_axis=layer.wiring.batch_axis)
    watcher.begin_layer(stream)
    roles = {part.module: part.role for part in layer.parts}

    def begin(module: Any, args: Any, kwargs: Any) -> None:
        del args, kwargs
        watcher.begin_part(roles[module])

    def end(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        del module, args, kwargs
        watcher.end_part(output)

    with hooking(roles, before=begin, after=end), watcher:
        yield watcher


def role_at(site: Site) -> Role:
    """The part of a layer whose additions are the site "mixer_output" or "mlp_output"."""
    return "mixer" if site == "mixer_output" else "mlp"


def refuse_unseen(layer: Layer, role: Role, *, seen: bool) -> None:
    """Raise where a layer has a part but no addition of it was seen: nothing would have been changed.

    Raises:
        SiteError: If that is so.
    """
    if not seen and any(part.role == role for part in layer.parts):
        raise SiteError(
            f"Layer {layer.index} ({layer.path}) has a part that should add to the stream as its {role}, but no such "
            "addition was seen, so that nothing would be perturbed there. Use site='block_output' for this model."
        )
