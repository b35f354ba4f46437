"""A model on the bench of its lenses: streams of whole texts, and its own tail, proved on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import OutOfMemoryError, SelfCheckError, UsageError
from layertracer.models import find_logits, in_evaluation_mode, keeping_loaded
from layertracer.tracing._batching.memory_budget import SHARE_OF_FREE
from layertracer.tracing._batching.memory_limits import free_bytes
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._failures import explaining_failures
from layertracer.tracing._lenses.streams import StreamRows
from layertracer.tracing._model import TracedModel, refuse_several_vectors
from layertracer.tracing._observers.protocol import observing
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._planning.trace_plan import format_bytes
from layertracer.tracing._proofs.rounding import MOST_READOUT, nats_tolerance
from layertracer.tracing._proofs.self_check import refuse_non_finite

_LOGITS_AT_A_TIME = 2**22
"""16 MiB of float32."""
_COPIES = 3
"""How often the streams are there while they are put together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LensBench:
    """A model whose streams and tail lenses are fitted and measured on.

    Attributes:
        model: The model.
        tail: Its own tail.
        n_at_once: Rows that go through the tail together.
    """

    model: TracedModel
    tail: Tail
    n_at_once: int

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self.model.anatomy.n_layers

    def logits(self, rows: Float[Tensor, "row width"]) -> Float[Tensor, "row d_vocab"]:
        """What the tail makes of rows, a few at a time."""
        return torch.cat([self.tail(part) for part in rows.split(self.n_at_once)])

    def parts(self, n_rows: int) -> Iterator[slice]:
        """Rows in parts that go through the tail together."""
        return (slice(start, min(n_rows, start + self.n_at_once)) for start in range(0, n_rows, self.n_at_once))

    def gather(self, rows: Sequence[Sequence[int]], *, first: int = 1) -> Float[Tensor, "lens_row token width"]:
        """What enters the first layer and leaves every layer, from the second token of each text on.

        The first token is left out: nothing precedes it, and many models keep an attention sink there, of a size by
        which all others would be judged. In the model's type, in main memory.

        Args:
            rows: Token ids of the texts.
            first: The first position that is taken.

        Raises:
            NonFiniteError: If the output is not finite.
            SelfCheckError: If the tail does not read the last layer as the model does on the whole text.
            OutOfMemoryError: If the streams do not fit.
        """
        self._refuse_too_large(rows)
        network, gathered = self.model.network, []
        for number, row in enumerate(rows):
            ids = torch.tensor([list(row)], device=network.device)
            seen = StreamRows(network=network, read=range(first, len(row)), length=len(row))
            with observing(network, [seen]):
                logits = find_logits(network.call(ids), ids)[0, first:]
            streams = seen.stacked(dim=0)[:, 0]
            if not bool(logits.isfinite().any(dim=-1).all()) or bool(logits.isnan().any()):
                refuse_non_finite(network, ids)
            if number == 0:
                self._prove_tail(streams[-1], logits)
            gathered.append(streams.cpu())
        return torch.cat(gathered, dim=1)

    def _prove_tail(self, last: Float[Tensor, "token width"], logits: Float[Tensor, "token d_vocab"]) -> None:
        """Raise where the tail makes something else of single positions than the model does of the whole text."""
        tolerance = MOST_READOUT * nats_tolerance(self.model.network)
        for part in self.parts(len(last)):
            own = log_probs_of(logits[part])
            difference = (log_probs_of(self.tail(last[part])) - own).abs() / (1 + own.abs())
            worst = float(difference.nan_to_num(0.0, posinf=0.0).amax())
            if worst > tolerance:
                raise SelfCheckError(
                    f"What {self.model.name!r} does after its last layer is not the same on single positions as on a "
                    f"whole text: log-probabilities differ by {worst:.3g}. A lens reads single positions, so none can "
                    "be fitted or measured on this model."
                )

    def _refuse_too_large(self, rows: Sequence[Sequence[int]]) -> None:
        anatomy = self.model.anatomy
        n_tokens = sum(len(row) - 1 for row in rows)
        n_bytes = n_tokens * (1 + anatomy.n_layers) * anatomy.d_model * self.model.dtype.itemsize
        may_take = int(free_bytes() * SHARE_OF_FREE)
        if _COPIES * n_bytes > may_take:
            raise OutOfMemoryError(
                f"The streams of {n_tokens:,} tokens of {self.model.name!r} take {format_bytes(n_bytes)}, three times "
                f"that while they are put together, and {format_bytes(may_take)} may be taken. Give less text: "
                f"n_rows={max(1, len(rows) * may_take // (2 * _COPIES * n_bytes))}."
            )


@contextmanager
def lens_bench(model: TracedModel, *, doing: str) -> Iterator[LensBench]:
    """A model on the bench, in evaluation mode and with its outer weights loaded, for the length of the block.

    Args:
        model: The model.
        doing: What is done in the block, for messages.

    Raises:
        UsageError: If it has an encoder, or its stream is not one vector for each token; before anything runs.
    """
    network = model.network
    if network.call.has_encoder:
        raise UsageError(
            f"{model.name!r} reads one text with an encoder and writes another with its decoder: running text is not "
            "what its layers see. Read it with the logit lens, or use a decoder-only model."
        )
    with (
        explaining_failures(model.name, doing),
        in_evaluation_mode(network.call.module),
        keeping_loaded(network.outer_modules),
    ):
        refuse_several_vectors(network, "No lens can be fitted on")
        one_by_one = model.self_check.row_by_row
        n_at_once = 1 if one_by_one else max(1, _LOGITS_AT_A_TIME // model.anatomy.d_vocab)
        yield LensBench(model=model, tail=Tail(network), n_at_once=n_at_once)
