"""Shared prefixes of prompts: a tree of tokens that are read once for all prompts under them.

Few-shot prompts share their demonstrations, chats their system prompt. What is done to a layer does not
depend on the prompt, so that the perturbed states of a common beginning are the same for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from layertracer.tracing._batching.prompts import Prompt

_WORTH = 16
"""Tokens that reading a prefix once must save, counted over its prompts: about what one more pass costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixNode:
    """Prompts with a common beginning.

    Attributes:
        start: Where the node above ends.
        end: How many tokens all prompts under this node have in common; 0 at a root without a prefix.
        prompts: The prompts whose own tokens begin at `end`.
        children: Groups of prompts that have more in common with one another.
    """

    start: int
    end: int
    prompts: tuple[Prompt, ...]
    children: tuple[PrefixNode, ...] = ()

    @property
    def first(self) -> Prompt:
        """Any of its prompts: they begin alike."""
        return self.prompts[0] if self.prompts else self.children[0].first

    @property
    def n_prompts(self) -> int:
        """How many prompts are under it."""
        return len(self.prompts) + sum(child.n_prompts for child in self.children)

    def nodes(self) -> Iterator[PrefixNode]:
        """Itself and every node under it."""
        yield self
        for child in self.children:
            yield from child.nodes()


def without_prefixes(prompts: Sequence[Prompt]) -> PrefixNode:
    """A tree in which nothing is shared."""
    return PrefixNode(start=0, end=0, prompts=tuple(prompts))


def tokens_saved(root: PrefixNode) -> int:
    """How many tokens less are read than if every prompt were read whole."""
    return sum((node.n_prompts - 1) * (node.end - node.start) for node in root.nodes() if node.end)


def plan_prefixes(prompts: Sequence[Prompt], *, shortest: int = 1) -> PrefixNode:
    """The tree of prefixes that are worth reading once.

    Args:
        prompts: Prompts of one task, in any order.
        shortest: How many tokens must be left to read after a prefix, and between two of them.

    Returns:
        The root; its own prompts are those that share nothing worth it.
    """
    in_order = sorted(prompts, key=lambda prompt: (prompt.ids, prompt.index))
    return _group(in_order, start=0, end=0, shortest=shortest)


def _group(prompts: Sequence[Prompt], *, start: int, end: int, shortest: int) -> PrefixNode:
    """Prompts that begin with the same `end` tokens, sorted by their tokens."""
    own: list[Prompt] = []
    children: list[PrefixNode] = []
    for _, same in groupby(prompts, key=lambda prompt: prompt.ids[end : end + 1]):
        group = list(same)
        common = _common(group, shortest=shortest)
        if common - end >= shortest and (len(group) - 1) * (common - end) >= _WORTH:
            children.append(_group(group, start=end, end=common, shortest=shortest))
        else:
            own += group
    own.sort(key=lambda prompt: prompt.index)
    return PrefixNode(start=start, end=end, prompts=tuple(own), children=tuple(children))


def _common(prompts: Sequence[Prompt], *, shortest: int) -> int:
    """How many tokens sorted prompts have in common, all of them before the first position that is read."""
    first, last = prompts[0].ids, prompts[-1].ids
    most = min(min(prompt.read[0], len(prompt.ids) - shortest) for prompt in prompts)
    return next((place for place in range(max(most, 0)) if first[place] != last[place]), max(most, 0))
