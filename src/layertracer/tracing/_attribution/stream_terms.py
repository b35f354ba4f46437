"""Terms of the residual stream at the positions that are read: the embeddings, and everything that is added to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from layertracer.models import Layer, Network, Role, flatten, replacing_forward
from layertracer.tracing._attribution.not_measured import NotMeasured
from layertracer.tracing._batching.rows import gather_rows, to_rows_first
from layertracer.tracing._sites.branch_output import watching


@dataclass(slots=True, kw_only=True)
class StreamTerms:
    """What the stream is made of, at the positions that are read.

    Attributes:
        network: The model.
        read: The positions, at equal distances.
        length: How many tokens the prompts have.
        entering: What enters the first layer, [prompt, read, width].
        added: Every addition with its layer and role, in order.
        left: What leaves each layer.
    """

    network: Network
    read: Sequence[int]
    length: int
    entering: Tensor | None = None
    added: list[tuple[int, Role, Float[Tensor, "prompt read width"]]] = field(default_factory=list)
    left: list[Float[Tensor, "prompt read width"]] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Everything that runs in the block is taken in.

        Raises:
            SiteError: If a layer runs through other code than when its additions were found.
            NotMeasured: If its stream is no vector a token.
        """
        with ExitStack() as stack:
            for layer in self.network.anatomy.layers:
                stack.enter_context(replacing_forward(layer.module, self._watched(layer)))
            yield

    def _watched(self, layer: Layer) -> Callable[..., Any]:
        forward, wiring = layer.module.forward, layer.wiring

        def watched(*args: Any, **kwargs: Any) -> Any:
            stream = flatten((args, kwargs)).values[wiring.stream_in]
            if layer.index == 0:
                self.entering = self._copied(layer, stream)

            def take(added: Tensor, role: Role) -> None:
                self.added.append((layer.index, role, self._copied(layer, added)))

            with watching(layer, stream, take):
                output = forward(*args, **kwargs)
            self.left.append(self._copied(layer, flatten(output).values[wiring.stream_out]))
            return output

        return watched

    def _copied(self, layer: Layer, stream: Tensor) -> Tensor:
        rows = gather_rows(to_rows_first(stream, layer.wiring), layer.wiring, self.read, length=self.length)
        if rows.ndim != 3:
            raise NotMeasured(f"its stream holds {list(rows.shape[2:])} numbers for each token, not one vector")
        return rows.to(self.network.device)
