"""Scores of layers and placements that cost no training, on rows that no student is judged on.

A score is high where keeping is worth much. Most are of layers, and a placement has the sum over the layers it keeps;
some are of placements themselves; some only name one placement.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float64

import layertracer as lt

from design_study.inside import Inside, draw_rows, load_inside
from design_study.plan import SEARCH_SEED, all_placements, show_placement
from design_study.ranks import Placement
from study.subjects import RESULTS as TRACED

WINDOWS = (4, 8, 16)
"""Tokens that a window sees. Documents have 48."""
SIZES = (2, 3)
"""Numbers of layers that are kept."""
N_ROWS = 64
NO_WINDOW = 0
ALL_TOKENS = ", all tokens"
JOINT_SITES = ("mixer_output", "state")
WORD_TASKS = ("antonym", "synonym", "present-past", "singular-plural")


class Costs(Protocol):
    """What a search lowers.

    Attributes:
        layers: The layers that may be kept.
    """

    layers: Placement

    def __call__(self, placements: Sequence[Collection[int]]) -> Float64[np.ndarray, " placement"]:
        """What each placement costs."""


def score_parent(name: str) -> pd.DataFrame:
    """All scores of a parent.

    Returns:
        A row a value: `parent`, `score`, `window` (0 where there is none), `kind` ("layer", "placement" or "choice"),
        `kept` (a layer, or a placement) and `value`, which a choice does not have.
    """
    model = load_inside(name)
    rows: list[dict[str, object]] = []
    for window in WINDOWS:
        inside = Inside(model, lt.Window(window), draw_rows(SEARCH_SEED, N_ROWS, n_seen=window))
        rows += [one | {"window": window} for one in _score_inside(inside)]
        every = draw_rows(SEARCH_SEED, N_ROWS, n_seen=window, determined=False)
        rows += [
            one | {"window": window} for one in _score_singles(Inside(model, lt.Window(window), every), ALL_TOKENS)
        ]
    for score, substitute in (("mixer adds nothing", lt.NoMixer()), ("mixer adds its mean", lt.MeanMixer())):
        inside = Inside(model, substitute, draw_rows(SEARCH_SEED, N_ROWS))
        rows += [one | {"window": NO_WINDOW} for one in _by_layer(score, removed(inside))]
    rows += [one | {"window": NO_WINDOW} for one in _score_traces(name)]
    for size in SIZES:
        kept = show_placement(uniform(inside.layers, size))
        rows.append({"score": "uniform", "kind": "choice", "kept": kept, "window": NO_WINDOW})
    return pd.DataFrame(rows).assign(parent=name)


def removed(inside: Inside) -> Float64[np.ndarray, " layer"]:
    """What is lost where one layer alone is substituted."""
    return inside([_without(inside.layers, layer) for layer in inside.layers])


def restored(inside: Inside) -> Float64[np.ndarray, " layer"]:
    """What is won where one layer alone is kept."""
    values = inside([(), *((layer,) for layer in inside.layers)])
    return np.array([values[0] - value for value in values[1:]])


def choose_greedily(inside: Costs, size: int) -> Placement:
    """The better of two greedy searches: layers given back to none, and layers taken from all, one by one."""
    grown: Placement = ()
    while len(grown) < size:
        grown = _best(inside, [(*grown, layer) for layer in inside.layers if layer not in grown])
    shrunk = inside.layers
    while len(shrunk) > size:
        shrunk = _best(inside, [_without(shrunk, layer) for layer in shrunk])
    return _best(inside, [grown, shrunk])


def _best(inside: Costs, placements: Sequence[Placement]) -> Placement:
    """The placement that costs least; of equal ones the first."""
    return tuple(sorted(placements[int(np.argmin(inside(placements)))]))


def _score_inside(inside: Inside) -> Iterator[dict[str, object]]:
    """Scores by one window."""
    yield from _score_singles(inside)
    for size in SIZES:
        placements = all_placements(size)
        yield from _by_placement("placement itself", placements, -inside(placements))
        yield {"score": "greedy", "kind": "choice", "kept": show_placement(choose_greedily(inside, size))}
    yield from _by_placement("pairs removed", *_score_pairs(inside))


def _score_singles(inside: Inside, suffix: str = "") -> Iterator[dict[str, object]]:
    """Single layers, in both directions."""
    yield from _by_layer(f"removed{suffix}", removed(inside))
    yield from _by_layer(f"restored{suffix}", restored(inside))


def _score_pairs(inside: Inside) -> tuple[list[Placement], Float64[np.ndarray, " placement"]]:
    """By placement, minus what its substituted layers lose by the sum of single losses and of interactions of pairs."""
    layers, alone = inside.layers, removed(inside)
    pairs = [(i, j) for i in layers for j in layers if i < j]
    together = dict(zip(pairs, inside([_without(layers, *pair) for pair in pairs]), strict=True))
    extra = {(i, j): value - alone[i] - alone[j] for (i, j), value in together.items()}
    placements = [kept for size in SIZES for kept in all_placements(size)]
    lost = []
    for kept in placements:
        gone = set(layers) - set(kept)
        lost.append(sum(alone[i] for i in gone) + sum(extra[i, j] for i, j in pairs if {i, j} <= gone))
    return placements, -np.array(lost)


def _score_traces(name: str) -> Iterator[dict[str, object]]:
    """Scores out of the traces that docs/miniatures.md rests on: a layer masked, JS of the answer."""
    for suffix, tasks in ((", word pairs", WORD_TASKS), (", recall", ("recall",))):
        yield from _by_layer(f"joint JS{suffix}", read_joint_js(name, tasks))
        for site in (*JOINT_SITES, "block_output"):
            yield from _by_layer(f"JS at {site}{suffix}", read_js(name, site, tasks))


def read_joint_js(name: str, tasks: Sequence[str] = WORD_TASKS) -> Float64[np.ndarray, " layer"]:
    """JS divergence by layer at the mixer's output and in its state, each divided by its largest, added.

    Args:
        name: The miniature.
        tasks: Which tasks.
    """
    curves = [read_js(name, site, tasks) for site in JOINT_SITES]
    joint: np.ndarray = np.sum([curve / curve.max() for curve in curves], axis=0)
    return joint


def read_js(name: str, site: str, tasks: Sequence[str]) -> Float64[np.ndarray, " layer"]:
    """JS divergence by layer, mean over tasks, from the stored findings of the miniatures' study.

    Args:
        name: The miniature.
        site: Where layers are masked.
        tasks: Which tasks.
    """
    found = pd.read_parquet(TRACED)
    found = found[(found["question"] == "twin") & (found["part"] == "profile") & (found["quantity"] == "js_bits")]
    found = found[(found["model"] == name) & (found["site"] == site) & found["task"].isin(tasks)]
    by_layer: np.ndarray = found.groupby("depth")["value"].mean().sort_index().to_numpy(dtype=np.float64)
    return by_layer


def uniform(layers: Placement, size: int) -> Placement:
    """Evenly spaced layers, the last of each block, as in hybrids that are trained from scratch."""
    return tuple(layers[(block + 1) * len(layers) // size - 1] for block in range(size))


def choose_largest(values: Float64[np.ndarray, " layer"], size: int) -> Placement:
    """The layers of the largest values; of equal ones the lowest."""
    return tuple(sorted(int(layer) for layer in np.argsort(-values, kind="stable")[:size]))


def _by_layer(score: str, values: Float64[np.ndarray, " layer"]) -> Iterator[dict[str, object]]:
    for layer, value in enumerate(values):
        yield {"score": score, "kind": "layer", "kept": str(layer), "value": float(value)}


def _by_placement(
    score: str, placements: Sequence[Placement], values: Float64[np.ndarray, " placement"]
) -> Iterator[dict[str, object]]:
    for kept, value in zip(placements, values, strict=True):
        yield {"score": score, "kind": "placement", "kept": show_placement(kept), "value": float(value)}


def _without(layers: Placement, *gone: int) -> Placement:
    return tuple(layer for layer in layers if layer not in gone)


def values_of(rows: pd.DataFrame, size: int) -> Mapping[Placement, float]:
    """The score of every placement of a size.

    Args:
        rows: The rows of one score of one parent by one window.
        size: How many layers are kept.
    """
    found = dict(zip(rows["kept"], rows["value"], strict=True))
    if rows["kind"].iloc[0] == "layer":
        return {kept: sum(found[str(layer)] for layer in kept) for kept in all_placements(size)}
    return {kept: found[show_placement(kept)] for kept in all_placements(size)}
