"""What the stages take, about: forwards, and seconds by one timed forward."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from layertracer.evidence import ValidationPlan, ValidationStage
from layertracer.tracing import time_forward
from layertracer.validation._setting import Setting
from layertracer.validation._stages.masked import N_DRAWS

_HALF = 0.5
"""A perturbed row runs through half of the layers, on average."""
_STATE = 1
"""Sites that have no dimensions, where all are traced."""
_IMPORTANCE, _QUICK_IMPORTANCE = 4.0, 2.0
_FITTING: Mapping[str, float] = {"linear": 150.0, "tuned": 800.0, "jacobian": 4000.0}


def plan_stages(setting: Setting, names: Mapping[str, str], known: Collection[str]) -> ValidationPlan:
    """The stages with what each takes.

    Args:
        setting: What is measured on.
        names: Stages in the order in which they run, with their words.
        known: Those of them that earlier calls measured.
    """
    longest = max(range(len(setting.encoded)), key=lambda index: len(setting.encoded[index].prompt_ids))
    tokens_per_s = time_forward(setting.model, setting.samples[longest])
    seconds = len(setting.encoded[longest].prompt_ids) / tokens_per_s
    stages = []
    for name, words in names.items():
        n_forwards = _n_forwards(setting, name)
        stages.append(
            ValidationStage(
                name=name, words=words, n_forwards=n_forwards, cpu_s=n_forwards * seconds, is_known=name in known
            )
        )
    return ValidationPlan(stages=tuple(stages), n_prompts=len(setting.samples), tokens_per_s=tokens_per_s)


def _n_forwards(setting: Setting, name: str) -> float:
    """Whole forwards of a prompt, about."""
    options, n_layers = setting.options, setting.n_layers
    n, n_few = len(setting.samples), len(setting.few)

    def traced(n_prompts: int, n_rows: float, *, shared: float = shared_share(setting)) -> float:
        n_read = shared + n_prompts * (1.0 - shared)
        return n_read * (1.0 + _HALF * n_layers * n_rows)

    n_sites = len(options.sites)
    n_wide = n_sites if options.quick else n_sites - _STATE
    rows_of_dose = n_wide * (N_DRAWS * (len(options.doses) + 1) + 1)
    importance = _QUICK_IMPORTANCE if options.quick else _IMPORTANCE
    kind = name.partition(":")[2]
    length = max(len(sample.prompt_ids) for sample in setting.encoded)
    by_name = {
        "traces": traced(n, n_sites * N_DRAWS),
        "readings": float(n),
        "doses": traced(n_few, rows_of_dose),
        "importance": traced(n, importance),
        "random_directions": traced(n_few, n_wide * N_DRAWS),
        "reinitialised_model": traced(n_few, n_sites * N_DRAWS),
        "arbitrary_labels": float(n),
        "shuffled_demonstrations": float(n),
        "probes": float(n),
        "causal": n_few * _HALF * _HALF * n_layers * min(length, 40),
        "text": traced(setting.options.n_passages, n_sites * N_DRAWS, shared=0.0),
        "text_importance": traced(setting.options.n_passages, importance, shared=0.0),
        "crossed": traced(6 * options.n_demonstration_sets * options.n_templates, N_DRAWS),
    }
    return by_name.get(name, _FITTING.get(kind, 1.0) + n)


def shared_share(setting: Setting) -> float:
    """Share of a prompt's tokens with which all prompts begin, which are read once for all of them."""
    prompts = [sample.prompt_ids for sample in setting.encoded]
    if len(prompts) < 2:
        return 0.0
    first, last = min(prompts), max(prompts)
    n_shared = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return n_shared * len(prompts) / sum(map(len, prompts))
