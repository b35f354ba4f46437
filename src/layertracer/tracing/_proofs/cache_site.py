"""Proof of the site "state", a layer's KV cache or recurrent state, made when it is first asked for.

On short probes, the model says with its own cache between two calls what it says in one, and a
perturbed memory of one layer is that and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from layertracer._errors import SiteError, printable_cause
from layertracer._types import Check, SelfCheck
from layertracer.models import (
    LayerCache,
    Network,
    StateMap,
    StatePiece,
    UnusableCacheError,
    continuations_of_steps,
    find_tensors,
    flatten,
    hooking,
    is_out_of_memory,
)
from layertracer.tracing._batching.rows import to_rows_first
from layertracer.tracing._distributions.js_divergence import js_divergence
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._failures import first_line, is_of_callers_making
from layertracer.tracing._passes.cache_pass import StateSite
from layertracer.tracing._passes.plain import plain_logits
from layertracer.tracing._proofs.checks import judge, largest_difference, worst_of
from layertracer.tracing._proofs.continuations import UnderstoodCache
from layertracer.tracing._proofs.probes import one_of_each_kind

_SHORT, _LONG = 4, 17
"""Tokens of the probes: few, and more than a short window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _HalfGone:
    """A perturbation for probes: draw 0 keeps everything, draw 1 every other entry."""

    def __call__(self, values: Tensor, *, piece: StatePiece, layer: int, draw: int) -> Tensor:
        del piece, layer
        perturbed = values.clone()
        if draw == 1:
            perturbed[..., ::2] = 0
        return perturbed


_PERTURBER = _HalfGone()


@dataclass(slots=True)
class StateProof:
    """The site "state" of a model, proved when it is first asked for; the verdict is kept.

    Attributes:
        network: The model.
        row_by_row: Whether its prompts see one another in a batch.
        cache: Its cache, understood.
    """

    network: Network
    row_by_row: bool
    cache: UnderstoodCache
    _site: StateSite | None = field(default=None, init=False)
    _checks: tuple[Check, ...] = field(default=(), init=False)
    _refusal: str | None = field(default=None, init=False)

    def site(self) -> StateSite:
        """The site.

        Raises:
            SiteError: If the model keeps no memory that can be masked, or that could not be proved.
        """
        if self._site is None and self._refusal is None:
            try:
                self._site, self._checks = prove_state(self.cache, row_by_row=self.row_by_row)
            except SiteError as error:
                self._refusal = str(error)
        if self._site is None:
            raise SiteError(self._refusal)
        return self._site

    def attempted(self, check: SelfCheck) -> SelfCheck:
        """The proof at load together with this one; a refusal becomes a note."""
        try:
            self.site()
        except SiteError as refusal:
            return replace(check, notes=(*check.notes, str(refusal)))
        return self.added_to(check)

    def added_to(self, check: SelfCheck) -> SelfCheck:
        """The proof at load together with this one, as far as it was made."""
        return replace(check, checks=(*check.checks, *self._checks))


def prove_state(cache: UnderstoodCache, *, row_by_row: bool) -> tuple[StateSite, tuple[Check, ...]]:
    """The site "state" of a model, and the errors that were measured.

    Raises:
        SiteError: If the model has no such site, or it could not be proved right.
    """
    network = cache.network
    try:
        state = cache.state()
    except UnusableCacheError as error:
        raise _refusal(network, f"its cache cannot be used, because {error}") from printable_cause(error)
    refuse_missing(state, network)
    reasons = []
    for continuation in continuations_of_steps(state.call, row_by_row=row_by_row):
        site = StateSite(network=network, state=state, continuation=continuation)
        try:
            checks = _check_site(site)
        except Exception as error:
            if is_out_of_memory(error) or is_of_callers_making(error):
                raise
            reasons.append(first_line(error))
            continue
        cache.note(continuation, checks[0].error)
        failed = [check for check in checks if not check.passed]
        if not failed:
            return site, checks
        reasons += [_explain(check) for check in failed]
    raise _refusal(network, f"it could not be proved right ({'; '.join(dict.fromkeys(reasons))})")


def _explain(check: Check) -> str:
    if check.name == "state_readout":
        return f"its own cache changes what it says, by {check.error:.2g} nats"
    if check.name == "state_layers" and check.error == float("inf"):
        return "a layer's memory does not show in what leaves that layer"
    return f"{check.name}: {check.error:.2g} {check.unit}"


def refuse_missing(state: StateMap, network: Network) -> None:
    """Raise where no layer keeps a memory of its own.

    Raises:
        SiteError: If that is so.
    """
    if len(state.layers_without) == network.anatomy.n_layers:
        raise _refusal(network, "no layer keeps a memory of its own")


def _check_site(site: StateSite) -> tuple[Check, ...]:
    probes = (_Probe.of(site, length=_SHORT, n_scored=1), _Probe.of(site, length=_LONG, n_scored=2))
    network = site.network
    readout = judge(network, "state_readout", worst_of(largest_difference(one.clean, one.own) for one in probes))
    if not readout.passed:
        return (readout,)  # the other checks would say nothing
    return (
        readout,
        judge(network, "state_identity", worst_of(one.identity_error() for one in probes)),
        judge(network, "state_layers", probes[-1].layers_error()),
        judge(network, "state", probes[-1].rows_error()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    """Two prompts (one, where rows run alone), what the model says about them, and what it says in two goes."""

    site: StateSite
    ids: Tensor
    tokens: Tensor
    cache: LayerCache
    own: Tensor
    clean: Tensor

    @classmethod
    def of(cls, site: StateSite, *, length: int, n_scored: int) -> _Probe:
        """A probe whose last `n_scored` tokens are read after the prefix."""
        network = site.network
        batch = 1 if site.continuation.one_row else 2
        _, ids = network.probe(batch=batch, length=length, seed=2)
        read = range(length - n_scored, length)
        tokens = ids[:, list(read)]
        cache = site.feed_prefix(ids, n_after=n_scored)
        return cls(
            site=site,
            ids=ids,
            tokens=tokens,
            cache=cache,
            own=log_probs_of(plain_logits(network, ids, read=read)),
            clean=site.clean(cache, tokens),
        )

    def identity_error(self) -> float:
        """JS divergence of groups of rows whose memory is as it was."""
        kept = self._perturbed([(self.site.layers[0], 0), (self.site.layers[-1], 0)])
        return float(js_divergence(kept, self.clean).max())

    def rows_error(self) -> float:
        """How far the JS of memories perturbed in one batch is from that of the last prompt alone, one at a time."""
        layers = sorted({self.site.layers[0], *one_of_each_kind(self.site.network, self.site.layers)})
        together = js_divergence(self._perturbed([(layer, 1) for layer in layers]), self.clean)[:, -1]
        alone = [js_divergence(self._alone(layer), self.clean[-1:])[0] for layer in layers]
        return worst_of(largest_difference(one, other) for one, other in zip(together, alone, strict=True))

    def _alone(self, layer: int) -> Tensor:
        """The last prompt with a cache of its own, changed in place and used at once: nothing is repeated or copied."""
        cache = self.site.feed_prefix(self.ids[-1:], n_after=self.tokens.shape[1])
        self.site.perturb(find_tensors(cache.caches), _PERTURBER, rows=slice(None), layer=layer, draw=1)
        return self.site.step(cache, self.tokens[-1:])

    def layers_error(self) -> float:
        """How much of a layer's perturbed memory shows in the stream before that layer, relatively.

        Infinity where it does not show in what leaves the layer: then nobody reads that memory there.
        """
        layers = self.site.layers
        kept, gone = (self._leaving([(layer, draw) for layer in layers]) for draw in (0, 1))
        worst = 0.0
        for variant, layer in enumerate(layers):
            differences = [
                _relative_difference(after[variant], before[variant]) for after, before in zip(gone, kept, strict=True)
            ]
            worst = max([worst, *differences[:layer]])
            if differences[layer] <= max(differences[:layer], default=0.0):
                return float("inf")
        return worst

    def _leaving(self, variants: Sequence[tuple[int, int]]) -> list[Tensor]:
        """The stream after every layer where the first token is read, [variant, prompt, …, width] each."""
        seen: dict[int, list[Tensor]] = {}
        layers = {layer.module: layer for layer in self.site.network.anatomy.layers}

        def see(module: nn.Module, args: object, kwargs: object, output: object) -> None:
            del args, kwargs
            leaves, layer = flatten(output), layers[module]
            stream = to_rows_first(leaves.values[layer.wiring.stream_out], layer.wiring)
            seen.setdefault(layer.index, []).append(stream[:, 0].double().clone())

        with hooking(layers, after=see):
            self._perturbed(variants, n_scored=1)
        return [torch.cat(seen[layer.index]).unflatten(0, (len(variants), -1)) for layer in layers.values()]

    def _perturbed(self, variants: Sequence[tuple[int, int]], *, n_scored: int | None = None) -> Tensor:
        groups = [[variant] for variant in variants] if self.site.continuation.one_row else [variants]
        tokens = self.tokens[:, :n_scored]
        return torch.cat([self.site.perturbed(self.cache, tokens, _PERTURBER, group) for group in groups])


def _relative_difference(one: Tensor, other: Tensor) -> float:
    """Largest difference of any dimension, relative to its own size: a few enormous ones would hide the others."""
    return float(((one - other).abs() / (other.abs() + other.abs().median() + 1e-30)).max())


def _refusal(network: Network, reason: str) -> SiteError:
    return SiteError(f"The site 'state' is not offered for {network.name!r}: {reason}. Use site='block_output'.")
