"""What trained miniatures are asked: prompts that training did not hold, that are new in one thing each."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import chain

from layertracer._types import Sample

from training import lexicon
from training.documents import (
    DEFAULT_TEMPLATE,
    FOREIGN_TEMPLATES,
    HELD_OUT_TEMPLATES,
    RECALL_FORMS,
    Token,
    draw_bindings,
    is_held_out_sum,
    write_bindings,
    write_line,
    write_subject,
    write_sum,
)
from training.relations import RELATIONS, Line, draw_lines

N_SHOT = 4
NOVELTIES = ("prompts", "pairs", "templates", "words")
"""What of a question about a relation is new, see `Questionnaire`."""
_TEMPLATES = {"templates": HELD_OUT_TEMPLATES, "words": FOREIGN_TEMPLATES}
_N_KEYS = (2, 3, 4, 5, 6)
_LARGEST_TERM = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One prompt with what may follow.

    Attributes:
        words: The prompt, with its start token.
        right: Words any of which is right.
        wrong: Words that the right ones are weighed against; none where every other word is wrong.
    """

    words: tuple[str, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Questionnaire:
    """Questions of one kind.

    Attributes:
        task: What is asked: a relation, "recall", "arithmetic" or "agreement".
        novelty: "prompts" (pairs of training, in its commonest template, in prompts of their own), "pairs" (pairs,
            words or sums that training held out), "templates" (a template that training held out), or "words"
            (templates with a word that no template of training has).
        questions: The questions.
    """

    task: str
    novelty: str
    questions: tuple[Question, ...]


def write_questionnaires(*, n: int = 100, seed: int = 0) -> tuple[Questionnaire, ...]:
    """Every kind of question, `n` of each.

    Law: equal arguments give equal questions.

    Args:
        n: Questions of a kind.
        seed: Seed of their choice.
    """

    def fill(task: str, novelty: str) -> Questionnaire:
        rng = random.Random(f"questions about {task}, {novelty}, seed {seed}")
        write = _WRITERS.get(task, _ask_relation)
        questions = tuple(write(rng, task, novelty) for _ in range(n))
        return Questionnaire(task=task, novelty=novelty, questions=questions)

    relations = [(task, novelty) for task in RELATIONS for novelty in NOVELTIES]
    others = [("recall", "prompts"), ("recall", "pairs"), ("arithmetic", "pairs"), ("agreement", "prompts")]
    # The sequences of `next` are all known to training.
    return tuple(fill(*kind) for kind in (*relations, *others) if kind != ("next", "pairs"))


def write_samples(task: str, *, n: int, seed: int = 0) -> tuple[Sample, ...]:
    """Prompts of one kind as samples for a trace.

    Args:
        task: One of the relations, or "recall".
        n: Number of samples.
        seed: Seed of their choice.

    Returns:
        Samples as text, without the start token, which the tokenizer adds.
    """
    rng = random.Random(f"samples of {task}, seed {seed}")
    write = _WRITERS.get(task, _ask_relation)
    asked = [write(rng, task, "prompts") for _ in range(n)]
    return tuple(
        Sample(prompt=" ".join(question.words[1:]).replace(" \n ", "\n"), answer=f" {question.right[0]}")
        for question in asked
    )


def _ask_relation(rng: random.Random, task: str, novelty: str) -> Question:
    """Demonstrations and a query that shares no word with them."""
    template = rng.choice(_TEMPLATES.get(novelty, (DEFAULT_TEMPLATE,)))
    query = draw_lines(task, 1, rng=rng, held_out=novelty == "pairs")[0]
    asked = {*query[0], query[1]}
    candidates = draw_lines(task, 4 * N_SHOT, rng=rng)
    shown = [line for line in candidates if not asked & {*line[0], line[1]}][:N_SHOT]
    tokens = [token for line in (*shown, query) for token in write_line(template, line, determined=True)]
    return _cut(tokens, query)


def _cut(tokens: list[Token], query: Line) -> Question:
    """The prompt up to where the answer is due."""
    words = [word for word, _ in tokens]
    end = len(words) - 1 - words[::-1].index(query[1])
    return Question(words=(lexicon.BEGIN, *words[:end]), right=(query[1],))


def _ask_recall(rng: random.Random, task: str, novelty: str) -> Question:
    """Some keys with values, and one key."""
    del task
    form = rng.choice(RECALL_FORMS)
    bindings = draw_bindings(rng, rng.choice(_N_KEYS), held_out=novelty == "pairs")
    key, value = rng.choice(bindings)
    shown = (word for word, _ in write_bindings(bindings, form))
    return Question(words=(lexicon.BEGIN, *shown, key, *filter(None, form[2:])), right=(value,))


def _ask_sum(rng: random.Random, task: str, novelty: str) -> Question:
    """A sum that training held out, after three others."""
    del task, novelty
    terms = [(a, b) for a in range(_LARGEST_TERM + 1) for b in range(_LARGEST_TERM + 1)]
    shown = rng.sample([pair for pair in terms if not is_held_out_sum(*pair)], 3)
    asked = rng.choice([pair for pair in terms if is_held_out_sum(*pair)])
    words = [word for pair in (*shown, asked) for word, _ in write_sum(*pair, sign="+")]
    return Question(words=(lexicon.BEGIN, *words[:-2]), right=(str(sum(asked)),))


def _ask_agreement(rng: random.Random, task: str, novelty: str) -> Question:
    """A sentence up to its verb, after another sentence; the verb's number is what counts."""
    del task, novelty
    before, number_before = write_subject(rng)
    subject, number = write_subject(rng)
    first = [word for word, _ in before] + [rng.choice(lexicon.VERBS)[number_before], rng.choice(lexicon.ADVERBS), "."]
    forms = tuple(zip(*lexicon.VERBS, strict=True))
    return Question(
        words=tuple(chain([lexicon.BEGIN], first, (word for word, _ in subject))),
        right=forms[number],
        wrong=forms[1 - number],
    )


_WRITERS = {"recall": _ask_recall, "arithmetic": _ask_sum, "agreement": _ask_agreement}
