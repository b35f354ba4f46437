"""Which rows of a ladder pass are edited where: one group of rows for every variant, beside the base rows.

A variant is what is done to one copy of every prompt: edits of some layers, by some perturbers. Its rows are copies of
the base rows as they are where its first edit is: they come in before that layer runs, or, where they are only edited
in what leaves it, after. From there on they are rows of their own: nothing is done to them but the variant's edits.

What several variants have in common from the first layer on is run once where one of them is named as the others'
parent: their rows are copies of the parent's as these are before that layer, instead of the base rows'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from layertracer._types import Perturbation
from layertracer.tracing._perturbers.protocol import LayerCall, Perturber
from layertracer.tracing._sites.protocol import SITES, ExitSite


class Edit(NamedTuple):
    """One layer perturbed at one site.

    Attributes:
        layer: Index of the layer.
        draw: Which draw of the perturber.
        perturber: Which perturber of the pass.
    """

    layer: int
    draw: int = 0
    perturber: int = 0


class Variant(NamedTuple):
    """What is done to one copy of every prompt.

    Attributes:
        edits: Its edits, one at least.
        key: The name under which its rows come back: layer and draw, where it has a single edit.
        parent: Which variant its rows are copied from where its first edit is, one that has come in at a lower layer;
            None for the base rows. Its edits below that layer are its parent's.
    """

    edits: tuple[Edit, ...]
    key: tuple[int, int]
    parent: int | None = None


class GroupEdit(NamedTuple):
    """An edit of one group of rows; group 0 are the base rows."""

    group: int
    edit: Edit


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroups:
    """The groups of a pass, in the order in which they come in.

    Attributes:
        perturbers: What is done; None in the place of one that this pass does not carry out.
        order: For each group after the base rows, which variant it is.
        entering: How many groups come in before each layer runs.
        edits: What is done to which groups in each layer, in order of the groups.
        sources: For each group, which one its rows are copied from; 0, the base rows, for these themselves.
    """

    perturbers: Sequence[Perturber | None]
    order: tuple[int, ...]
    entering: Mapping[int, int]
    edits: Mapping[int, Sequence[GroupEdit]]
    sources: tuple[int, ...]

    @classmethod
    def of(
        cls, perturbers: Sequence[Perturber | None], variants: Sequence[Variant], base_edits: Sequence[Edit] = ()
    ) -> RowGroups:
        """The groups of some variants."""
        joins = [join_of(variant.edits, perturbers) for variant in variants]
        order = sorted(range(len(variants)), key=lambda number: joins[number])
        entering: dict[int, int] = {}
        for layer, comes_after in joins:
            entering[layer] = entering.get(layer, 0) + (not comes_after)
        group_of = {number: group for group, number in enumerate(order, start=1)}
        parents = [variants[number].parent for number in order]
        # What leaves a layer is copied from the base rows alone.
        assert all(parents[group - 1] is None or not joins[number][1] for number, group in group_of.items())
        sources = (0, *(0 if parent is None else group_of[parent] for parent in parents))
        edits: dict[int, list[GroupEdit]] = {}
        for group, own in enumerate([base_edits, *(variants[number].edits for number in order)]):
            for edit in own:
                edits.setdefault(edit.layer, []).append(GroupEdit(group, edit))
        return cls(perturbers=perturbers, order=tuple(order), entering=entering, edits=edits, sources=sources)

    @property
    def have_parents(self) -> bool:
        """Whether rows of some groups are copies of others than the base rows."""
        return any(self.sources)

    def source_of(self, group: int, *, n_there: int) -> int:
        """Of the first `n_there` groups the one that a group is, or that its rows are copies of."""
        while group >= n_there:
            group = self.sources[group]
        return group

    def of_site(self, layer: int, site: str) -> list[GroupEdit]:
        """The edits at one site of one layer."""
        return [one for one in self.edits.get(layer, ()) if site_of(one.edit, self.perturbers) == site]

    def of_exit(self, layer: int) -> list[GroupEdit]:
        """The edits of what leaves one layer."""
        return [one for one in self.edits.get(layer, ()) if is_at_exit(one.edit, self.perturbers)]

    def sites(self, layer: int) -> list[str]:
        """The sites at which something is done in a layer."""
        return list(dict.fromkeys(site_of(one.edit, self.perturbers) for one in self.edits.get(layer, ())))

    def perturber(self, edit: Edit) -> Perturber:
        """What carries an edit out."""
        perturber = self.perturbers[edit.perturber]
        assert perturber is not None  # edits of other passes are not given to this one
        return perturber

    def carry_out(self, edit: Edit, values: Tensor, call: LayerCall) -> Tensor:
        """What an edit makes of one group's values."""
        return self.perturber(edit)(values, call=call, draws=[edit.draw])[0]

    def exit_site(self, edit: Edit) -> ExitSite:
        """The site of an edit of what leaves a layer."""
        site = SITES[site_of(edit, self.perturbers)]
        assert isinstance(site, ExitSite)  # as its edit says
        return site


def site_of(edit: Edit, perturbers: Sequence[Perturber | None]) -> str:
    """The site at which an edit is made."""
    perturber = perturbers[edit.perturber]
    assert perturber is not None  # as above
    return str(perturber.site)


def is_at_exit(edit: Edit, perturbers: Sequence[Perturber | None]) -> bool:
    """Whether an edit is made in what leaves a layer."""
    return SITES[site_of(edit, perturbers)].joins == "exit"


def in_order(edits: Sequence[Edit], perturbers: Sequence[Perturber | None]) -> tuple[Edit, ...]:
    """Edits in the order in which rows come to them; those at the same place as they are given."""
    return tuple(sorted(edits, key=lambda edit: (edit.layer, is_at_exit(edit, perturbers))))


def join_of(edits: Sequence[Edit], perturbers: Sequence[Perturber | None]) -> tuple[int, bool]:
    """The layer at which a variant's rows come in, and whether only after it has run."""
    return min((edit.layer, is_at_exit(edit, perturbers)) for edit in edits)


def single_edits(draws: Mapping[int, Sequence[int]]) -> list[Variant]:
    """A variant for each draw of each layer, by one perturber."""
    return [Variant((Edit(layer, draw),), (layer, draw)) for layer in sorted(draws) for draw in draws[layer]]


@dataclass(frozen=True, slots=True)
class DrawAxis:
    """The draws of several perturbations, which stand behind one another on one axis.

    Attributes:
        n_draws: How many each of them has.

    Example:
        >>> axis = DrawAxis((2, 3))
        >>> axis.total, list(axis.span(1)), axis.edit(7, 3)
        (5, [2, 3, 4], Edit(layer=7, draw=1, perturber=1))
    """

    n_draws: tuple[int, ...]

    @classmethod
    def of(cls, perturbations: Sequence[Perturbation]) -> DrawAxis:
        """The draws of some perturbations."""
        return cls(tuple(perturbation.n_draws for perturbation in perturbations))

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.n_draws)

    def span(self, number: int) -> range:
        """The draws of one perturbation."""
        start = sum(self.n_draws[:number])
        return range(start, start + self.n_draws[number])

    def edit(self, layer: int, draw: int) -> Edit:
        """A draw of a layer as an edit by its own perturber."""
        number = next(number for number in range(len(self.n_draws)) if draw in self.span(number))
        return Edit(layer, draw - self.span(number).start, number)

    def variants(self, draws: Mapping[int, Sequence[int]]) -> list[Variant]:
        """A variant for each of some draws of some layers."""
        return [Variant((self.edit(layer, draw),), (layer, draw)) for layer in sorted(draws) for draw in draws[layer]]
