"""Target tokens that are followed of a sample's answers, and behind which others.

The probability of any of several answers is that the text goes on with one of them: a sum over token sequences of
which none begins with another, so that tokens that two share count once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from layertracer._types import EncodedAnswer, EncodedSample, TargetTokens

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """Tokens that are followed one behind the other.

    Attributes:
        target_ids: The tokens, one for each position that is read.
        others: Further tokens at the last of these positions, each as good as the last of `target_ids`.
    """

    target_ids: Ids
    others: Ids = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What is followed of a sample's answers.

    Attributes:
        lead_ids: Tokens that all of them begin with and that say nothing of them; read as the end of the prompt.
        first: The continuation of the first answer.
        more: Continuations of other answers that begin with other tokens than it; their probabilities are added.
    """

    lead_ids: Ids
    first: Continuation
    more: tuple[Continuation, ...] = ()


def find_followed(sample: EncodedSample, target_tokens: TargetTokens) -> Followed:
    """What is followed of a sample that has an answer.

    Answers that have their leading tokens in common are followed behind them. Where these differ, what all of them
    begin with is read, and whole products are followed from there.
    """
    answers = sample.answers
    n_lead = _common_length([answer.ids[: answer.n_lead] for answer in answers])
    sequences = [_sequence(answer, n_lead, target_tokens) for answer in answers]
    by_beginning: dict[Ids, list[int]] = {}
    for sequence in _without_extensions(sequences):
        by_beginning.setdefault(sequence[:-1], []).append(sequence[-1])
    first, *more = (
        Continuation(target_ids=(*beginning, last), others=tuple(others))
        for beginning, (last, *others) in by_beginning.items()
    )
    return Followed(lead_ids=sample.answer_ids[:n_lead], first=first, more=tuple(more))


def _sequence(answer: EncodedAnswer, n_lead: int, target_tokens: TargetTokens) -> Ids:
    return answer.ids[n_lead : answer.n_lead + 1 if target_tokens == "first" else None]


def _without_extensions(sequences: Sequence[Ids]) -> list[Ids]:
    """The sequences, each once, that do not begin with another one: what begins with it is one of its continuations."""
    distinct = list(dict.fromkeys(sequences))
    return [one for one in distinct if not any(one[: len(other)] == other for other in distinct if other != one)]


def _common_length(sequences: Sequence[Ids]) -> int:
    """How many tokens all sequences begin with."""
    shortest = min(map(len, sequences))
    different = (i for i in range(shortest) if len({sequence[i] for sequence in sequences}) > 1)
    return next(different, shortest)
