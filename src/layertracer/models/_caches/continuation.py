"""Continuation: how tokens are read after a KV cache or a recurrent state, in which calls and told what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from layertracer.models._caches.cached_call import CachedCall


class CallForm(NamedTuple):
    """Form of a call after a cache, as far as models tell such calls apart.

    Attributes:
        has_several: Whether it reads several tokens; Mamba then forgets its state.
        with_positions: Whether the model is told which positions they have; Bamba else takes one token for the first.
    """

    has_several: bool
    with_positions: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """How tokens are read after others; which is right for a model is proved for each use, and none is believed.

    Attributes:
        stepwise: Each token has a call of its own, as models need that forget their state where several follow it.
        shortest: How many tokens a call must have: 2 where the model takes a single one for the first.
        with_positions: The model is told which positions the tokens have.
        few_logits: Whether it may compute logits at the last position alone where only what it remembers is wanted;
            some then cut the stream within the stack.
        one_row: One row at a time.
    """

    stepwise: bool = False
    shortest: int = 1
    with_positions: bool = False
    few_logits: bool = True
    one_row: bool = False

    @property
    def forms(self) -> frozenset[CallForm]:
        """The forms of its calls: all must be right for it to be."""
        counts = {False} if self.stepwise else {True} if self.shortest > 1 else {False, True}
        return frozenset(CallForm(several, self.with_positions) for several in counts)

    def calls(self, n_tokens: int) -> Iterator[tuple[int, int]]:
        """Where each call begins and ends among some tokens."""
        if self.stepwise:
            yield from ((position, position + 1) for position in range(n_tokens))
        else:
            yield 0, n_tokens

    def filled(self, tokens: Tensor) -> Tensor:
        """Tokens [row, position] in no fewer than a call must have: others that nobody reads go with them."""
        missing = self.shortest - tokens.shape[1]
        return tokens if missing <= 0 else tokens.repeat(1, self.shortest)[:, : self.shortest]


CONTINUATIONS = (
    Continuation(),
    Continuation(few_logits=False),
    Continuation(with_positions=True),
    Continuation(shortest=2),
    Continuation(stepwise=True),
    Continuation(stepwise=True, with_positions=True),
    Continuation(stepwise=True, one_row=True),
    Continuation(stepwise=True, one_row=True, with_positions=True),
)
"""Continuations to try. Mamba forgets its state where several tokens follow it; RWKV mixes up the rows of a batch where
a single one does; Bamba takes every single token for the first."""


def continuations_of_spans(call: CachedCall) -> list[Continuation]:
    """Continuations for many tokens of many rows, the best first: the fewer calls, the better."""
    return [one for one in CONTINUATIONS if _is_possible(one, call) and not one.one_row]


def continuations_of_steps(call: CachedCall, *, row_by_row: bool) -> list[Continuation]:
    """Continuations for the few tokens that are read after a prefix, the best first: one at a time, as all caches can.

    Args:
        call: The model.
        row_by_row: Whether its prompts see one another in a batch.
    """
    possible = [one for one in CONTINUATIONS if _is_possible(one, call) and (one.stepwise or one.shortest > 1)]
    return sorted(
        (one for one in possible if one.one_row or not row_by_row), key=lambda one: (one.one_row, not one.stepwise)
    )


def _is_possible(one: Continuation, call: CachedCall) -> bool:
    """Whether a model can be told what a continuation tells it."""
    return (call.takes_positions or not one.with_positions) and (call.keeps_few_logits or one.few_logits)
