"""One joint trace at every site of the model, and running text likewise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layertracer._errors import SiteError
from layertracer._types import FALLBACK_SITE, Mask, Perturbation, Sample, TargetTokens
from layertracer.runs import TraceRecord
from layertracer.tracing import Progress, TraceOptions, trace_model
from layertracer.validation._setting import Setting
from layertracer.validation._stages.keeping import Found

Tell = Callable[[Progress], None]


def options_of(setting: Setting, perturbations: Sequence[Perturbation], **more: Any) -> TraceOptions:
    """Options of a trace of the validation."""
    asked = setting.options
    settings: dict[str, Any] = {"seed": asked.seed, "audit": asked.audit, "memory": asked.memory}
    return TraceOptions(perturbation=list(perturbations), **settings | more)


def trace_sites(
    setting: Setting, samples: Sequence[Sample], tell: Tell, *, target_tokens: TargetTokens = "first"
) -> Found:
    """The trace of some prompts at every site that the model has.

    Where additions are not found again on these prompts, at the site that every model has.

    Raises:
        LayerTracerError: As `trace_model`.
    """
    seed, notes = setting.options.seed, []
    tried = [[Mask(site=site, seed=seed) for site in setting.options.sites], [Mask(site=FALLBACK_SITE, seed=seed)]]
    try:
        options = options_of(setting, tried[0], target_tokens=target_tokens)
        record = trace_model(setting.model, samples, options, on_progress=tell)
    except SiteError as error:
        notes.append(f"Traced at {FALLBACK_SITE} alone: {error}")
        options = options_of(setting, tried[1], target_tokens=target_tokens)
        record = trace_model(setting.model, samples, options, on_progress=tell)
    return pack_trace(record, notes)


def pack_trace(record: TraceRecord, notes: Sequence[str] = ()) -> Found:
    """What of a trace is kept."""
    arrays: dict[str, Any] = {
        "target_log_prob": record.target_log_prob,
        "embedding_log_prob": record.embedding_log_prob,
        "target_rank": record.target_rank,
        "solved": np.array([bool(prompt.solved) for prompt in record.prompts]),
        "begins": np.array([bool(prompt.begins) for prompt in record.prompts]),
    }
    sites = {}
    for site, effect in record.effects.items():
        found = effect.vulnerable_layer
        arrays[f"js_bits.{site}"] = effect.js_bits
        arrays[f"dominant_dimension.{site}"] = effect.dominant_dimension
        arrays[f"dominant_ratio.{site}"] = effect.dominant_ratio
        arrays[f"dominant_hit.{site}"] = effect.dominant_hit
        sites[site] = {
            "layer": found.layer,
            "is_clear": found.is_clear,
            "contenders": list(found.contenders),
            "note": found.note or "",
        }
    audit = record.audit
    facts = {
        "sites": sites,
        "solved_share": record.solved_share,
        "method": record.method,
        "audit": None if audit is None else [audit.n_cells, audit.worst_bits, audit.worst_nats],
        "notes": [*notes, *record.warnings, *(audit.notes if audit is not None else ())],
    }
    return Found(facts=facts, arrays=arrays)
