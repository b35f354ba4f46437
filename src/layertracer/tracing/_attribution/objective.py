"""What is differentiated: the log-probability of what is followed of each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer.tracing._batching.prompts import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Followings:
    """Prompts with each continuation that is followed of them, as prompts of their own.

    Attributes:
        prompts: The continuations, numbered anew.
        owners: The prompt of each.
    """

    prompts: tuple[Prompt, ...]
    owners: tuple[int, ...]

    @classmethod
    def of(cls, prompts: Sequence[Prompt]) -> Followings:
        """Those of some prompts."""
        pairs = [(owner, one) for owner, prompt in enumerate(prompts) for one in (prompt, *prompt.more)]
        numbered = (replace(one, index=number, more=()) for number, (_, one) in enumerate(pairs))
        return cls(prompts=tuple(numbered), owners=tuple(owner for owner, _ in pairs))


def followed_ids(prompt: Prompt, logits: Float[Tensor, "read d_vocab"]) -> tuple[int, ...]:
    """The tokens that are followed of a prompt; its own top token where none is named."""
    return prompt.target_ids or (int(logits[-1].argmax()),)


def target_log_probs(
    prompts: Sequence[Prompt], logits: Float[Tensor, "prompt read d_vocab"]
) -> Float[Tensor, " prompt"]:
    """Log-probability of what is followed of each prompt, nats, such that it can be differentiated.

    The sum over the positions that are read; at the last of them the probability is that of any of the tokens that
    count there.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    log_probs = logits.log_softmax(dim=-1)
    return torch.stack([_target_log_prob(prompt, own) for prompt, own in zip(prompts, log_probs, strict=True)])


def _target_log_prob(prompt: Prompt, log_probs: Float[Tensor, "read d_vocab"]) -> Float[Tensor, ""]:
    *before, last = followed_ids(prompt, log_probs)
    total = log_probs[-1, [last, *prompt.others]].logsumexp(dim=0)
    for position, token in enumerate(before):
        total = total + log_probs[position, token]
    return total
