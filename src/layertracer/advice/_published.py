"""Published placements: lists of layers that others kept, beside the advised ones of the same model and size."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from layertracer.advice._records import PublishedMatch
from layertracer.measures import holm


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPlacement:
    """A published list of the layers that keep full attention.

    Attributes:
        model: The model, as its authors call it.
        n_layers: How many layers it has.
        selector: How they were chosen.
        substitute: What stands in the other layers.
        layers: The list, counted from 0, ascending.
        source: Where it stands.
    """

    model: str
    n_layers: int
    selector: str
    substitute: str
    layers: tuple[int, ...]
    source: str


@cache
def published_placements() -> tuple[PublishedPlacement, ...]:
    """All published lists that come with the package."""
    content = (resources.files("layertracer.advice") / "data" / "published.json").read_text(encoding="utf-8")
    return tuple(
        PublishedPlacement(
            model=entry["model"],
            n_layers=entry["n_layers"],
            selector=entry["selector"],
            substitute=entry["substitute"],
            layers=tuple(sorted(entry["layers"])),
            source=entry["source"],
        )
        for entry in json.loads(content)
    )


def published_for(model: str, n_layers: int) -> tuple[PublishedPlacement, ...]:
    """The lists of a model, known by its name and its number of layers.

    The name may be an id on the hub, a folder or a file of that name; base and instruction-tuned models are two.

    Example:
        >>> len(published_for("Qwen/Qwen3-1.7B", 28)), len(published_for("Qwen/Qwen3-1.7B", 36))
        (1, 0)
    """
    name = plain_name(model)
    return tuple(one for one in published_placements() if one.n_layers == n_layers and plain_name(one.model) == name)


def plain_name(model: str) -> str:
    """A model's own name, without its owner's, its folder's, and what files and caches add.

    Example:
        >>> plain_name("meta-llama/Llama-3.2-3B"), plain_name("models--Qwen--Qwen3-4B"), plain_name("a/qwen3_4b/")
        ('llama-3.2-3b', 'qwen3-4b', 'qwen3-4b')
    """
    last = re.split(r"[/\\]|--", model.rstrip("/\\"))[-1].lower()
    return re.sub(r"[\s_]+", "-", last.removesuffix(".gguf"))


def compare_with_published(
    layers: Sequence[int], *, model: str, n_layers: int, placeable: Collection[int]
) -> tuple[PublishedMatch, ...]:
    """An advised placement beside the published ones of the same model and size.

    The hypergeometric p takes every placement of that size for equally likely; lists are often spaced evenly, and then
    p among the list's own shifts (around the end of the model) is the fairer one. Holm's correction is over the lists.

    Args:
        layers: The advised layers.
        model: Name of the model.
        n_layers: How many layers it has.
        placeable: Those that could be chosen; lists with others are left out.

    Source:
        Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    advised, size = set(layers), len(layers)
    lists = [
        one
        for one in published_for(model, n_layers)
        if len(one.layers) == size and size and set(one.layers) <= set(placeable)
    ]
    matches = [_match(one, advised, n_placeable=len(placeable)) for one in lists]
    corrected = holm([one.p for one in matches])
    return tuple(replace(one, p_holm=p) for one, p in zip(matches, corrected, strict=True))


def _match(one: PublishedPlacement, advised: set[int], *, n_placeable: int) -> PublishedMatch:
    overlap, size = len(advised & set(one.layers)), len(one.layers)
    p = hypergeometric_tail(overlap, n=n_placeable, first=size, second=len(advised))
    shifted = [len(advised & {(layer + shift) % one.n_layers for layer in one.layers}) for shift in range(one.n_layers)]
    return PublishedMatch(
        selector=one.selector if one.substitute == "" else f"{one.selector} ({one.substitute})",
        source=one.source,
        layers=one.layers,
        overlap=overlap,
        expected=size * len(advised) / n_placeable,
        p=p,
        p_spaced=sum(other >= overlap for other in shifted) / one.n_layers,
        p_holm=p,
    )


def hypergeometric_tail(overlap: int, *, n: int, first: int, second: int) -> float:
    """Probability that two random sets of a population of `n` share `overlap` or more, exactly.

    Example:
        >>> hypergeometric_tail(0, n=10, first=3, second=3), hypergeometric_tail(3, n=10, first=3, second=3) * 120
        (1.0, 1.0)
    """
    ways = sum(
        math.comb(first, shared) * math.comb(n - first, second - shared)
        for shared in range(overlap, min(first, second) + 1)
    )
    return ways / math.comb(n, second)
