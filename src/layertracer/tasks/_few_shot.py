"""Which pairs are demonstrations, and which are asked about."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from layertracer._errors import EmptyTaskError
from layertracer.tasks._files.material import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A task's pairs, divided.

    Attributes:
        demonstrations: The solved examples that prompts begin with; of several sets, one set behind the other.
        queries: The pairs that are asked about, in the task's order.
        n_shared: Number of pairs left out because they share a word with a demonstration.
    """

    demonstrations: tuple[Pair, ...]
    queries: tuple[Pair, ...]
    n_shared: int


def split_pairs(pairs: Sequence[Pair], *, n_shot: int, seed: int) -> Split:
    """Demonstrations and queries, both chosen by the seed.

    Laws: no input or output of a query stands in a demonstration, in either role; equal seeds give equal splits
    whatever the order of the pairs; the demonstrations share no word with one another.

    Where outputs are labels ("positive", "negative", ...: at most half as many different outputs as pairs), queries
    must share them with demonstrations, and only inputs are compared.

    Args:
        pairs: The pairs, without repetitions.
        n_shot: Number of demonstrations.
        seed: Seed of the order.

    Returns:
        The split; at least one query.

    Raises:
        EmptyTaskError: If there are too few pairs for the demonstrations and one query.
    """
    has_labels = 2 * len({pair.output for pair in pairs}) <= len(pairs)
    order = sorted(pairs, key=lambda pair: _draw(pair, seed))
    demonstrations: list[Pair] = []
    shown: set[str] = set()
    rest: list[Pair] = []
    for pair in order:
        words = _words(pair, has_labels=has_labels)
        if len(demonstrations) < n_shot and not words & shown:
            demonstrations.append(pair)
            shown |= words
        else:
            rest.append(pair)
    queries = tuple(pair for pair in rest if not _words(pair, has_labels=has_labels) & shown)
    if len(demonstrations) < n_shot or not queries:
        raise EmptyTaskError(
            f"No sample is left: n_shot={n_shot} demonstrations and one prompt that shares no word with them cannot "
            f"be chosen from {len(pairs)} pairs. Give a smaller n_shot or more pairs."
        )
    return Split(demonstrations=tuple(demonstrations), queries=queries, n_shared=len(rest) - len(queries))


def _draw(pair: Pair, seed: int) -> bytes:
    """A pair's place in the order: random in the seed, and independent of all other pairs and of Python's version."""
    return hashlib.sha256("\0".join((str(seed), pair.input, pair.output)).encode("utf-8", "surrogatepass")).digest()


def _words(pair: Pair, *, has_labels: bool) -> set[str]:
    """What must not stand both in a query and in a demonstration."""
    words = (pair.input,) if has_labels else (pair.input, pair.output, *pair.others)
    return {word.casefold() for word in words}
