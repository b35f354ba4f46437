"""What was corrupted, patched and left out, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from layertracer.evidence import CausalRecord, Peak
from layertracer.reports._values.numbers import show_count, show_number, show_ranges
from layertracer.reports._values.visible import isolate, shorten, visible_line, visible_token

_SITES: Mapping[str, str] = {
    "block_output": "residual stream after a layer",
    "mixer_output": "output of a layer's mixer",
    "mlp_output": "output of a layer's MLP",
}

_REASONS: Mapping[str, str] = {
    "unsolved": "not solved",
    "small_effect": "corruption moves them too little",
    "lengths_differ": "contrast of another length",
    "same_prompt": "contrast is the prompt itself",
    "no_subject": "no subject in the prompt",
    "no_contrast": "no contrast",
    "no_answer": "no answer",
    "same_answer": "both answers begin alike",
    "answers_apart": "answers that cannot be compared",
    "too_long": "too long",
    "unfinished": "not reached",
}

_IN_FULL: Mapping[str, str] = {
    "first_subject": "first subject token",
    "middle_subject": "middle subject tokens",
    "last_subject": "last subject token",
    "first_subsequent": "token behind the subject",
    "further": "tokens further on",
    "last": "last token",
}


def plain_line(text: object, limit: int) -> str:
    """A name that a model or a file brought, on one line."""
    return shorten(visible_line(str(text)), limit)


def site_words(record: CausalRecord) -> str:
    """What was patched."""
    return _SITES.get(record.site, plain_line(record.site, 40))


def reason_words(reason: str) -> str:
    """Why samples were left out, in a few words."""
    return _REASONS.get(reason, plain_line(reason.replace("_", " "), 40))


def role_words(role: str) -> str:
    """A role in full."""
    return _IN_FULL.get(role, plain_line(role.replace("_", " "), 40))


def corruption_words(record: CausalRecord) -> str:
    """How prompts were corrupted."""
    if record.corrupt == "swap":
        return "the contrast prompt is run instead"
    scale = show_number(record.noise_scale or 0.0)
    return f"noise of {scale} standard deviations on the subject's embeddings, {show_count(record.n_draws, 'draw')}"


def direction_words(record: CausalRecord) -> str:
    """What was put into what."""
    if record.direction == "noise":
        return "corrupted values into the clean run"
    return "clean values into the corrupted run"


def window_words(record: CausalRecord) -> str:
    """How many layers were patched together."""
    return "" if record.window == 1 else f" of {record.window} layers together"


def has_differences(record: CausalRecord) -> bool:
    """Whether recovery is of logit differences: where all prompts that ran have them."""
    part = record.logit_difference
    return part is not None and not bool(np.isnan(part.clean[~np.isnan(record.clean_prob)]).any())


def left_out_words(record: CausalRecord) -> str:
    """How many samples were left out, by reason; "" where none was."""
    counts = Counter(one.reason for one in record.excluded)
    return ", ".join(f"{n} {reason_words(reason)}" for reason, n in counts.most_common())


def contender_words(peak: Peak) -> str:
    """What cannot be told from a peak."""
    own = [layer for role, layer in peak.contenders if role == peak.role]
    others = list(dict.fromkeys(role for role, _ in peak.contenders if role != peak.role))
    parts = [f"layers {show_ranges(own)} of it"] if own else []
    for role in others:
        layers = [layer for one, layer in peak.contenders if one == role]
        parts.append(f"layers {show_ranges(layers)} of the {role_words(role)}")
    return " and ".join(parts)


def ends_of(low: float, high: float, digits: int = 2) -> str:
    """Both ends of an interval."""
    return f"{show_number(low, digits=digits)} to {show_number(high, digits=digits)}"


def prompt_words(record: CausalRecord, index: int, limit: int = 60) -> str:
    """The end of a prompt as a label."""
    if not record.token_texts or not record.token_texts[index]:
        return show_count(int(record.lengths[index]), "token")
    text = visible_line("".join(record.token_texts[index]))
    return isolate(text if len(text) <= limit else f"…{text[1 - limit :]}")


def subject_words(record: CausalRecord, index: int, limit: int = 40) -> str:
    """What was corrupted of a prompt, as a label."""
    first, end = record.subject_spans[index].tolist()
    if first < 0:
        return "–"
    if not record.token_texts or not record.token_texts[index]:
        return f"tokens {first}–{end - 1}"
    return isolate(shorten(visible_line("".join(record.token_texts[index][first:end])).strip() or "∅", limit))


def token_words(record: CausalRecord, index: int, position: int, limit: int = 16) -> str:
    """One token as a label."""
    if not record.token_texts or not record.token_texts[index]:
        return f"#{position}"
    return isolate(shorten(visible_token(record.token_texts[index][position]), limit))
