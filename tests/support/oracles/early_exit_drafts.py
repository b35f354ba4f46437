"""What Transformers' own early exit drafts and what the full model makes of it: self-speculative decoding, counted.

`generate(assistant_early_exit=k)` drafts with the first k layers, the final norm and the unembedding, and has the full
model verify. Greedy, with one token a draft and no threshold, a draft is accepted exactly where the readout after k
layers has the top token of the full model. Nothing here imports LayerTracer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.generation.candidate_generator import EarlyExitCandidateGenerator as Drafting

_GREEDY = {
    "num_assistant_tokens": 1,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.0,
}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """One drafted token.

    Attributes:
        prefix: Token ids that it was drafted behind.
        token: The draft.
        is_accepted: Whether the full model says the same.
    """

    prefix: tuple[int, ...]
    token: int
    is_accepted: bool


def drafts_of(module: nn.Module, ids: Sequence[int], *, n_layers: int, n_new: int) -> list[Draft]:
    """The drafts of one greedy generation.

    Args:
        module: A model of Transformers.
        ids: Token ids of the prompt.
        n_layers: Layers that draft.
        n_new: Tokens that are generated.
    """
    tokens = torch.tensor([list(ids)])
    with _settings(module), _watched() as seen, torch.no_grad():
        generated = module.generate(  # type: ignore[operator]  # models of Transformers have it
            tokens,
            attention_mask=torch.ones_like(tokens),
            assistant_early_exit=n_layers,
            do_sample=False,
            max_new_tokens=n_new,
        )
    drafts = [Draft(prefix=prefix, token=token, is_accepted=accepted) for prefix, token, accepted in seen]
    for draft in drafts:  # what is accepted stands in the text, and what is not does not
        stands = int(generated[0, len(draft.prefix)])
        assert (draft.token == stands) == draft.is_accepted
    return drafts


@contextmanager
def _settings(module: Any) -> Iterator[None]:
    """The module's own settings of drafting, for as long as the block."""
    before = {name: getattr(module.generation_config, name) for name in _GREEDY}
    module.generation_config.update(**_GREEDY)
    try:
        yield
    finally:
        module.generation_config.update(**before)


@contextmanager
def _watched() -> Iterator[list[tuple[tuple[int, ...], int, bool]]]:
    """What is drafted in the block, behind what, and whether it is accepted."""
    seen: list[tuple[tuple[int, ...], int, bool]] = []
    waiting: list[tuple[tuple[int, ...], list[int]]] = []
    draft, update = Drafting.get_candidates, Drafting.update_candidate_strategy

    def get_candidates(self: Drafting, input_ids: torch.Tensor, **rest: Any) -> Any:
        candidates, logits = draft(self, input_ids, **rest)
        length = input_ids.shape[1]
        waiting.append((tuple(input_ids[0].tolist()), candidates[0, length:].tolist()))
        return candidates, logits

    def update_candidate_strategy(self: Drafting, input_ids: torch.Tensor, scores: torch.Tensor, matches: int) -> None:
        prefix, tokens = waiting.pop()
        seen.extend((prefix, token, int(matches) == 1) for token in tokens)
        update(self, input_ids, scores, matches)

    Drafting.get_candidates, Drafting.update_candidate_strategy = get_candidates, update_candidate_strategy
    try:
        yield seen
    finally:
        Drafting.get_candidates, Drafting.update_candidate_strategy = draft, update
