"""Importance of layers by other means, on the task or on running text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from layertracer._types import LayerMeasure, MeasureInfo, Sample, TargetTokens
from layertracer.runs import to_tree
from layertracer.tracing import Progress
from layertracer.validation._importance.fidelity import gradient_fidelity
from layertracer.validation._importance.infos import IMPORTANCE_NAMES
from layertracer.validation._importance.measure import measure_importance
from layertracer.validation._setting import Setting
from layertracer.validation._stages.keeping import Found

Tell = Callable[[Progress], None]

QUICK = ("skip_js_bits", "zero_mixer_js_bits", "zero_mlp_js_bits", "block_influence", "angular_distance")
"""Measures of the short form."""


def names_of(setting: Setting) -> tuple[str, ...]:
    """The measures that are asked for; those that need a contrast answer are left to those who ask."""
    return QUICK if setting.options.quick else tuple(one for one in IMPORTANCE_NAMES if "difference" not in one)


def take_importance(
    setting: Setting, samples: Sequence[Sample], tell: Tell, *, target_tokens: TargetTokens = "first"
) -> Found:
    """Every other measure of importance, on some prompts."""
    found = measure_importance(
        setting.model,
        samples,
        names=names_of(setting),
        target_tokens=target_tokens,
        seed=setting.options.seed,
        audit=setting.options.audit,
        memory=setting.options.memory,
        on_progress=tell,
    )
    return Found(
        facts={
            "infos": {name: to_tree(measure.info) for name, measure in found.items()},
            "why_not": dict(found.why_not),
            "fidelity": gradient_fidelity(found),
            "notes": [*found.notes, *(f"{name} was not measured: {why}." for name, why in found.why_not.items())],
        },
        arrays={name: measure.values for name, measure in found.items()},
    )


def unpack_measures(found: Found) -> dict[str, LayerMeasure]:
    """The measures of a stage."""
    return {
        name: LayerMeasure(info=MeasureInfo(**info), values=found.arrays[name])
        for name, info in found.facts.get("infos", {}).items()
    }
