"""Placements of substitutes as variants of one pass: whatever several of them have in common is run once.

A placement says which layers keep their mixers; in the others a substitute stands. Layer by layer, placements are words
of two letters, and a pass runs the tree of their beginnings: the rows of one are copies of another's where they first
differ. The base rows are the full model's, in which nothing is substituted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from layertracer.models import Network
from layertracer.tracing._passes.argument_axes import ArgumentAxes
from layertracer.tracing._passes.ladder import LadderPass, run_pass
from layertracer.tracing._passes.plain import PlainEdits, plain_logits
from layertracer.tracing._passes.row_groups import Edit, Variant
from layertracer.tracing._perturbers.protocol import Perturber

Substituted = tuple[int, ...]
"""The layers in which a substitute stands, in order."""


def sort_placements(placements: Collection[Substituted], *, n_layers: int) -> list[Substituted]:
    """Placements in an order in which those that begin alike follow one another."""
    return sorted(set(placements), key=lambda layers: [layer in layers for layer in range(n_layers)])


def branching(placements: Sequence[Substituted]) -> list[Variant]:
    """Variants of one pass, one a placement, each copied from another that begins as it does.

    Args:
        placements: Layers with a substitute, one at least in each, in the order of `sort_placements`, none twice.
    """
    variants: list[Variant] = []
    open_: list[tuple[int, int]] = []  # the variants that the last one is copied from, and where each came in
    before: Substituted = ()
    for number, layers in enumerate(placements):
        # They are in order: where this one differs from the last, it has a substitute there and the last has none.
        first = next(layer for layer in layers if layer not in before)
        while open_ and open_[-1][1] >= first:
            open_.pop()
        edits = tuple(Edit(layer) for layer in layers if layer >= first)
        variants.append(Variant(edits, (number, 0), open_[-1][0] if open_ else None))
        open_.append((number, first))
        before = layers
    return variants


def count_forwards(placements: Sequence[Substituted], *, n_layers: int) -> float:
    """How many forwards of one row a pass over some placements and the full model is worth, its tail not counted."""
    return 1 + sum(n_layers - variant.edits[0].layer for variant in branching(placements)) / n_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRows:
    """What leaves the last layer, at the positions that are read.

    Attributes:
        full: In the full model, [prompt, read, …, width].
        placed: In each placement, in the order given.
    """

    full: Tensor
    placed: Sequence[Tensor]


def run_placed(
    network: Network,
    ids: Tensor,
    *,
    read: Sequence[int],
    perturber: Perturber,
    placements: Sequence[Substituted],
    axes: ArgumentAxes,
) -> PlacedRows:
    """The rows of the full model and of some placements, in one pass.

    Args:
        network: The model.
        ids: Token ids [prompt, position].
        read: Positions that are read.
        perturber: What puts the substitute in a mixer's place.
        placements: As for `branching`.
        axes: Batch axes known so far.
    """
    variants = branching(placements)
    rows = run_pass(
        LadderPass(network=network, ids=ids, read=read, perturbers=[perturber], variants=variants, axes=axes)
    )
    by_number = {number: placed for (number, _), placed in zip(rows.variants, rows.perturbed, strict=False)}
    return PlacedRows(full=rows.lens_rows[-1], placed=[by_number[number] for number in range(len(variants))])


def plain_placed(
    network: Network, ids: Tensor, *, read: Sequence[int], perturber: Perturber, layers: Substituted
) -> Tensor:
    """Logits [prompt, read, d_vocab] of one placement, in a forward of its own."""
    made = PlainEdits(perturbers=[perturber], edits=[Edit(layer) for layer in layers])
    with made.made_in(network.anatomy.layers):
        return plain_logits(network, ids, read=read)
