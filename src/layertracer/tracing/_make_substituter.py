"""A model made ready for substitutes in its mixers' place: which layers they can stand in, proved at first use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from layertracer._errors import SiteError, UsageError
from layertracer._types import MeanMixer, Window, checked_substitute, checked_whole
from layertracer._types.substitutes import Substitute
from layertracer.models import in_evaluation_mode, keeping_loaded, without_gradients
from layertracer.tracing._batching.judged_rows import JudgedRow, check_rows
from layertracer.tracing._batching.memory_budget import chunk_bytes, default_budget_bytes, fast_bytes, parse_memory
from layertracer.tracing._batching.on_devices import OnDevices
from layertracer.tracing._failures import explaining_failures
from layertracer.tracing._model import TracedModel
from layertracer.tracing._observers.protocol import observing
from layertracer.tracing._observers.site_sums import SiteSums
from layertracer.tracing._options import why_not_offered
from layertracer.tracing._passes.placed_batches import PlacedBatches
from layertracer.tracing._passes.placed_measures import PlacedReduction
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._perturbers.protocol import Perturber
from layertracer.tracing._perturbers.substitutes import ConstantMixer, WindowPerturber
from layertracer.tracing._planning.audit_cells import check_share
from layertracer.tracing._proofs.placed_audit import PlacedAuditor
from layertracer.tracing._proofs.placed_together import why_not_together
from layertracer.tracing._proofs.reach import prove_windows
from layertracer.tracing._sites.protocol import layers_with
from layertracer.tracing._substituter import Substituter

_PASSES = 4
"""How many times what is enough for other passes on a CPU these may take: each runs the full model beside its
placements, so that fewer and larger ones are faster."""
_GROWTH = 3
"""How many times the tensors of a pass a process grows by: what was freed is kept in pieces that do not always fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A substitute made ready for a model."""

    perturber: Perturber
    placeable: tuple[int, ...]
    refused: Mapping[int, str]
    n_calls: Mapping[int, int]
    n_proved: int = 0


@without_gradients()
def make_substituter(
    model: TracedModel,
    substitute: Substitute,
    *,
    mean_rows: Sequence[JudgedRow] | None = None,
    audit: float = 0.1,
    seed: int = 0,
    memory: str | int | None = None,
) -> Substituter:
    """A model in whose mixers' place a substitute can stand, proved on a probe.

    Args:
        model: From `load_model` or `wrap_model`.
        substitute: What stands in the mixers' place.
        mean_rows: Over whose positions a `MeanMixer` is the mean; needed for that alone.
        audit: Share of the arithmetic that is measured again, the plain way.
        seed: What draws it.
        memory: What a pass may take, e.g. "8GiB"; None for most of what is free.

    Raises:
        UsageError: If something is none of these, the mean has no rows, or a window is as long as the context.
        PromptTooLongError: If a row of the mean is longer than the model's context.
        SiteError: If the substitute can stand in no layer, or the model reads one text and writes another.
        ModelError: If the model's own code raises anything else.
    """
    substitute, network = checked_substitute(substitute), model.network
    share, seed = check_share(audit), checked_whole("seed", seed)
    _refuse_unsuited(model, substitute)
    budget_bytes = (default_budget_bytes(network) if memory is None else parse_memory(memory)) // _GROWTH
    with (
        explaining_failures(model.name, "while a substitute was made ready for it"),
        in_evaluation_mode(network.call.module),
        keeping_loaded(network.outer_modules),
    ):
        ready = _make_ready(model, substitute, mean_rows)
        batches = PlacedBatches(
            network=network,
            axes=model.axes,
            perturber=ready.perturber,
            reduction=PlacedReduction(d_vocab=network.anatomy.d_vocab, chunk_bytes=chunk_bytes(budget_bytes)),
            tail=Tail(network),
            budget_bytes=min(budget_bytes, _PASSES * fast_bytes(network, budget_bytes)),
        )
        method, why_not = model.self_check.method, ""
        if method == "ladder":
            why_not = why_not_together(batches, ready.placeable, n_calls=ready.n_calls, length=ready.n_proved)
    substituter = Substituter(
        model=model,
        substitute=substitute,
        placeable=ready.placeable,
        refused=ready.refused,
        method=method,
        _batches=batches,
        _n_proved=ready.n_proved,
        _auditor=PlacedAuditor(
            batches=batches, share=share, generator=np.random.default_rng([seed, 5]), n_calls=ready.n_calls
        ),
    )
    if why_not:
        substituter.go_on_plainly(why_not)
    return substituter


def _refuse_unsuited(model: TracedModel, substitute: Substitute) -> None:
    """Raise where a model is none in which placements are asked for.

    Raises:
        SiteError: If it has an encoder.
        UsageError: If a window is as long as its context.
    """
    if model.network.call.has_encoder:
        raise SiteError(
            f"{model.name!r} reads one text with an encoder and writes another with its decoder: which of its mixers a "
            "hybrid would keep is not asked of such a model. Use a decoder-only model."
        )
    longest = model.network.max_length
    if longest is not None and substitute.n_seen >= longest:
        raise UsageError(
            f"{substitute.describe().capitalize()} hides nothing from {model.name!r}, whose context is {longest} "
            "tokens. Choose a shorter window."
        )


def _make_ready(model: TracedModel, substitute: Substitute, mean_rows: Sequence[JudgedRow] | None) -> _Ready:
    """What puts the substitute in place, and where it can stand.

    Raises:
        SiteError: If that is nowhere.
    """
    if isinstance(substitute, Window):
        proof = prove_windows(model.network, substitute)
        ready = _Ready(
            perturber=WindowPerturber(window=substitute),
            placeable=proof.placeable,
            refused=proof.refused,
            n_calls=proof.n_calls,
            n_proved=proof.length,
        )
    else:
        ready = _make_constant(model, substitute, mean_rows)
    if not ready.placeable:
        reasons = "; ".join(f"layer {layer}: {reason}" for layer, reason in list(ready.refused.items())[:3])
        raise SiteError(
            f"There is no layer of {model.name!r} in whose mixer's place {substitute.describe()} can stand "
            f"({reasons}). Choose another substitute (Window, NoMixer, MeanMixer), or another model."
        )
    return ready


def _make_constant(model: TracedModel, substitute: Substitute, mean_rows: Sequence[JudgedRow] | None) -> _Ready:
    """Nothing, or the mean, in the place of what mixers add."""
    why_not = (why_not_offered(model, "mixer_output") or "").strip(",")
    placeable = () if why_not else layers_with("mixer_output", model.network)
    refused = {
        layer.index: f"what its mixer adds {why_not}" if why_not else "it has no mixer"
        for layer in model.anatomy.layers
        if layer.index not in placeable
    }
    is_mean = isinstance(substitute, MeanMixer) and placeable
    means = OnDevices(_mean_additions(model, mean_rows)) if is_mean else None
    return _Ready(perturber=ConstantMixer(means=means), placeable=placeable, refused=refused, n_calls={})


def _mean_additions(model: TracedModel, rows: Sequence[JudgedRow] | None) -> torch.Tensor:
    """The mean of what each layer's mixer adds, over all positions of some rows, [layer, width].

    Raises:
        UsageError: If there is no row.
    """
    if rows is None:
        raise UsageError("MeanMixer is a mean over texts. Give some: mean_rows=[JudgedRow(ids=…, read=…), …].")
    check_rows(rows, model.network)
    network = model.network
    sums = SiteSums.of(network, "mixer_output")
    with observing(network, [sums]):
        for row in rows:
            network.call(torch.tensor([row.ids], device=network.device))
    return sums.means()
