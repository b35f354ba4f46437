"""Where token ids become vectors: the embeddings of some tokens seen, and noise put on them.

Noise is put on what the model's own module makes of token ids, wherever else the model uses it (Zamba2 hands the
embeddings to later layers) and whatever it does to it before the first layer (Gemma multiplies it). In a model without
such a module it is put on the stream that enters the first layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from layertracer._errors import SiteError
from layertracer.models import CallRecord, Leaves, Network, flatten, hooking, observe_calls
from layertracer.tracing._batching.rows import from_rows_first, to_rows_first

Order = Literal["rows", "columns", "flat"]
"""How ids come to the module: [row, position], [position, row], or all rows behind one another."""

_BATCH, _LENGTH = 2, 3


class _Seen(Exception):  # noqa: N818 - not an error: it ends a forward of which no more is needed
    """Raised once the embeddings have been seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """The place at which noise is put on a prompt's tokens.

    Attributes:
        network: The model.
        module: What turns token ids into embeddings; None for the stream that enters the first layer.
        order: In which order ids come to it.
    """

    network: Network
    module: nn.Module | None
    order: Order = "rows"

    @property
    def note(self) -> str:
        """What a user should know of it."""
        if self.module is not None:
            return ""
        return (
            f"Noise is put on the stream that enters the first layer: {self.network.name!r} has no module that turns "
            "token ids into embeddings."
        )

    def values(self, ids: Tensor) -> Tensor:
        """What stands there, [prompt, position, …, width], in float32; no layer runs."""
        seen: list[Tensor] = []

        def see(values: Tensor) -> Tensor:
            seen.append(values.float())
            raise _Seen

        with self._exchanging(see, ids), suppress(_Seen):
            self.network.call(ids)
        return seen[0]

    @contextmanager
    def adding(self, ids: Tensor, noise: Tensor | None) -> Iterator[None]:
        """Noise is added while the model reads these very prompts, or spans of them, in the block.

        Whatever else it reads meanwhile, such as a probe, is left alone: prompts are told by the memory that their ids
        lie in.

        Args:
            ids: Token ids [prompt, position] of whole prompts; spans of them are views of it.
            noise: [prompt, position, …, width]; None for none.
        """
        if noise is None:
            yield
            return

        def add(values: Tensor) -> Tensor:
            own: Tensor = noise[:, span.first : span.first + span.n_tokens]
            return values + own.to(values.device, values.dtype)

        span = _Span(ids)
        with self._telling(span), self._exchanging(add, ids, span=span):
            yield

    def _telling(self, span: _Span) -> Any:
        """Which positions are being read is told whenever the model is called."""
        call = self.network.call

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            del module
            span.set(args[0] if call.ids_name is None else kwargs[call.ids_name])

        return hooking([call.module], before=before)

    @contextmanager
    def _exchanging(self, exchange: Any, ids: Tensor, *, span: _Span | None = None) -> Iterator[None]:
        """What stands there, [prompt, position, …, width], as `exchange` makes it."""
        span = span or _Span(ids, n_tokens=ids.shape[1])
        with ExitStack() as stack:
            if self.module is not None:

                def after(_: Any, __: Any, ___: Any, output: Tensor) -> Tensor | None:
                    return self._exchanged(output, exchange, span) if span.n_tokens else None

                stack.enter_context(hooking([self.module], after=after))
            else:
                layer = self.network.anatomy.layers[0]

                def before(_: Any, args: Any, kwargs: Any) -> Any:
                    return self._changed_stream(flatten((args, kwargs)), exchange, span) if span.n_tokens else None

                stack.enter_context(hooking([layer.module], before=before))
            yield

    def _exchanged(self, output: Tensor, exchange: Any, span: _Span) -> Tensor:
        """A module's output with what `exchange` makes of it, in the module's own order."""
        n_rows, width = span.n_rows, output.shape[-1]
        if output.numel() != n_rows * span.n_tokens * width:
            raise SiteError(
                f"The embeddings of {self.network.name!r} were made in another form than when it was looked at "
                f"({list(output.shape)} of {n_rows} prompts of {span.n_tokens} tokens), so that no noise can be put on "
                'them. Use corrupt="swap".'
            )
        if self.order == "columns":
            turned: Tensor = exchange(output.transpose(0, 1)).transpose(0, 1)
            return turned
        changed: Tensor = exchange(output.reshape(n_rows, span.n_tokens, width))
        return changed.reshape(output.shape)

    def _changed_stream(self, leaves: Leaves, exchange: Any, span: _Span) -> Any:
        """The first layer's arguments with the tokens' entries of the stream changed."""
        wiring = self.network.anatomy.layers[0].wiring
        rows = to_rows_first(leaves.values[wiring.stream_in], wiring).clone()
        tokens = rows.narrow(1, wiring.n_leading, wiring.n_parallel * span.n_tokens)
        if wiring.n_parallel == 1:
            tokens.copy_(exchange(tokens))
        else:
            entries = tokens.unflatten(1, (wiring.n_parallel, span.n_tokens)).transpose(1, 2)
            tokens.copy_(exchange(entries).transpose(1, 2).flatten(1, 2))
        return leaves.replaced(wiring.stream_in, from_rows_first(rows, wiring))


class _Span:
    """The positions of some prompts that a model is reading.

    Args:
        ids: Token ids [prompt, position] of whole prompts.
        n_tokens: How many are being read; 0 while something else is.
    """

    def __init__(self, ids: Tensor, n_tokens: int = 0) -> None:
        self._ids = ids
        self.first, self.n_tokens = 0, n_tokens

    @property
    def n_rows(self) -> int:
        """How many prompts."""
        return len(self._ids)

    def set(self, ids: Tensor) -> None:
        """Take in what is being read."""
        own = self._ids
        is_own = ids.untyped_storage().data_ptr() == own.untyped_storage().data_ptr() and len(ids) == len(own)
        self.first = int(ids.storage_offset() - own.storage_offset()) if is_own else 0
        self.n_tokens = ids.shape[1] if is_own else 0


def find_entrance(network: Network) -> Entrance:
    """Where a model's token ids become embeddings, found by running it."""
    probed, ids = network.probe(batch=_BATCH, length=_LENGTH, seed=6)
    own = _input_embeddings(network.call.module)
    modules = [part for part in network.call.module.modules() if isinstance(part, nn.Embedding)]
    calls = observe_calls([*([] if own is None else [own]), *modules], lambda: probed.call(ids))
    found = [(call.module, order) for call in calls if (order := _order_of(call, ids)) is not None]
    found.sort(key=lambda one: one[0] is not own)  # the model's own word comes first
    if not found:
        return Entrance(network=network, module=None)
    return Entrance(network=network, module=found[0][0], order=found[0][1])


def _input_embeddings(module: nn.Module) -> nn.Module | None:
    """What a model says turns ids into embeddings."""
    ask: Any = getattr(module, "get_input_embeddings", None)
    try:
        found = ask() if callable(ask) else None
    except Exception:  # noqa: BLE001 - models without them say so by whatever they raise
        return None
    return found if isinstance(found, nn.Module) else None


def _order_of(call: CallRecord, ids: Tensor) -> Order | None:
    """In which order a module was given the ids; None where it was given something else or returned no vectors."""
    assert call.outputs is not None  # the probe has ended
    given = [leaf for _, leaf in call.inputs.tensors()]
    made = [leaf for _, leaf in call.outputs.tensors()]
    if len(given) != 1 or len(made) != 1 or not made[0].is_floating_point() or made[0].shape[:-1] != given[0].shape:
        return None
    forms: dict[Order, Tensor] = {"rows": ids, "columns": ids.T, "flat": ids.flatten()}
    for order, form in forms.items():
        if given[0].shape == form.shape and torch.equal(given[0].to(form.device), form):
            return order
    return None
