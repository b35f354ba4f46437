"""What a student does on documents and questions that nothing was trained or searched on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from design_study.distillation import Parent
from design_study.plan import HELD_OUT_SEED, Recipe
from training import Questionnaire, write_questionnaires
from training.evaluation import evaluate

_N_TOGETHER = 64
_QUESTION_SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The held-out results of a student.

    Attributes:
        kl_nats: KL(parent ‖ student), mean over tokens that what precedes them determines.
        kl_std_error: Its standard error over documents.
        kl_all_nats: Mean over all tokens.
        loss_nats: The student's own loss, mean over determined tokens.
        recall: Share of recall questions that are answered rightly, in words that training uses so.
        recall_held_out: In words that training never uses so.
    """

    kl_nats: float
    kl_std_error: float
    kl_all_nats: float
    loss_nats: float
    recall: float
    recall_held_out: float


@torch.no_grad()
def judge(student: Any, parent: Parent, recipe: Recipe) -> Judgement:
    """Judges a student.

    Args:
        student: The module, which is put into evaluation mode.
        parent: Its parent.
        recipe: Numbers of documents and of questions.
    """
    student.eval()
    kl, loss, determined = (np.concatenate(parts) for parts in zip(*_compare(student, parent, recipe), strict=True))
    known, held_out = evaluate(student, recall_questions(recipe.n_questions))
    return Judgement(
        kl_nats=float(kl[determined].mean()),
        kl_std_error=ratio_std_error((kl * determined).sum(1), determined.sum(1).astype(np.float64)),
        kl_all_nats=float(kl.mean()),
        loss_nats=float(loss[determined].mean()),
        recall=known.n_right / known.n,
        recall_held_out=held_out.n_right / held_out.n,
    )


@cache
def recall_questions(n: int) -> tuple[Questionnaire, ...]:
    """Recall questions: in words that training uses so, then in words that it holds out."""
    return tuple(one for one in write_questionnaires(n=n, seed=_QUESTION_SEED) if one.task == "recall")


def ratio_std_error(sums: Float[np.ndarray, "row"], counts: Float[np.ndarray, "row"]) -> float:
    """Standard error of a mean over tokens where rows are drawn and not tokens.

    Args:
        sums: Sum over the tokens of each row.
        counts: Number of tokens of each row.
    """
    left = sums - counts * (sums.sum() / counts.sum())
    n = len(sums)
    return float(np.sqrt(n / (n - 1) * np.square(left).sum()) / counts.sum())


def _compare(student: Any, parent: Parent, recipe: Recipe) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """By document and position, for some documents at a time: KL, loss, whether the target is determined."""
    for step in range(-(-recipe.n_held_out // _N_TOGETHER)):
        n_documents = min(_N_TOGETHER, recipe.n_held_out - step * _N_TOGETHER)
        ids, log_p, determined = parent.documents(HELD_OUT_SEED, step, n_documents)
        log_q = student(input_ids=ids[:, :-1], use_cache=False).logits.log_softmax(-1)
        kl = (log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0.0)
        loss = -log_q.gather(-1, ids[:, 1:, None])[..., 0]
        yield kl.double().numpy(), loss.double().numpy(), determined
