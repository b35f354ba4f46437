"""Recall: keys with values, and one key that is asked for. Generated; its answers stand in the prompt, far back."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from layertracer._errors import EmptyTaskError
from layertracer._types import Sample
from layertracer.tasks._builtin import builtin_pairs
from layertracer.tasks._files.content import hash_content
from layertracer.tasks._files.material import Material
from layertracer.tasks._recipe import RecallOptions, TaskOptions

N_PROMPTS = 256
"""Prompts where no limit is given: there are as many as anybody asks for."""

_WORD_TASKS = ("antonym", "synonym", "present-past", "singular-plural")
_LENGTHS = range(3, 7)
"""Letters of a word: common words so short are one token in most vocabularies."""


@cache
def recall_words() -> tuple[str, ...]:
    """The words that keys and values are drawn from, sorted: short inputs of the built-in word pairs."""
    inputs = {word for task in _WORD_TASKS for word, _ in builtin_pairs(task)}
    return tuple(sorted(word for word in inputs if len(word) in _LENGTHS and word.isascii() and word.islower()))


def recall_material() -> Material:
    """What prompts of recall are made of."""
    words = recall_words()
    return Material(sha256=hash_content("\n".join(words).encode()), words=words)


def make_recall(words: Sequence[str], options: TaskOptions) -> tuple[Sample, ...]:
    r"""Prompts that bind keys to values and ask for the value of one key.

    "key value, key value, …" on one line, `n_shot` other keys with their values again, one a line, and the key that is
    asked for. All words of a prompt differ. Which words, their order, the demonstrations and the key that is asked for
    are drawn by the seed, anew for every prompt; the pairs that are not asked for are distractors.

    Laws: equal arguments give equal prompts; the first n do not depend on the limit; the value stands once in the
    prompt, the key that is asked for twice; at least `min_distance` pairs stand between them and the end of the first
    line.

    Args:
        words: What to draw from.
        options: `n_shot`, `limit`, `seed` and `recall`.

    Raises:
        EmptyTaskError: If there are too few words.
    """
    recall = options.recall
    if 2 * recall.n_keys > len(words):
        raise EmptyTaskError(
            f"No sample is left: n_keys={recall.n_keys} keys with a value each take {2 * recall.n_keys} different "
            f"words, and there are {len(words)} to draw from. Give a smaller n_keys."
        )
    n = N_PROMPTS if options.limit is None else options.limit
    return tuple(
        _write(words, n_shot=options.n_shot, recall=recall, rng=random.Random(f"recall {options.seed} {index}"))
        for index in range(n)
    )


def _write(words: Sequence[str], *, n_shot: int, recall: RecallOptions, rng: random.Random) -> Sample:
    """One prompt."""
    drawn = rng.sample(words, 2 * recall.n_keys)
    pairs = list(zip(drawn[: recall.n_keys], drawn[recall.n_keys :], strict=True))
    asked = rng.randrange(recall.n_keys - recall.min_distance)
    shown = rng.sample([pair for place, pair in enumerate(pairs) if place != asked], n_shot)
    lines = [", ".join(f"{key} {value}" for key, value in pairs), *(f"{key} {value}" for key, value in shown)]
    key, value = pairs[asked]
    return Sample(prompt="\n".join([*lines, key]), answer=f" {value}")
