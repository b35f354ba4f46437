"""Variants of prompts with several edits each: the seam of causal tracing, and of placing substitutes.

One pass holds base rows, one a prompt, and for every variant a copy of each of them. A variant is a sequence of edits
(`Edit`: layer, draw, perturber). Its rows come in at its first edit and are edited again further up: windows of layers,
mixers substituted here and there. Base rows may be edited as well (corrupted, or substituted throughout): a variant's
rows are copies of them as they are where its first edit is, before anything is done to the base rows there, and from
there on nothing is done to them but the variant's own edits. An edit sees what stands in the base rows at its place
after all that is done to them there (`LayerCall.base`), so that it can patch that in; also at what leaves a layer,
where its own rows come in as copies from before that. An edit of the base rows sees them after those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from layertracer._errors import UsageError
from layertracer._types import Method
from layertracer.models import Network
from layertracer.tracing._passes.argument_axes import ArgumentAxes
from layertracer.tracing._passes.ladder import LadderPass, run_pass
from layertracer.tracing._passes.plain import PlainEdits, plain_logits
from layertracer.tracing._passes.row_groups import Edit, Variant, in_order, join_of, site_of
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._perturbers.checked import checked_perturber
from layertracer.tracing._perturbers.protocol import LayerCall, Perturber
from layertracer.tracing._sites.protocol import SITES


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantLogits:
    """What a model says of prompts and of their variants.

    Attributes:
        base: Logits of the base rows, [prompt, read, d_vocab].
        variants: Logits of each variant, in the order given, [variant, prompt, read, d_vocab].
    """

    base: Tensor
    variants: Tensor


def run_variants(  # noqa: PLR0913 - what a pass is made of
    network: Network,
    ids: Tensor,
    *,
    read: Sequence[int],
    perturbers: Sequence[Perturber],
    variants: Sequence[Sequence[Edit]],
    base_edits: Sequence[Edit] = (),
    axes: ArgumentAxes,
    method: Method = "ladder",
    prompts: tuple[int, ...] = (),
) -> VariantLogits:
    """Logits of prompts and of variants of them with several edits each, in one pass.

    How many prompts and variants go into a pass is the caller's to choose. Laws: by either method the same; the order
    of the variants changes nothing; a variant of one edit is that layer perturbed.

    Args:
        network: The model.
        ids: Token ids [prompt, position].
        read: Positions that are read.
        perturbers: What the edits are made with.
        variants: The edits of each variant, one at least, in any order; those at one place are made as they are given.
        base_edits: What is done to the base rows themselves.
        axes: Batch axes known so far; a form of arguments not seen before is looked into.
        method: "ladder": all in one forward; "plain": one hooked forward for each variant.
        prompts: The prompts' indices in their task, for perturbers that ask.

    Raises:
        UsageError: If a variant has no edit, an edit is of a layer or a perturber that there is not, of a layer without
            the site, or of what layers remember, which has a pass of its own; or a perturber raises something or makes
            something else than perturbed values.
    """
    for edit in (*base_edits, *(edit for edits in variants for edit in edits)):
        _refuse_misplaced(edit, perturbers, network)
    if not all(variants):
        raise UsageError("A variant has no edit: its rows would be the base rows. Give at least one edit of each.")
    ordered = [in_order(edits, perturbers) for edits in variants]
    base = in_order(base_edits, perturbers)
    perturbers = [checked_perturber(one, type(one).__name__) for one in perturbers]
    if method == "plain":
        return _Plain(network, ids, read, perturbers, base, prompts).run(ordered)
    rows = run_pass(
        LadderPass(
            network=network,
            ids=ids,
            read=read,
            perturbers=perturbers,
            variants=[Variant(edits, (number, 0)) for number, edits in enumerate(ordered)],
            base_edits=base,
            axes=axes,
            prompts=prompts,
        )
    )
    tail, clean = Tail(network), rows.lens_rows[-1]
    said = tail(clean.flatten(0, 1)).unflatten(0, clean.shape[:2])
    by_number = torch.empty(len(variants), *said.shape, dtype=said.dtype, device=said.device)
    for (number, _), perturbed in zip(rows.variants, rows.perturbed, strict=False):
        by_number[number] = tail(perturbed.flatten(0, 1)).unflatten(0, clean.shape[:2])
    return VariantLogits(base=said, variants=by_number)


def _refuse_misplaced(edit: Edit, perturbers: Sequence[Perturber], network: Network) -> None:
    if not 0 <= edit.perturber < len(perturbers):
        raise UsageError(f"{edit} is made by a perturber that there is not: {len(perturbers)} were given, from 0.")
    name = site_of(edit, perturbers)
    site = SITES[name]
    if site.joins == "cache":
        raise UsageError(
            f"{edit} is at the site {name!r}: what layers remember is perturbed by a pass of its own and is no part of "
            "variants. Use another site."
        )
    having = site.layers(network)
    if edit.layer not in having:
        raise UsageError(f"{edit} is at a layer without the site {name!r}. Layers that have it: {list(having)}.")


@dataclass(slots=True)
class _Noting:
    """A perturber that notes what stands in the rows at its place, after what was done to them there."""

    site: str
    noted: dict[tuple[int, str, int], Tensor]
    is_per_prompt: bool = False
    keeps_pairs: bool = False
    _n_seen: dict[int, int] = field(default_factory=dict)

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """Note the values, and hand them on."""
        which = self._n_seen.get(call.layer, 0)
        self._n_seen[call.layer] = which + 1
        self.noted[call.layer, self.site, which] = values.clone()
        return values.expand(len(draws), *values.shape)


@dataclass(frozen=True, slots=True)
class _Plain:
    """Variants one hooked forward at a time."""

    network: Network
    ids: Tensor
    read: Sequence[int]
    perturbers: Sequence[Perturber]
    base_edits: Sequence[Edit]
    prompts: tuple[int, ...]

    def run(self, variants: Sequence[Sequence[Edit]]) -> VariantLogits:
        """The same logits as the ladder's."""
        noted: dict[tuple[int, str, int], Tensor] = {}
        places = dict.fromkeys(
            (edit.layer, site_of(edit, self.perturbers)) for edits in (self.base_edits, *variants) for edit in edits
        )
        sites = list(dict.fromkeys(site for _, site in places))
        noting = [_Noting(site, noted) for site in sites]
        n_own = len(self.perturbers)
        notes = [Edit(layer, 0, n_own + sites.index(site)) for layer, site in places]
        base = self._logits([*self.perturbers, *noting], [*self.base_edits, *notes], {})
        said = [self._logits(self.perturbers, [*self._before(edits), *edits], noted) for edits in variants]
        return VariantLogits(base=base, variants=torch.stack(said) if said else base.new_empty(0, *base.shape))

    def _before(self, edits: Sequence[Edit]) -> list[Edit]:
        """What is done to the base rows before a variant's rows are copied from them."""
        join = join_of(edits, self.perturbers)
        return [edit for edit in self.base_edits if join_of([edit], self.perturbers) < join]

    def _logits(
        self, perturbers: Sequence[Perturber], edits: Sequence[Edit], base: dict[tuple[int, str, int], Tensor]
    ) -> Tensor:
        made = PlainEdits(perturbers=perturbers, edits=edits, prompts=self.prompts, base=base)
        with made.made_in(self.network.anatomy.layers):
            return plain_logits(self.network, self.ids, read=self.read)
