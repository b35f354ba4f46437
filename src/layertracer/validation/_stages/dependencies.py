"""What each stage depends on besides the model, its prompts and the seed: kept ones are taken where it is equal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from layertracer._errors import LayerTracerError
from layertracer._types import Sample
from layertracer.tracing import Lens, encode_for, text_fingerprint
from layertracer.validation._setting import Setting
from layertracer.validation._stages.causal import asked_causally
from layertracer.validation._stages.crossed import crossed_prompts
from layertracer.validation._stages.few_shot import arbitrary_labels, shuffled_demonstrations
from layertracer.validation._stages.lenses import text_of_lenses
from layertracer.validation._stages.text import text_samples

Dependencies = dict[str, dict[str, Any] | None]

_LENS = "lens:"


def stage_dependencies(setting: Setting, names: Iterable[str]) -> Dependencies:
    """What stages depend on, as JSON values; None for one of which that cannot be said, which is measured anew.

    Laws: two calls for which a stage would find different numbers give it different dependencies; what does not change
    what a stage finds is none of them, so that it is taken.

    Args:
        setting: What is measured on.
        names: The stages.
    """
    lenses = {f"{_LENS}{getattr(lens, 'name', lens)}": lens for lens in setting.options.lenses}
    own: Mapping[str, Callable[[Setting], Mapping[str, Any] | None]] = {
        "doses": lambda setting: {"fractions": list(setting.options.doses)},
        "arbitrary_labels": lambda setting: {"prompts": _of_prompts(setting, arbitrary_labels(setting))},
        "shuffled_demonstrations": lambda setting: {"prompts": _of_prompts(setting, shuffled_demonstrations(setting))},
        "causal": _of_causal,
        "text": _of_text,
        "text_importance": _of_text,
        "crossed": _of_crossed,
    }
    common = _common(setting)
    found: Dependencies = {}
    for name in names:
        try:
            more = _of_lens(setting, lenses[name]) if name in lenses else own.get(name, _of_nothing_else)(setting)
        except LayerTracerError:  # as the stage itself will be told
            more = None
        found[name] = None if more is None else {**common, **more}
    return found


def _common(setting: Setting) -> dict[str, Any]:
    """What every stage depends on and no folder is refused for."""
    plain = setting.model.anatomy.plain_tokens.cpu().numpy()
    return {
        "audit": float(setting.options.audit),
        "sites": [str(site) for site in setting.options.sites],
        "answers": _digest([(one.n_lead, one.n_blank, one.others) for one in setting.encoded]),
        "plain_tokens": hashlib.sha256(plain.tobytes()).hexdigest(),
        "tokenizer": type(setting.model.tokenizer).__name__,
    }


def _of_causal(setting: Setting) -> dict[str, Any]:
    settings, asked = asked_causally(setting)
    return {**settings.to_spec(), "asked": _digest((asked.prompts, asked.samples, asked.excluded, asked.notes))}


def _of_text(setting: Setting) -> dict[str, Any]:
    """Passages; what the model writes itself follows from its weights and the seed, and is not written for this."""
    return {"text": None if setting.question.text is None else _digest(text_samples(setting))}


def _of_crossed(setting: Setting) -> dict[str, Any]:
    crossed = crossed_prompts(setting)
    if crossed is None:
        return {"crossed": None}
    prompts = _of_prompts(setting, crossed.task.samples)
    cells = (crossed.query.tolist(), crossed.demonstration_set.tolist(), crossed.template.tolist())
    return {"crossed": _digest((prompts, cells, crossed.task.spec["templates"]))}


def _of_lens(setting: Setting, lens: str | Lens) -> dict[str, Any] | None:
    """A lens by the fingerprint in its details; without one nobody knows whether it is the same."""
    text = text_of_lenses(setting)
    own: dict[str, Any] = {"text": None if text is None else text_fingerprint(setting.model, text)}
    if isinstance(lens, str):
        return {**own, "fitted": lens}
    if "fingerprint" not in lens.details:
        return None
    return {**own, "lens": _digest((type(lens).__name__, lens.name, lens.details))}


def _of_prompts(setting: Setting, samples: Iterable[Sample] | None) -> str | None:
    return None if samples is None else _digest(encode_for(setting.model, samples, chat=False).samples)


def _digest(content: object) -> str:
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _of_nothing_else(setting: Setting) -> dict[str, Any]:
    """What a stage depends on that has nothing but the common."""
    del setting
    return {}
