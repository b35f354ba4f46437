"""Verdicts: what the data of a comparison say of the two claims, and why. One or two models decide nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from layertracer._types import Interval
from layertracer.comparisons._results import ModelSummary, Outcome, ParticleDepth, ScalingTrend, Verdict
from layertracer.comparisons._settings import ComparisonSettings
from layertracer.measures import group_sizes

DEEP = "Task particles lie deep, whatever the size and the mixer."
ROBUST = "Larger models are more robust."

MEASURES: Mapping[str, str] = {"mean_js_bits": "mean JS divergence", "max_js_bits": "largest JS divergence"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """How much variety a verdict rests on."""

    n_models: int
    n_sizes: int
    n_mixer_sets: int
    n_prompts: int


def judge_depth(
    models: Sequence[ModelSummary], settings: ComparisonSettings, *, follows_answer: bool
) -> tuple[Verdict, ...]:
    """Claim 1, for every criterion and lens; the runs' own criterion is the headline.

    A model is deep where its particle's interval begins deeper than `deep_depth`, and more than 1 - (1 - level) / 2 of
    the resamples that find a layer find a deep one. It is shallow where its interval ends above that depth, and at most
    (1 - level) / 2, divided by the number of models, do. All deep, over several sizes and sets of mixers: supported.
    One shallow: contradicted, since the claim is about every model. Below `min_models`: undecided.
    """
    counted = [model for model in models if _counts_for_depth(model, settings, follows_answer=follows_answer)]
    counts = _count(counted, settings)
    left_out = [model.label for model in models if model not in counted]
    note = f" Not counted, for few prompts or an unsolved task: {_name(left_out)}." if left_out else ""
    verdicts = []
    for number, particle in enumerate(models[0].particles):
        found = {model.label: model.particles[number] for model in counted}
        outcome, reason = _decide_depth(found, counts, settings)
        placed = [(one.depth, _low(one.interval), one) for one in found.values() if one.depth is not None]
        _, _, least = min(placed, key=lambda place: place[:2], default=(None, None, None))
        verdict = Verdict(
            claim="deep_particles",
            statement=DEEP,
            is_headline=particle.is_headline,
            quantity="particle_depth",
            lens=particle.lens,
            criterion=particle.criterion,
            outcome=outcome,
            reason=reason + note,
            statistic_name="least deep particle (relative depth)",
            statistic=None if least is None else least.depth,
            interval=None if least is None else least.interval,
            p_value=None,
            n_models=counts.n_models,
            n_sizes=counts.n_sizes,
            n_prompts=counts.n_prompts,
        )
        verdicts.append(verdict)
    return tuple(verdicts)


def judge_robustness(
    models: Sequence[ModelSummary], trends: Sequence[ScalingTrend], settings: ComparisonSettings
) -> tuple[Verdict, ...]:
    """Claim 2: the headline, which asks the mean and the largest JS divergence to agree, and a verdict on each.

    Supported where the slope's interval lies below 0 and the exact test finds a falling trend; contradicted where both
    find a rising one; undecided otherwise, and where fewer than `min_models` models or sizes can be compared.
    """
    counts = _count([model for model in models if model.mean_js is not None], settings)
    parts = [_judge_trend(trend, counts, settings) for trend in trends if trend.quantity in MEASURES]
    outcomes = {part.outcome for part in parts}
    outcome: Outcome = parts[0].outcome if len(outcomes) == 1 else "undecided"
    reasons = list(dict.fromkeys(part.reason for part in parts))
    headline = replace(
        parts[0],
        is_headline=True,
        quantity=None,
        outcome=outcome,
        reason=" ".join(reasons),
        n_sizes=min(part.n_sizes for part in parts),
    )
    return (headline, *parts)


def _counts_for_depth(model: ModelSummary, settings: ComparisonSettings, *, follows_answer: bool) -> bool:
    """Whether a model has enough prompts, and solves enough of them to have a particle of this task at all."""
    share = model.begins_share if model.solved_share is None else model.solved_share
    is_solved = not follows_answer or share is None or share >= settings.min_solved
    return model.n_prompts >= settings.min_prompts and is_solved


def _count(models: Sequence[ModelSummary], settings: ComparisonSettings) -> _Counts:
    """Different models, sizes and sets of mixers; the same weights twice are one model."""
    if not models:
        return _Counts(n_models=0, n_sizes=0, n_mixer_sets=0, n_prompts=0)
    sizes = [model.n_parameters for model in models]
    groups = group_sizes(sizes, ["all"] * len(sizes), tolerance=settings.size_tolerance)
    return _Counts(
        n_models=len({model.identity for model in models}),
        n_sizes=groups.n_groups,
        n_mixer_sets=len({frozenset(model.mixers) - {"none"} for model in models}),
        n_prompts=min(model.n_prompts for model in models),
    )


def _decide_depth(
    found: Mapping[str, ParticleDepth], counts: _Counts, settings: ComparisonSettings
) -> tuple[Outcome, str]:
    """The outcome for one criterion, and why."""
    tail, limit = settings.significance / 2, f"{settings.deep_depth:g}"
    sure = {label: one for label, one in found.items() if one.interval_share_found >= settings.level}
    deep, shallow = [], []
    for label, one in sure.items():
        share, interval = one.share_deep or 0.0, one.interval
        if interval is None:
            continue
        if share > 1 - tail and interval.low > settings.deep_depth:
            deep.append(label)
        elif share <= tail / max(counts.n_models, 1) and interval.high <= settings.deep_depth:
            shallow.append(label)
    places = [_place(label, one) for label, one in found.items() if label not in deep]
    n = len(found)
    if counts.n_models < settings.min_models:
        shown = f" Here: {_name([_place(label, one) for label, one in found.items()])}." if found else ""
        return "undecided", f"{_too_few(counts.n_models, settings)}{shown}"
    if shallow:
        where = _name([_place(label, found[label]) for label in shallow])
        return "contradicted", f"Not deeper than {limit}: {where}. The claim is about every model."
    if len(deep) < n:
        return "undecided", f"{len(deep)} of {n} intervals begin deeper than {limit}; not so {_name(places)}."
    if counts.n_mixer_sets < 2 or counts.n_sizes < 2:
        alike = "kinds of mixers" if counts.n_mixer_sets < 2 else "size"
        return "undecided", f"All {n} intervals begin deeper than {limit}, but all models are alike in their {alike}."
    variety = f"{counts.n_sizes} sizes and {counts.n_mixer_sets} sets of mixers"
    return "supported", f"All {n} intervals begin deeper than {limit}, over {variety}."


def _judge_trend(trend: ScalingTrend, counts: _Counts, settings: ComparisonSettings) -> Verdict:
    outcome, reason = _decide_trend(trend, counts, settings)
    return Verdict(
        claim="larger_is_more_robust",
        statement=ROBUST,
        is_headline=False,
        quantity=trend.quantity,
        lens=None,
        criterion=None,
        outcome=outcome,
        reason=reason,
        statistic_name=f"log-log slope of the {MEASURES[trend.quantity]}",
        statistic=trend.slope,
        interval=trend.interval,
        p_value=trend.p_value,
        n_models=_n_contrasted(trend, counts),
        n_sizes=trend.n_sizes,
        n_prompts=trend.n_prompts,
    )


def _n_contrasted(trend: ScalingTrend, counts: _Counts) -> int:
    """Different models whose sizes are compared."""
    return min(trend.n_models, counts.n_models)


def _decide_trend(trend: ScalingTrend, counts: _Counts, settings: ComparisonSettings) -> tuple[Outcome, str]:
    if trend.slope is None or trend.interval is None or trend.tau is None or trend.p_value is None:
        note = trend.note or "there is no slope"
        return "undecided", f"{_sentence_case(note)}."
    if _n_contrasted(trend, counts) < settings.min_models:
        return "undecided", _too_few(_n_contrasted(trend, counts), settings)
    if trend.n_sizes < settings.min_models:
        sizes = "size" if trend.n_sizes == 1 else "sizes"
        return "undecided", f"{trend.n_sizes} {sizes} can be compared; a trend needs at least {settings.min_models}."
    if trend.n_prompts < settings.min_prompts:
        return "undecided", f"A model has {trend.n_prompts} prompts; at least {settings.min_prompts} are needed."
    ends = f"{trend.interval.low:+.2f} to {trend.interval.high:+.2f}"
    families = "1 family" if trend.n_families == 1 else f"{trend.n_families} families"
    numbers = (
        f"{_sentence_case(MEASURES[trend.quantity])}: slope {trend.slope:+.2f} ({ends}), tau {trend.tau:+.2f}, "
        f"p = {trend.p_value:.2g} over {trend.n_sizes} sizes in {families}"
    ).replace("-", "−")
    is_clear = trend.p_value <= settings.significance
    if is_clear and trend.tau < 0 and trend.interval.high < 0:
        return "supported", f"{numbers}: it falls with size."
    if is_clear and trend.tau > 0 and trend.interval.low > 0:
        return "contradicted", f"{numbers}: it rises with size."
    return "undecided", f"{numbers}: {_why_unclear(trend, settings)}."


def _why_unclear(trend: ScalingTrend, settings: ComparisonSettings) -> str:
    interval, least = trend.interval, trend.least_p_value
    if interval is not None and interval.low <= 0 <= interval.high:
        return "the slope's interval holds 0"
    if least is not None and least > settings.significance:
        return f"no order of so few sizes can give a p below {least:.2g}"
    return f"the order of the sizes is not clear at p ≤ {settings.significance:g}"


def _sentence_case(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _too_few(n_models: int, settings: ComparisonSettings) -> str:
    counted = "1 model counts" if n_models == 1 else f"{n_models} models count"
    return f"{counted}; a claim about models needs at least {settings.min_models}."


def _place(label: str, particle: ParticleDepth) -> str:
    """A model and where its particle lies."""
    if particle.depth is None:
        return f"{label} (no particle)"
    found = particle.interval_share_found
    if particle.interval is None:
        why = "too few prompts for an interval" if found == 1 else f"found in {100 * found:.0f} % of resamples"
        return f"{label} ({particle.depth:.2f}, {why})"
    where = f"{particle.depth:.2f}, {particle.interval.low:.2f} to {particle.interval.high:.2f}"
    return f"{label} ({where}{'' if found == 1 else f', found in {100 * found:.0f} % of resamples'})"


def _low(interval: Interval | None) -> float:
    return float("inf") if interval is None else interval.low


def _name(names: Iterable[str], limit: int = 4) -> str:
    every = list(names)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more
