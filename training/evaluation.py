"""How many questions a miniature answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from training.questions import Question, Questionnaire
from training.relations import RELATIONS
from training.vocabulary import token_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The result of one questionnaire.

    Attributes:
        task: What was asked.
        novelty: What was new, see `Questionnaire`.
        n: Number of questions.
        n_right: Number of right answers: the right word is the most probable one, or, where right and wrong words are
            given, the right ones are more probable together.
    """

    task: str
    novelty: str
    n: int
    n_right: int


def evaluate(module: nn.Module, questionnaires: Sequence[Questionnaire]) -> tuple[Score, ...]:
    """The scores of a miniature.

    Args:
        module: In evaluation mode; takes token ids, returns logits.
        questionnaires: What to ask.
    """
    return tuple(
        Score(
            task=asked.task,
            novelty=asked.novelty,
            n=len(asked.questions),
            n_right=sum(_answer(module, asked.questions)),
        )
        for asked in questionnaires
    )


def share_solved(scores: Sequence[Score], novelty: str) -> float:
    """Share of right answers over all relations of one novelty, in [0, 1]."""
    chosen = [score for score in scores if score.task in RELATIONS and score.novelty == novelty]
    return sum(score.n_right for score in chosen) / sum(score.n for score in chosen)


@torch.inference_mode()
def _answer(module: nn.Module, questions: Sequence[Question]) -> list[bool]:
    """Which questions are answered rightly; prompts of one length run together."""
    by_length: dict[int, list[Question]] = defaultdict(list)
    for question in questions:
        by_length[len(question.words)].append(question)
    known = token_ids()
    device = next(module.parameters()).device
    right: list[bool] = []
    for group in by_length.values():
        ids = torch.tensor([[known[word] for word in question.words] for question in group], device=device)
        logits = module(input_ids=ids, use_cache=False).logits[:, -1].float()
        right.extend(_is_right(question, row) for question, row in zip(group, logits.log_softmax(-1), strict=True))
    return right


def _is_right(question: Question, log_probs: torch.Tensor) -> bool:
    known = token_ids()
    right = [known[word] for word in question.right]
    if not question.wrong:
        return int(log_probs.argmax()) in right
    wrong = [known[word] for word in question.wrong]
    return bool(log_probs[right].logsumexp(0) > log_probs[wrong].logsumexp(0))
