"""How far back attention sees, as a site: for each row and position, how many last tokens and how many first ones.

The layer's own attention obeys: whatever calls PyTorch's `scaled_dot_product_attention`, or takes the softmax of scores
of which the later tokens' are masked, is given a narrower mask in the rows that see less. So it is with Transformers'
attention implementations "sdpa" and "eager", with PyTorch's MultiheadAttention, and with modules that call either of
the two themselves. What the attention does not
see by itself, it does not see with more reach either. Rows that see everything take the call that they take otherwise,
together. Whether a layer's attention is all that carries tokens to one another is for a proof to find.

The site is internal: no specification of a perturbation names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from layertracer._errors import SiteError
from layertracer._types import SiteFacts
from layertracer.models import Layer, Network
from layertracer.tracing._sites.protocol import EditRows, Join, LayerRun

NAME = "attention_reach"
_FACTS = SiteFacts(name=NAME, words="attention's reach", part="attention", has_dimensions=False)
_MASKED = -1e4
"""What is added to a score that is masked is this at most: float16 holds no less than -65504."""
_OF_SCORES = frozenset(
    (functional.softmax, torch.softmax, torch.special.softmax, Tensor.softmax, torch.logsumexp, Tensor.logsumexp)
)
"""What is taken of scores over all keys; some families weigh a sink by the logarithm of the softmax's denominator."""
_SDPA = functional.scaled_dot_product_attention
_MULTI_HEAD = functional.multi_head_attention_forward
_SDPA_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
"""Its arguments that may come by position."""


@dataclass(frozen=True, slots=True)
class ReachGroup:
    """Rows that see the same.

    Attributes:
        rows: Which rows they are.
        visible: Which keys each query sees, [query, key]; None where it sees all that the attention lets it see.
    """

    rows: tuple[int, ...]
    visible: Tensor | None


def group_rows(reach: Tensor) -> list[ReachGroup]:
    """The groups of rows that see the same.

    Args:
        reach: How many last and how many first tokens are seen, [row, position, 2].
    """
    distinct, group_of = torch.unique(reach.flatten(1), dim=0, return_inverse=True)
    members = [tuple((group_of == number).nonzero().flatten().tolist()) for number in range(len(distinct))]
    return [
        ReachGroup(rows, visible_keys(own.unflatten(0, reach.shape[1:])))
        for rows, own in zip(members, distinct, strict=True)
    ]


def visible_keys(reach: Tensor) -> Tensor | None:
    """Which keys are seen, [query, key], of `reach` [query, 2]; None where that is every one before each query."""
    position = torch.arange(len(reach))
    last, first = reach[:, :1], reach[:, 1:]
    visible = (position > position[:, None] - last) | (position < first)
    return None if bool(visible.all()) else visible


class AttentionWatcher(TorchFunctionMode):
    """Narrows what the attention of one layer sees while it runs.

    Args:
        layer: The layer.
        n_rows: How many rows go through it.
        n_positions: How many positions they have.
        reach_of: Given the reach of all rows, [row, position, 2], that of the last of them; None where nothing changes.
        evenly: Whether each query weighs alike all keys that it sees: then what it sees shows in what comes out.
    """

    def __init__(
        self, layer: Layer, *, n_rows: int, n_positions: int, reach_of: EditRows, evenly: bool = False
    ) -> None:
        super().__init__()
        self._layer, self._n_rows, self._n_positions = layer, n_rows, n_positions
        self._reach_of, self._evenly = reach_of, evenly
        self.n_seen = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator; where it is attention, with the keys that each row sees."""
        del types
        kwargs = kwargs or {}
        if func is _SDPA:
            return self._attend(*args, **kwargs)
        if func in _OF_SCORES:
            return self._weigh(func, *args, **kwargs)
        if func is _MULTI_HEAD:
            with self._inside_multi_head():
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    @contextmanager
    def _inside_multi_head(self) -> Iterator[None]:
        """What PyTorch's own multi-head attention calls is narrowed: it looks for it under these names."""
        own: dict[str, Any] = {"scaled_dot_product_attention": _SDPA, "softmax": functional.softmax}
        vars(functional)["scaled_dot_product_attention"] = self._attend
        vars(functional)["softmax"] = partial(self._weigh, own["softmax"])
        try:
            yield
        finally:
            vars(functional).update(own)

    def check(self) -> None:
        """Raise where no attention was seen: nothing would have been narrowed.

        Raises:
            SiteError: If that is so.
        """
        if not self.n_seen:
            raise SiteError(
                f"Layer {self._layer.index} ({self._layer.path}) called no attention that could be given a window: "
                "neither scaled_dot_product_attention nor a softmax of masked scores over its tokens."
            )

    def _groups(self) -> list[ReachGroup]:
        """The groups of rows of one call of attention."""
        self.n_seen += 1
        full = torch.tensor((self._n_positions, 0)).expand(self._n_rows, self._n_positions, 2)
        last = self._reach_of(full)
        return group_rows(full if last is None else torch.cat((full[: self._n_rows - len(last)], last)))

    def _attend(self, *args: Any, **kwargs: Any) -> Tensor:
        """PyTorch's attention, group by group of rows."""
        given = {**dict(zip(_SDPA_ARGUMENTS, args, strict=False)), **kwargs}
        query: Tensor = given["query"]
        n_heads = self._n_per_row(query, given["key"])
        if n_heads is None:
            return _SDPA(**given)
        if self._evenly:
            given = {**given, "query": torch.zeros_like(query)}
        groups = self._groups()
        entries = [_entries(group.rows, n_heads) for group in groups]
        outputs = [_SDPA(**_of_rows(given, rows, group.visible)) for group, rows in zip(groups, entries, strict=True)]
        return _put_together(outputs, entries)

    def _n_per_row(self, query: Tensor, key: Tensor) -> int | None:
        """How many entries along the first axis a row has; None where it is not attention of the tokens to one another.

        One where heads have an axis of their own; else the heads.
        """
        n_there, n = len(query), self._n_positions
        if query.ndim < 3 or len(key) != n_there or (query.shape[-2], key.shape[-2]) != (n, n):
            return None
        if query.ndim == 3:
            return n_there // self._n_rows if n_there % self._n_rows == 0 else None
        return 1 if n_there == self._n_rows else None

    def _weigh(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A softmax, of narrowed scores where it is of attention's."""
        if self._are_scores(args, kwargs):
            args = (self._narrowed(args[0]), *args[1:])
        return func(*args, **kwargs)

    def _are_scores(self, args: Any, kwargs: Any) -> bool:
        """Whether a softmax is of attention scores [row, …, query, key], one more of which a sink may take."""
        scores = args[0] if args else None
        if not isinstance(scores, Tensor) or scores.ndim < 3 or len(scores) % self._n_rows:
            return False
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        n, n_keys = scores.shape[-2:]
        if dim not in (-1, scores.ndim - 1) or n != self._n_positions or n_keys not in (n, n + 1) or n < 2:
            return False
        return bool((scores[..., 0, 1:n] <= _MASKED).all())

    def _narrowed(self, scores: Tensor) -> Tensor:
        """Attention scores with those masked that a row does not see."""
        n, n_heads = self._n_positions, len(scores) // self._n_rows
        scores = scores.clone()
        keys = scores[..., :n]
        if self._evenly:  # a sink, too: what it is beside the scores may depend on those that are not seen
            scores.masked_fill_(scores > _MASKED, 0.0)
        for group in self._groups():
            if group.visible is not None:
                hidden = ~group.visible.to(scores.device)
                rows = torch.tensor(_entries(group.rows, n_heads), device=scores.device)
                keys[rows] = keys[rows].masked_fill(hidden, torch.finfo(scores.dtype).min)
        return scores


def _of_rows(given: Mapping[str, Any], rows: list[int], visible: Tensor | None) -> dict[str, Any]:
    """The arguments of PyTorch's attention for some rows, with a mask of what they see."""
    query, mask = given["query"], given.get("attn_mask")
    changed = {name: _taken(given[name], rows) for name in ("query", "key", "value")}
    if mask is not None and mask.ndim == query.ndim and len(mask) == len(query):
        mask = _taken(mask, rows)
    if visible is None:
        return {**given, **changed, "attn_mask": mask}
    visible = visible.to(query.device)
    if mask is None:
        mask = visible.tril() if given.get("is_causal", False) else visible
    else:
        mask = mask & visible if mask.dtype == torch.bool else mask.masked_fill(~visible, -torch.inf)
    return {**given, **changed, "attn_mask": mask, "is_causal": False}


def _entries(rows: tuple[int, ...], n_per_row: int) -> list[int]:
    """Where the entries of some rows are along the first axis."""
    return [row * n_per_row + which for row in rows for which in range(n_per_row)]


def _taken(values: Tensor, rows: list[int]) -> Tensor:
    """Some rows: a view where they follow one another."""
    if rows == list(range(rows[0], rows[-1] + 1)):
        return values[rows[0] : rows[-1] + 1]
    return values[torch.tensor(rows, device=values.device)]


def _put_together(outputs: list[Tensor], rows: list[list[int]]) -> Tensor:
    """The outputs of groups of rows, each in its place."""
    if len(outputs) == 1:
        return outputs[0]
    result = outputs[0].new_empty(sum(map(len, rows)), *outputs[0].shape[1:])
    for output, own in zip(outputs, rows, strict=True):
        _taken_into(result, own, output)
    return result


def _taken_into(result: Tensor, rows: list[int], values: Tensor) -> None:
    if rows == list(range(rows[0], rows[-1] + 1)):
        result[rows[0] : rows[-1] + 1] = values
    else:
        result[torch.tensor(rows, device=result.device)] = values


@dataclass(frozen=True, slots=True)
class AttentionReach:
    """How far back a layer's attention sees."""

    facts: SiteFacts = _FACTS
    joins: Join = "entrance"

    def layers(self, network: Network) -> tuple[int, ...]:
        """All layers; of which of them it holds is for a proof to find."""
        return tuple(layer.index for layer in network.anatomy.layers)

    def width(self, network: Network) -> int:
        """Two numbers."""
        del network
        return 2

    @staticmethod
    @contextmanager
    def watching(run: LayerRun, edits: Mapping[str, EditRows]) -> Iterator[None]:
        """Calls the edits with the reach of all rows, once for each call of attention in the layer.

        Raises:
            SiteError: If the layer calls none.
        """
        with narrowing(run, edits[NAME]):
            yield


@contextmanager
def narrowing(run: LayerRun, reach_of: EditRows, *, evenly: bool = False) -> Iterator[AttentionWatcher]:
    """A watcher over one layer's attention for the length of the block, in which the layer runs.

    Raises:
        SiteError: If the layer calls no attention.
    """
    wiring, stream = run.layer.wiring, run.stream
    watcher = AttentionWatcher(
        run.layer,
        n_rows=stream.shape[wiring.batch_axis],
        n_positions=stream.shape[wiring.position_axis],
        reach_of=reach_of,
        evenly=evenly,
    )
    with watcher:
        yield watcher
    watcher.check()
