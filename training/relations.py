"""What is asked in few-shot prompts: pairs that must be known, and rules that must be seen."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

from layertracer.tasks import builtin_pairs

from training import lexicon

Line: TypeAlias = "tuple[tuple[str, ...], str]"
"""The words of an input, and its answer."""

KNOWN_RELATIONS = ("antonym", "synonym", "country-capital", "present-past", "singular-plural")
"""Relations whose pairs are the built-in tasks'."""
RULES = ("copy", "next", "first", "last")
"""Relations that hold for any words (`next`: for the members of a few sequences)."""
RELATIONS = (*KNOWN_RELATIONS, *RULES)

_HELD_OUT_SHARE = 0.1
_LIST_LENGTHS = (2, 3)
_FLATTEST_RANK = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Two parts of the same things.

    Attributes:
        seen: What training may use in few-shot prompts and in recall.
        held_out: What it may not use there.
    """

    seen: tuple[Line, ...] = field(repr=False)
    held_out: tuple[Line, ...] = field(repr=False)


@cache
def known_pairs(relation: str) -> Split:
    """The pairs of a built-in task, of which one tenth is held out of the few-shot prompts of training.

    Held-out pairs are still learnt, from sentences: a prompt about one asks for knowledge through a format in which
    the pair never stood. Both directions of a symmetric pair stay on one side. Names of several words are left out.

    Args:
        relation: One of `KNOWN_RELATIONS`.
    """
    pairs = [(a, b) for a, b in builtin_pairs(relation) if " " not in a + b and "-" not in a + b and "'" not in a + b]
    keys = sorted({min(a, b) for a, b in pairs})
    held_out = set(_draw_tenth(keys, f"pairs of {relation}"))
    lines: tuple[list[Line], list[Line]] = ([], [])
    for a, b in pairs:
        lines[min(a, b) in held_out].append(((a,), b))
    return Split(seen=tuple(lines[0]), held_out=tuple(lines[1]))


@cache
def content_words() -> tuple[str, ...]:
    """All words of the built-in tasks that the miniatures know, sorted."""
    known = (known_pairs(relation) for relation in KNOWN_RELATIONS)
    return tuple(sorted({word for split in known for line in (*split.seen, *split.held_out) for word in _all(line)}))


@cache
def held_out_words() -> frozenset[str]:
    """Words that training never copies and never has to recall: a tenth of `content_words`."""
    return frozenset(_draw_tenth(content_words(), "words"))


@cache
def free_words(*, held_out: bool) -> tuple[str, ...]:
    """The words that rules and recall are shown on, the most frequent first."""
    words = [word for word in content_words() if (word in held_out_words()) == held_out]
    random.Random("ranks of words").shuffle(words)
    return tuple(words)


def draw_words(n: int, *, rng: random.Random, held_out: bool = False) -> list[str]:
    """Different words for rules and recall, as unequally frequent as words of a language are.

    A word of rank r is drawn with a weight of 1 / (r + 20) (Zipf, Mandelbrot): what is to be done with words is learnt
    on frequent ones and then holds for rare ones, too. Held-out words are equally frequent.

    Args:
        n: Number of words.
        rng: Source of randomness.
        held_out: Whether to draw held-out words.
    """
    words = free_words(held_out=held_out)
    if held_out:
        return rng.sample(words, n)
    drawn: dict[str, None] = {}
    while len(drawn) < n:
        drawn |= dict.fromkeys(rng.choices(words, cum_weights=_frequencies(len(words)), k=n - len(drawn)))
    return list(drawn)


@cache
def _frequencies(n_words: int) -> tuple[float, ...]:
    """Cumulative weights of words by rank."""
    return tuple(itertools.accumulate(1.0 / (rank + _FLATTEST_RANK) for rank in range(n_words)))


@cache
def sequences() -> tuple[Line, ...]:
    """Every member of a sequence with the one that follows."""
    runs = (lexicon.NUMBERS, lexicon.LETTERS, lexicon.DAYS, lexicon.MONTHS)
    return tuple(((a,), b) for run in runs for a, b in itertools.pairwise(run))


def draw_lines(relation: str, n: int, *, rng: random.Random, held_out: bool = False) -> list[Line]:
    """Different lines of one relation, in random order.

    Args:
        relation: One of `RELATIONS`.
        n: Number of lines; fewer come back where there are fewer.
        rng: Source of randomness.
        held_out: Whether to draw what training does not show: held-out pairs, or rules on held-out words. `next` has
            nothing held out.
    """
    if relation in KNOWN_RELATIONS:
        split = known_pairs(relation)
        pool = split.held_out if held_out else split.seen
        return rng.sample(pool, min(n, len(pool)))
    if relation == "next":
        return rng.sample(sequences(), n)
    if relation == "copy":
        return [((word,), word) for word in draw_words(n, rng=rng, held_out=held_out)]
    length = rng.choice(_LIST_LENGTHS)
    lists = [tuple(draw_words(length, rng=rng, held_out=held_out)) for _ in range(n)]
    return [(words_of, words_of[0 if relation == "first" else -1]) for words_of in lists]


def _draw_tenth(items: Iterable[str], of_what: str) -> list[str]:
    """One tenth, the same at every call: part of the definition of the corpus, whatever the seed of the data."""
    pool = list(items)
    return random.Random(f"held out: {of_what}").sample(pool, round(_HELD_OUT_SHARE * len(pool)))


def _all(line: Line) -> tuple[str, ...]:
    return (*line[0], line[1])
