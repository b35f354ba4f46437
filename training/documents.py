"""The kinds of documents, each longer than is asked for and cut by whoever reads it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeAlias

from training import lexicon
from training.relations import KNOWN_RELATIONS, RELATIONS, Line, draw_lines, draw_words, known_pairs

Token: TypeAlias = "tuple[str, bool]"
"""A word, and whether what stands before it determines it."""

DEFAULT_TEMPLATE = "{x} -> {y} \n"
"""The built-in tasks' own: one line of few-shot prompts in three is written so, the others as `draw_template` draws."""

_PREFIXES = ("Q", "in", "word", "one")
_SEPARATORS = ("->", ":", "=", ",", "|", "?", "-", "becomes", "is", "as", "and", "for")
_ENDS = (lexicon.NEWLINE, ";", ".")

HELD_OUT_TEMPLATES = ("{x} | {y} \n",)
"""A separator and an end that training shows often, and never together."""

FOREIGN_TEMPLATES = ("{x} means {y} ;", "out {x} = {y} .")
"""Templates with a word that training never writes lines with, though it knows the word from elsewhere."""

FACTS = {
    "antonym": ("the opposite of {x} is {y} .", "{x} but opposite {y} ."),
    "synonym": ("{x} means the same as {y} .", "{x} is a word for {y} ."),
    "country-capital": ("the capital of {x} is {y} .", "{x} has the capital city {y} ."),
    "present-past": ("the past form of {x} is {y} .", "they {x} and yesterday they {y} ."),
    "singular-plural": ("the plural of {x} is {y} .", "one {x} but many {y} ."),
}
"""Sentences that state a pair of a built-in task."""

LABELS = {
    "antonym": "opposite",
    "synonym": "same",
    "country-capital": "capital",
    "present-past": "past",
    "singular-plural": "plural",
}
"""Names of the relations, for lines that name what they state."""

RECALL_FORMS = (("", ",", ""), ("", ";", ""), ("=", ",", "?"), (":", ";", "->"), ("is", "and", "->"))
"""Sign between a key and its value, sign between pairs, sign behind a key that is asked for; "" for none."""

_ARITHMETIC_LIMIT = 20
_SHARE_DEFAULT = 0.35
_SHARE_PREFIXED = 0.25
_SHARE_DISTRACTED = 0.15
_SHARE_LABELLED = 0.5
_SHARE_HELD_OUT = 0.25
_RELATION_WEIGHTS = (4, 4, 2, 3, 3, 4, 2, 5, 5)


def draw_template(rng: random.Random) -> str:
    """How the lines of one few-shot prompt are written: perhaps a word, the input, a separator, the answer, an end."""
    if rng.random() < _SHARE_DEFAULT:
        return DEFAULT_TEMPLATE
    prefix = f"{rng.choice(_PREFIXES)} " if rng.random() < _SHARE_PREFIXED else ""
    template = f"{prefix}{{x}} {rng.choice(_SEPARATORS)} {{y}} {rng.choice(_ENDS)}"
    return DEFAULT_TEMPLATE if template in HELD_OUT_TEMPLATES else template


def write_line(template: str, line: Line, *, determined: bool, known_template: bool | None = None) -> list[Token]:
    """One line in a template.

    Args:
        template: With {x} and {y}; words are parted by single spaces.
        line: What is stated.
        determined: Whether what precedes determines the answer: other lines say what is asked.
        known_template: Whether it determines the template's own words; as `determined` if None.
    """
    known = determined if known_template is None else known_template
    tokens: list[Token] = []
    for word in template.split(" "):
        if word == "{x}":
            tokens += [(part, False) for part in line[0]]
        else:
            tokens.append((line[1], determined) if word == "{y}" else (word, known))
    return tokens


def write_few_shot(rng: random.Random, n_tokens: int) -> Iterator[Token]:
    """Lines of one relation in one template; sometimes a sentence stands between two of them."""
    relation = rng.choices(RELATIONS, _RELATION_WEIGHTS)[0]
    template = draw_template(rng)
    lines = draw_lines(relation, n_tokens // 4 + 1, rng=rng)
    distracted = rng.randrange(1, 6) if rng.random() < _SHARE_DISTRACTED else 0
    for index, line in enumerate(lines):
        if index and index == distracted:
            yield from chain(_write_sentence(rng), [(lexicon.NEWLINE, False)])
        yield from write_line(template, line, determined=index > 0)


def write_facts(rng: random.Random, n_tokens: int) -> Iterator[Token]:
    """Pairs of all built-in tasks, those held out of few-shot prompts among them, with the relation's name."""
    del n_tokens
    template = draw_template(rng) if rng.random() < _SHARE_LABELLED else None
    while True:
        relation = rng.choices(KNOWN_RELATIONS, _RELATION_WEIGHTS[: len(KNOWN_RELATIONS)])[0]
        split = known_pairs(relation)
        # Held-out pairs are stated more often: few-shot prompts teach the others beside.
        pool = split.held_out if rng.random() < _SHARE_HELD_OUT else split.seen
        how = rng.choice(FACTS[relation]) if template is None else f"{LABELS[relation]} {template}"
        yield from write_line(how, rng.choice(pool), determined=True, known_template=False)


def write_repetition(rng: random.Random, n_tokens: int) -> Iterator[Token]:
    """Some words in a row, again and again."""
    words = draw_words(rng.randint(3, 10), rng=rng)
    for turn in range(n_tokens):
        yield from ((word, turn > 0) for word in words)


def write_recall(rng: random.Random, n_tokens: int) -> Iterator[Token]:
    """Keys with values, then keys that ask for them; then new ones."""
    del n_tokens
    while True:
        form = rng.choice(RECALL_FORMS)
        bindings = draw_bindings(rng, rng.randint(2, 6))
        yield from write_bindings(bindings, form)
        for key, value in rng.sample(bindings, len(bindings)):
            yield (key, False)
            yield from ((word, True) for word in (form[2], value, lexicon.NEWLINE) if word)


def draw_bindings(rng: random.Random, n: int, *, held_out: bool = False) -> list[tuple[str, str]]:
    """Keys with values, all different."""
    words = draw_words(2 * n, rng=rng, held_out=held_out)
    return list(zip(words[:n], words[n:], strict=True))


def write_bindings(bindings: list[tuple[str, str]], form: tuple[str, str, str]) -> Iterator[Token]:
    """Keys with their values, in the signs of one form."""
    for index, (key, value) in enumerate(bindings):
        last = index == len(bindings) - 1
        tokens = ((key, False), (form[0], True), (value, False), (lexicon.NEWLINE if last else form[1], False))
        yield from (token for token in tokens if token[0])


def write_arithmetic(rng: random.Random, n_tokens: int) -> Iterator[Token]:
    """Sums and differences up to 40, one a line; sums held out by `is_held_out_sum` are left out."""
    del n_tokens
    while True:
        a, b = rng.randint(0, _ARITHMETIC_LIMIT), rng.randint(0, _ARITHMETIC_LIMIT)
        if not is_held_out_sum(a, b):
            yield from write_sum(a, b, sign="+")
        yield from write_sum(a + b, b, sign="-")


def is_held_out_sum(a: int, b: int) -> bool:
    """Whether training leaves this sum out: one in eleven."""
    return (3 * a + 5 * b) % 11 == 0


def write_sum(a: int, b: int, *, sign: str) -> list[Token]:
    """One sum or difference, which must lie between 0 and 40."""
    result = a + b if sign == "+" else a - b
    return [(str(a), False), (sign, False), (str(b), False), ("=", True), (str(result), True), (lexicon.NEWLINE, True)]


def write_sentences(rng: random.Random, n_tokens: int) -> Iterator[Token]:
    """Sentences whose verb agrees with its noun, past a noun of either number."""
    del n_tokens
    while True:
        yield from _write_sentence(rng)


def _write_sentence(rng: random.Random) -> list[Token]:
    subject, number = write_subject(rng)
    verb = rng.choice(lexicon.VERBS)[number]
    return [*subject, (verb, True), (rng.choice(lexicon.ADVERBS), False), (".", True)]


def write_subject(rng: random.Random) -> tuple[list[Token], int]:
    """A subject with a distracting noun behind it, and 0 where its verb is singular, 1 where it is plural."""
    noun, number = _draw_noun(rng)
    tokens = [("the", False), (noun, False)]
    if rng.random() < 0.6:
        other, _ = _draw_noun(rng)
        tokens += [(rng.choice(lexicon.PREPOSITIONS), False), ("the", True), (other, False)]
    return tokens, number


def _draw_noun(rng: random.Random) -> tuple[str, int]:
    (singular,), plural = rng.choice(known_pairs("singular-plural").seen)
    number = rng.randrange(2)
    return (singular, plural)[number], number


KINDS: dict[str, tuple[int, Callable[[random.Random, int], Iterator[Token]]]] = {
    "few-shot": (44, write_few_shot),
    "facts": (18, write_facts),
    "recall": (18, write_recall),
    "repetition": (8, write_repetition),
    "arithmetic": (5, write_arithmetic),
    "sentences": (7, write_sentences),
}
"""Kinds of documents by name: how many in a hundred, and how one is written."""
