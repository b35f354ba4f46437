"""The formats of evidence and of causal traces as Markdown: generated from the records, their limits and the tables."""

from __future__ import annotations

from collections.abc import Iterable

from layertracer._types import Audit, Interval, LayerMeasure, MeasureInfo
from layertracer.evidence._causal_records import CausalRecord, ExcludedSample, LogitDifference, RoleEffects
from layertracer.evidence._records import (
    Agreement,
    Control,
    DoseResponse,
    EvidenceRecord,
    LensQuality,
    ParticleReading,
    Probing,
    PromptsNeeded,
    SiteEffect,
    VarianceShares,
    Verdict,
)
from layertracer.evidence._storage import CAUSAL_STORED_AS, STORED_AS
from layertracer.runs import FormatWords, describe_record_format


def _titled(kinds: Iterable[type]) -> tuple[tuple[type, str], ...]:
    return tuple((kind, kind.__name__) for kind in kinds)


_CAUSAL_LAWS = (
    "Cells stand exactly where something was patched: of every sample that is not excluded all layers and all "
    "positions from the first corrupted one to the prompt's end, except layers without the site, which have no cell of "
    "any sample; of excluded samples none. `excluded` is ascending, each prompt once. A span lies inside its prompt. A "
    "swap has no noise, and is drawn once. Intervals do not run backwards; indirect effects and their intervals lie in "
    "[−1, 1]."
)

_EVIDENCE = FormatWords(
    title="The evidence folder",
    is_a="Evidence is",
    parts="While a validation runs, its finished stages lie in `.parts/`.",
    never="Evidence never takes the place of a run, advice or a causal trace, nor any of these that of evidence.",
    fields="the evidence",
    in_tables="In the tables, and not in `evidence.json`, stand: of `effects` the numbers, in `js.parquet`; of "
    "`importance` and `text_importance` the numbers, in `importance.parquet`; `target_prob` in `target_prob.parquet`; "
    "of `lenses` the curves, in `lenses.parquet`; of `particles` the layer of each prompt, in `particles.parquet`; "
    "`agreements`; `probes`; of `doses` the curves, in `doses.parquet`. Of a causal trace the same tables hold what "
    "they hold in its own folder, see below, and its other fields stand under `causal`. In `evidence.json` stands "
    "instead how many prompts each has (`n_prompts`), of `target_prob` the names of the lenses, and of a dose whether "
    "there is a curve. An interval is three columns, which are null where there is none.",
    laws="Besides: every array has the model's layers, with the embeddings one more. Each question is answered once. "
    "`share_found` is that of `per_prompt`; a rate of false positives is there where `n_random` is above 0, and lies "
    "in its interval. The layer of an effect has its largest mean, and is one of its contenders; what is clear has no "
    "other. A measure lies between its own bounds. `p_holm` is at least `p`, and neither is there without a value. "
    "Fractions are ascending, the reference among them. Shares of variance add up to 1. Selectivity is accuracy less "
    "that of the control. `causal_reason` says why where there is no causal trace. Rows have the order in which they "
    "are written.",
    records=(
        (EvidenceRecord, "Evidence"),
        *_titled((Verdict, ParticleReading, SiteEffect, LayerMeasure, MeasureInfo, Agreement, Control, DoseResponse)),
        *_titled((VarianceShares, PromptsNeeded, LensQuality, Probing, Interval)),
    ),
)

_CAUSAL = FormatWords(
    title="The folder of a causal trace",
    is_a="A causal trace is",
    parts="",
    never="A causal trace never takes the place of anything else, nor anything else that of a causal trace.",
    fields="the causal trace",
    in_tables="In the tables, and not in `causal.json`, stand: the restored probabilities and logit differences, in "
    "`causal_cells.parquet`; what there is one of for each prompt, in `causal_prompts.parquet`; the curves of "
    "`by_role` and `recovery_by_role`, in `causal_roles.parquet`. `n_positions` in `causal.json` is the third axis of "
    "`restored_prob`; `logit_difference` is null there, or an empty object whose numbers stand in the tables.",
    laws=_CAUSAL_LAWS,
    records=(
        (CausalRecord, "Causal trace"),
        *_titled((ExcludedSample, LogitDifference, RoleEffects, Audit, Interval)),
    ),
)


def describe_evidence_format() -> str:
    """The formats of evidence folders and of causal traces as Markdown.

    Example:
        >>> describe_evidence_format().splitlines()[0]
        '# The evidence folder'
    """
    lines = [*describe_record_format(STORED_AS, _EVIDENCE), "", *describe_record_format(CAUSAL_STORED_AS, _CAUSAL)]
    return "\n".join(lines) + "\n"
