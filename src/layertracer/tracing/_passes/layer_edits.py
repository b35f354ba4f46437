"""The edits of one call of a layer, group by group of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from layertracer.models import Layer
from layertracer.tracing._observers.protocol import CleanCall, Observer, looking_at, show
from layertracer.tracing._passes.row_groups import Edit, GroupEdit, RowGroups
from layertracer.tracing._perturbers.protocol import LayerCall
from layertracer.tracing._sites.protocol import SITES, EditRows, is_at_exit

Rerun = Callable[[Tensor, Mapping[str, EditRows]], object]
"""Calls a layer once more with another stream [row, position, …, width], watched at some sites."""


@dataclass(slots=True, kw_only=True)
class LayerEdits:
    """What is done in one call of a layer.

    Attributes:
        groups: What is done to which groups of rows.
        observers: What looks at the base rows in this layer.
        layer: The layer.
        n_base: How many rows a group has.
        entering: What entered the layer in the groups that are edited, [prompt, position, …, width]; in group 0 also
            for those whose rows come in here.
        first: Position in the prompt of the first of the values.
        prompts: The prompts' indices in the task.
        rerun: Calls the layer once more; None where that must not be.
    """

    groups: RowGroups
    observers: Sequence[Observer]
    layer: Layer
    n_base: int
    entering: Mapping[int, Tensor]
    first: int
    prompts: tuple[int, ...]
    rerun: Rerun | None
    _n_seen: dict[str, int] = field(init=False, default_factory=dict)

    def inside(self, site: str, rows: Tensor) -> Tensor | None:
        """What stands at a site in all rows that go through the layer, from the first one on that is changed."""
        which = self._n_seen.get(site, 0)
        self._n_seen[site] = which + 1
        for one in looking_at(self.observers, site):
            show(one, self._clean_call, rows[: self.n_base])
        edits = self.groups.of_site(self.layer.index, site)
        if not edits:
            return None
        first = edits[0].group
        # Of the copies, not of the base rows: an earlier addition of the same part may have changed them already.
        parts, base = list(rows[first * self.n_base :].split(self.n_base)), rows[: self.n_base]
        for group, edit in edits:
            call = self._call(site, group=group, base=base, which=which)
            parts[group - first] = self.groups.carry_out(edit, parts[group - first], call)
            base = parts[0] if group == 0 else base
        return torch.cat(parts)

    def show(self, leaving: Tensor) -> None:
        """Show what leaves the layer in the base rows to those that look at it."""
        call = self._clean_call
        for one in self.observers:
            if is_at_exit(site := SITES[one.site]):
                show(one, call, site.taken(leaving))

    @property
    def _clean_call(self) -> CleanCall:
        return CleanCall(layer=self.layer, entering=self.entering[0])

    def at_exit(self, rows: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        """What leaves the layer in the rows that went through it, None where it is as it was, and rows that come in.

        Rows come in as the base rows leave, before anything is done to these; what their edits see of the base rows is
        what stands there after that, as everywhere.
        """
        edits, n_there = self.groups.of_exit(self.layer.index), len(rows) // self.n_base
        own = dict(enumerate(rows.split(self.n_base))) if edits else {}
        going_through = [one for one in edits if one.group < n_there]
        for group, edit in going_through:
            own[group] = self._edited(edit, own[group], group=group, base=own[0])
        later = [one for one in edits if one.group >= n_there]
        coming_in = list(self._coming_in(rows[: self.n_base], later, base=own[0])) if later else []
        return torch.cat(list(own.values())) if going_through else None, coming_in

    def _coming_in(self, leaving: Tensor, edits: Sequence[GroupEdit], *, base: Tensor) -> Iterator[Tensor]:
        """The rows of groups that come in after the layer has run; draws of one perturber in one go."""
        groups = [[one.edit for one in own] for _, own in groupby(edits, key=lambda one: one.group)]
        for perturber, several in groupby(groups, key=lambda own: own[0].perturber if len(own) == 1 else None):
            if perturber is None:
                yield from (self._in_turn(own, leaving, base=base) for own in several)
                continue
            first, *others = (own[0] for own in several)
            site = self.groups.exit_site(first)
            draws, values = [first.draw, *(edit.draw for edit in others)], site.taken(leaving)
            call = self._call(site.facts.name, group=0, base=site.taken(base))
            perturbed = self.groups.perturber(first)(values, call=call, draws=draws)
            yield site.put(leaving.expand(len(draws), *leaving.shape), perturbed).flatten(0, 1)

    def _in_turn(self, edits: Sequence[Edit], leaving: Tensor, *, base: Tensor) -> Tensor:
        """The rows of one group that comes in, after several edits."""
        for edit in edits:
            leaving = self._edited(edit, leaving, group=0, base=base)
        return leaving

    def _edited(self, edit: Edit, leaving: Tensor, *, group: int, base: Tensor) -> Tensor:
        """What leaves the layer in one group, after one edit."""
        site = self.groups.exit_site(edit)
        call = self._call(site.facts.name, group=group, base=site.taken(base))
        return site.put(leaving, self.groups.carry_out(edit, site.taken(leaving), call))

    def _call(self, site: str, *, group: int, base: Tensor, which: int = 0) -> LayerCall:
        return LayerCall(
            layer=self.layer.index,
            entering=self.entering.get(group, self.entering[0]),
            first=self.first,
            base=base,
            prompts=self.prompts,
            rerun=None if self.rerun is None else partial(rerun_at, self.rerun, site, which),
            which=which,
        )


def rerun_at(rerun: Rerun, site: str, which: int, entering: Tensor) -> Tensor:
    """What stands at a site when a layer is called once more: what was there the n-th time, of several additions."""
    seen: list[Tensor] = []

    def note(values: Tensor) -> None:
        seen.append(values.clone())

    rerun(entering, {site: note})
    return seen[which]
