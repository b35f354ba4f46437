"""Proof that prefixes may be shared by way of the KV cache, made for each site when it is first worth it.

On short probes, a ladder that goes on from what its rows remember gives what the ladder gives in one
piece. Some models forget their state where several tokens follow it, others take a single token for
the first one: continuations are tried, and none is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from layertracer._errors import SiteError
from layertracer._types import Check, SelfCheck, Site
from layertracer.models import Network, StateMap, UnusableCacheError, continuations_of_spans, is_out_of_memory
from layertracer.tracing._distributions.js_divergence import js_divergence
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._failures import first_line, is_of_callers_making
from layertracer.tracing._passes.argument_axes import ArgumentAxes
from layertracer.tracing._passes.cached_ladder import CachedLadder, RowEdits
from layertracer.tracing._passes.ladder import LadderRows, run_ladder
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._perturbers.last_position import LastPosition
from layertracer.tracing._perturbers.protocol import Perturber
from layertracer.tracing._proofs.checks import judge, largest_difference, worst_of
from layertracer.tracing._proofs.continuations import UnderstoodCache, is_clearly_wrong
from layertracer.tracing._proofs.probes import half_masked, one_of_each_kind
from layertracer.tracing._sites.protocol import layers_with

_N_PROMPTS = 3
_SHORT, _LONG = 5, 17
"""Tokens of the probes' prefixes: few, and more than a short window."""
_BETWEEN, _SUFFIX = 3, 4

_NAMES = ("prefix_readout", "prefix")
"""Of the checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    ladder: CachedLadder | None
    checks: tuple[Check, ...] = ()
    refusal: str = ""


@dataclass(slots=True, kw_only=True)
class PrefixProof:
    """Whether and how a model's prompts may share prefixes, for each site; verdicts are kept.

    Attributes:
        network: The model.
        uses_ladder: Whether it is traced by the ladder, whose rows do not see one another.
        cache: Its cache, understood.
    """

    network: Network
    uses_ladder: bool
    cache: UnderstoodCache
    _verdicts: dict[Site, _Verdict] = field(default_factory=dict, init=False)

    def is_made(self, site: Site) -> bool:
        """Whether the proof was made already."""
        return site in self._verdicts

    def ladder(self, site: Site) -> CachedLadder:
        """The ladder that goes on from what its rows remember.

        Raises:
            SiteError: If it could not be proved right; says why.
        """
        if site not in self._verdicts:
            self._verdicts[site] = self._judge(site)
        verdict = self._verdicts[site]
        if verdict.ladder is None:
            raise SiteError(verdict.refusal)
        return verdict.ladder

    def attempted(self, check: SelfCheck) -> SelfCheck:
        """The proof at load together with this one for masks of the layers' outputs; a refusal becomes a note."""
        try:
            self.ladder("block_output")
        except SiteError as refusal:
            return replace(check, notes=(*check.notes, f"Prompts do not share prefixes: {refusal}."))
        return self.added_to(check)

    def added_to(self, check: SelfCheck) -> SelfCheck:
        """The proof at load together with this one, as far as it was made and succeeded."""
        names = {name: [one[name] for one in self._by_name()] for name in _NAMES if self._by_name()}
        worst = tuple(max(checks, key=lambda one: one.error) for checks in names.values())
        return replace(check, checks=(*check.checks, *worst))

    def _by_name(self) -> list[dict[str, Check]]:
        return [{check.name: check for check in one.checks} for one in self._verdicts.values() if one.ladder]

    def _judge(self, site: Site) -> _Verdict:
        wiring = self.network.anatomy.layers[0].wiring
        if not self.uses_ladder:
            return _Verdict(ladder=None, refusal="it is traced by the plain method")
        if wiring.n_leading or wiring.n_parallel > 1:
            return _Verdict(ladder=None, refusal="its stream holds more than one entry for a token")
        try:
            return self._prove(self.cache.state(), site)
        except UnusableCacheError as error:
            return _Verdict(ladder=None, refusal=str(error))

    def _prove(self, state: StateMap, site: Site) -> _Verdict:
        network = self.network
        reasons: list[str] = []
        is_clean_wrong = False
        for continuation in continuations_of_spans(state.call):
            if is_clean_wrong and self.cache.rules_out(continuation):  # the best is tried at once: mostly it is right
                continue
            ladder = CachedLadder(network=network, state=state, continuation=continuation, axes=ArgumentAxes(network))
            try:
                checks = _Probe(ladder=ladder, site=site).checks()
            except Exception as error:  # whatever a model's own code raises with a cache means that it cannot go on so
                if is_out_of_memory(error) or is_of_callers_making(error):
                    raise
                reasons.append(first_line(error))
                continue
            if all(check.passed for check in checks):
                return _Verdict(ladder=ladder, checks=checks)
            is_clean_wrong = is_clean_wrong or is_clearly_wrong(network, checks[0].error)
            reasons.append(", ".join(f"{check.name}: {check.error:.2g} {check.unit}" for check in checks))
        return _Verdict(ladder=None, refusal=f"what it remembers does not give the same ({reasons[0]})")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    """One continuation, held against the ladder in one piece."""

    ladder: CachedLadder
    site: Site

    def checks(self) -> tuple[Check, ...]:
        """The errors that were measured."""
        differences = [self._shared(_LONG, 0, _SUFFIX), self._shared(_SHORT, _BETWEEN, self._shortest), self._own()]
        network = self.ladder.network
        return (
            judge(network, "prefix_readout", worst_of(nats for nats, _ in differences)),
            judge(network, "prefix", worst_of(bits for _, bits in differences)),
        )

    @property
    def _shortest(self) -> int:
        return self.ladder.continuation.shortest

    def _shared(self, n_prefix: int, n_between: int, n_suffix: int) -> tuple[float, float]:
        """The largest absolute differences, in nats and bits, where prompts share a prefix, and what follows it."""
        ids = self._prompts(n_prefix + n_between + n_suffix)
        ids[:, : n_prefix + n_between] = ids[:1, : n_prefix + n_between]
        half = half_masked(self.ladder.network, self.site)
        edits = RowEdits.by(half, self._variants)
        cache = self.ladder.read(ids[:1, :n_prefix], edits, before=None)
        if n_between:
            cache = self.ladder.read(ids[:1, n_prefix : n_prefix + n_between], edits, before=cache)
        own = ids[:, n_prefix + n_between :]
        rows = self.ladder.run(own, edits, before=cache, read=[own.shape[1] - 1])
        return self._differences(rows, ids, half)

    def _own(self) -> tuple[float, float]:
        """Likewise where every prompt has read a prefix of its own, and is perturbed at its last position alone."""
        ids = self._prompts(_SHORT + self._shortest)
        last = LastPosition(perturber=half_masked(self.ladder.network, self.site), positions=(ids.shape[1] - 1,))
        cache = self.ladder.read(ids[:, :_SHORT], RowEdits.nothing(), before=None)
        edits = RowEdits.by(last, self._variants)
        rows = self.ladder.run(ids[:, _SHORT:], edits, before=cache, read=[self._shortest - 1])
        return self._differences(rows, ids, last)

    def _prompts(self, length: int) -> Tensor:
        network = self.ladder.network
        longest = network.max_length or length
        _, ids = network.probe(batch=_N_PROMPTS, length=min(length, longest), seed=4)
        return ids.clone()

    @property
    def _layers(self) -> list[int]:
        network = self.ladder.network
        having = set(layers_with(self.site, network))
        ends = {0, network.anatomy.n_layers // 2, network.anatomy.n_layers - 1}
        return sorted(having & {*ends, *one_of_each_kind(network, having)})

    @property
    def _variants(self) -> dict[int, list[int]]:
        return {layer: [0, 1] for layer in self._layers}

    def _differences(self, rows: LadderRows, ids: Tensor, perturber: Perturber | None) -> tuple[float, float]:
        network = self.ladder.network
        whole = run_ladder(
            network,
            ids,
            read=[ids.shape[1] - 1],
            perturber=perturber,
            variants=self._variants,
            axes=self.ladder.axes,
        )
        layers = [*self._layers, network.anatomy.n_layers - 1]
        one, other = (_log_probs(network, found, layers) for found in (rows, whole))
        n_lens = len(layers)
        bits = [js_divergence(found[n_lens:], found[n_lens - 1]) for found in (one, other)]
        return largest_difference(one[:n_lens], other[:n_lens]), largest_difference(*bits)


def _log_probs(network: Network, rows: LadderRows, layers: Sequence[int]) -> Tensor:
    """Of the lens rows after some layers and of all perturbed rows, [row, prompt, d_vocab]."""
    at_tail = torch.cat([torch.stack([rows.lens_rows[layer] for layer in layers]), rows.perturbed])[:, :, 0]
    log_probs: Tensor = log_probs_of(Tail(network)(at_tail.flatten(0, 1))).unflatten(0, at_tail.shape[:2])
    return log_probs
