"""The other way: the trained hybrids, their layers removed or windowed one by one: what carries recall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

import layertracer as lt
from layertracer.tracing import JudgedRow, RowMeasures, make_substituter

from design_study.inside import draw_rows, load_inside
from design_study.judgement import recall_questions
from design_study.plan import SEARCH_SEED
from training import Question
from training.vocabulary import token_ids

HYBRIDS = ("hybrid", "hybrid-seed1", "hybrid-seed2", "hybrid-s", "hybrid-l")
WINDOW = 8
"""The answers of many recall questions lie farther back than that."""
N_QUESTIONS = 200
N_ROWS = 32


def take_apart(name: str, *, n_questions: int = N_QUESTIONS, n_rows: int = N_ROWS) -> pd.DataFrame:
    """What a trained hybrid loses without each of its layers' mixers, and without all of a kind.

    Args:
        name: The hybrid.
        n_questions: Recall questions.
        n_rows: Documents.

    Returns:
        A row a substitute and set of layers: `layers`, `mixer` (their kind), `recall` (share of the questions answered
        rightly), `full_recall`, `n_questions`, and `kl_nats` on determined tokens of documents.
    """
    model = load_inside(name)
    kinds = [layer.mixer for layer in model.anatomy.layers]
    asked = ask_recall(n_questions)
    rows: list[dict[str, object]] = []
    for substitute in (lt.NoMixer(), lt.Window(WINDOW)):
        substituter = make_substituter(model, substitute)
        sets = list(_sets_of_layers(substituter.placeable, kinds))
        placements = [tuple(sorted(set(substituter.placeable) - set(gone))) for gone in sets]
        far = [one for one in asked if one[2] >= substitute.n_seen]
        answers = substituter.measure([row for row, _, _ in far], placements)
        documents = substituter.measure(draw_rows(SEARCH_SEED, n_rows, n_seen=substitute.n_seen), placements)
        kl = np.concatenate([row.kl_nats for row in documents], axis=1).mean(axis=1)
        recall, full = _share_right(answers, [answer for _, answer, _ in far])
        for index, gone in enumerate(sets):
            shared = {"model": name, "substitute": substitute.describe(), "n_questions": len(far), "full_recall": full}
            of_set = {"layers": "+".join(map(str, gone)), "mixer": " and ".join(sorted({kinds[one] for one in gone}))}
            rows.append(shared | of_set | {"recall": float(recall[index]), "kl_nats": float(kl[index])})
    return pd.DataFrame(rows)


def ask_recall(n: int) -> list[tuple[JudgedRow, int, int]]:
    """Recall questions in words that training uses so: the prompt, its answer, how far back that stands.

    Args:
        n: Number of questions.
    """
    (known, _) = recall_questions(n)
    return [_as_row(question) for question in known.questions]


def _as_row(question: Question) -> tuple[JudgedRow, int, int]:
    (answer,) = question.right
    last = len(question.words) - 1
    ids = tuple(token_ids()[word] for word in question.words)
    return JudgedRow(ids=ids, read=(last,)), token_ids()[answer], last - question.words.index(answer)


def _sets_of_layers(placeable: Sequence[int], kinds: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Each layer alone, then all of each kind."""
    yield from ((layer,) for layer in placeable)
    for kind in dict.fromkeys(kinds[layer] for layer in placeable):
        yield tuple(layer for layer in placeable if kinds[layer] == kind)


def _share_right(answers: Sequence[RowMeasures], right: Sequence[int]) -> tuple[np.ndarray, float]:
    """Share of questions whose answer is the top token: by placement, and of the full model."""
    is_right = np.stack([row.top_ids[:, -1] == answer for row, answer in zip(answers, right, strict=True)], axis=1)
    full = [row.full_top_ids[-1] == answer for row, answer in zip(answers, right, strict=True)]
    return is_right.mean(axis=1), float(np.mean(full))
