"""Every question of a referee, answered from what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from layertracer.evidence import EvidenceRecord, Verdict
from layertracer.validation._verdicts.extras import Extras
from layertracer.validation._verdicts.of_layers import (
    judge_controls,
    judge_dominant,
    judge_dose,
    judge_importance,
    judge_mask,
    judge_running_text,
)
from layertracer.validation._verdicts.of_particle import (
    judge_causal,
    judge_false_positives,
    judge_lens,
    judge_prompts,
    judge_templates,
    judge_threshold,
)

JUDGES: Mapping[str, Callable[[EvidenceRecord, Extras], Verdict]] = {
    "threshold": judge_threshold,
    "lens": judge_lens,
    "false_positives": judge_false_positives,
    "causal": judge_causal,
    "mask": judge_mask,
    "importance": judge_importance,
    "controls": judge_controls,
    "dose": judge_dose,
    "dominant": judge_dominant,
    "running_text": judge_running_text,
    "prompts": judge_prompts,
    "templates": judge_templates,
}
"""The questions, in order."""


def judge_everything(record: EvidenceRecord, extras: Extras) -> tuple[Verdict, ...]:
    """The verdicts on a record, one on each question."""
    return tuple(judge(record, extras) for judge in JUDGES.values())
