"""Numbers in sentences of verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from layertracer._types import Interval
from layertracer.evidence import Agreement, ParticleReading, Verdict
from layertracer.measures import Correlation

ASKED = {
    "threshold": "Is the task particle the same whatever the criterion and its threshold?",
    "lens": "Do fitted lenses place the task particle where the logit lens does?",
    "false_positives": "Does the criterion keep quiet on tokens that are not the answer?",
    "causal": "Does the particle go with the depth of the causal effect as the paper says (Pearson 0.68)?",
    "mask": "Is what a mask finds the layer's, and not the mask's?",
    "importance": "Do other measures of a layer's importance order the layers as JS does?",
    "controls": "Do the controls come out as they should?",
    "dose": "Is the order of the layers the same however much is masked?",
    "dominant": "Is the effect at the block's output due to a few dominant dimensions?",
    "running_text": "Are the same layers vulnerable on running text?",
    "prompts": "Are there enough prompts to place the particle within ±1 layer?",
    "templates": "Is the particle the same with other demonstrations and templates?",
}
"""Every question in words."""


def verdict(question: str, answer: str, sentence: str, caveat: str = "") -> Verdict:
    """A verdict on one of the questions."""
    return Verdict(
        question=question,
        asked=ASKED[question],
        answer=answer,  # type: ignore[arg-type]  # one of them
        sentence=sentence,
        caveat=caveat,
    )


def unmeasured(question: str, why: str) -> Verdict:
    """That a question was not measured, and why."""
    return verdict(question, "not measured", why or "It was not asked for.")


def layer_words(reading: ParticleReading) -> str:
    """The layer of a particle with its interval."""
    if reading.layer is None:
        return "none"
    if reading.interval is None:
        return f"layer {reading.layer} (no interval)"
    return f"layer {reading.layer} ({span(reading.interval, digits=0)})"


def span(interval: Interval, *, digits: int = 2, sign: bool = False) -> str:
    """Both ends of an interval."""
    form = f"{'+' if sign else ''}.{digits}f"
    return f"{interval.low:{form}} to {interval.high:{form}}"


def correlation_words(found: Agreement | Correlation) -> str:
    """A correlation with its interval, its p, and what it is over."""
    if found.value is None:
        return f"not defined ({found.note or 'no spread'})"
    told = "no interval" if found.interval is None else f"95 % interval {span(found.interval, sign=True)}"
    p = "" if found.p is None else f", p {found.p:.2g}"
    return f"{found.value:+.2f} ({told}{p}, {found.n_units} {found.units})"


def listed(parts: Sequence[str]) -> str:
    """Parts in a row, with "and" before the last."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
