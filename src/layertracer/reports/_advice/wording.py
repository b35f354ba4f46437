"""How advice is said: layers, costs, how sure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from layertracer._types import Interval
from layertracer.advice import BASELINES, AdviceRecord, Judgement, Placement
from layertracer.reports._values.numbers import show_estimate, show_number, show_ranges, show_share
from layertracer.reports._values.visible import plain

TEXT = "text"

Held = TypeVar("Held")

_NAMES = {
    "uniform": "uniform",
    "random": "random",
    "most_vulnerable": "most vulnerable",
    "around_particle": "around the task particle",
    "published": "published list",
}
_VERDICTS = {"better": "better than chance", "worse": "worse than chance", "undecided": "undecided"}
_SEARCHES = {
    "greedy": "greedily, from both ends",
    "singles": "as the largest by removing one",
    "joint_js": "as the largest by the joint JS divergence",
    "pairs": "by single layers and pairs",
    "exact": "among all there are",
}


def kind_order(kinds: Iterable[str]) -> list[str]:
    """Kinds of rows in the order in which they are shown: text, then tasks by name."""
    return sorted(set(kinds), key=lambda kind: (kind != TEXT, kind))


def kinds_of(record: AdviceRecord) -> list[str]:
    """Kinds of rows of which single layers were measured."""
    return kind_order([*record.singles.removed_kl_nats, *record.singles.restored_kl_nats])


def tasks_of(record: AdviceRecord) -> list[str]:
    """Tasks on which placements were judged."""
    judged = [one.judgement for one in record.placements.values() if one.judgement is not None]
    judged += [] if record.ratio is None else list(record.ratio.judgements)
    return sorted({task for judgement in judged for task in judgement.accuracy})


def in_order(named: Mapping[str, Held]) -> Iterator[tuple[str, Held]]:
    """Baselines in the order in which they are shown."""
    return ((name, named[name]) for name in BASELINES if name in named)


def baseline_name(name: str) -> str:
    """A baseline in words."""
    return _NAMES.get(name, plain(name))


def verdict_words(placement: Placement) -> str:
    """Where a placement stands beside random ones, in a few words."""
    if placement.judgement is None:
        return "not judged"
    return "nothing to compare with" if placement.percentile is None else _VERDICTS[placement.verdict]


def search_words(chosen_by: str) -> str:
    """How a placement was chosen."""
    return _SEARCHES.get(chosen_by, f"by {plain(chosen_by)}")


def layers_words(layers: Sequence[int]) -> str:
    """Layers with the word for them."""
    if not layers:
        return "no layer"
    return f"layer{'' if len(layers) == 1 else 's'} {show_ranges(layers)}"


def show_percentile(value: float | None, interval: Interval | None = None) -> str:
    """A percentile in percent, with its interval.

    Example:
        >>> show_percentile(0.0, Interval(low=0.0, high=1.9)), show_percentile(None)
        ('0 % (0–1.9)', '–')
    """
    if value is None:
        return "–"
    ends = "" if interval is None else f" ({interval.low:.3g}–{interval.high:.3g})"
    return f"{value:.3g} %{ends}"


def show_accuracy(judgement: Judgement, task: str) -> str:
    """The share of a task's prompts that are solved, with its interval, and the full model's."""
    found = judgement.accuracy.get(task)
    if found is None:
        return "–"
    ends = f"{100 * found.interval.low:.0f}–{100 * found.interval.high:.0f}"
    return f"{show_share(found.share)} ({ends}) of {show_share(found.full_share)}"


def has_text(record: AdviceRecord) -> bool:
    """Whether placements were judged on text; else their cost is that at the tasks' answers."""
    return TEXT in record.evaluations.n_held_out_rows


def cost_head(record: AdviceRecord) -> str:
    """Heading of a column of costs."""
    return "KL of text, nats" if has_text(record) else "KL at the answers, nats"


def show_cost(judgement: Judgement | None, *, of_text: bool) -> str:
    """KL of text with its interval; without text that at the answers, with an interval where there is one task."""
    if judgement is None or (of_text and np.isnan(judgement.kl_nats)):
        return "–"
    if of_text:
        return show_estimate(judgement.kl_nats, judgement.kl_interval)
    tasks = list(judgement.accuracy.values())
    if not tasks:
        return "–"
    return show_estimate(judgement.objective, tasks[0].kl_interval if len(tasks) == 1 else None)


def show_nll(judgement: Judgement | None) -> str:
    """Change of the negative log-likelihood of text with its interval."""
    if judgement is None or np.isnan(judgement.nll_change):
        return "–"
    return show_estimate(judgement.nll_change, judgement.nll_interval, sign=True)


def cost_words(judgement: Judgement | None) -> str:
    """What a placement costs, in a phrase: by its text, else by its tasks."""
    if judgement is not None and not np.isnan(judgement.kl_nats):
        return f"{show_number(judgement.kl_nats)} nats from the full model"
    if judgement is not None and judgement.accuracy:
        return f"{show_number(judgement.objective)} nats from the full model at the tasks' answers"
    return "not judged"


def below_best_words(placement: Placement) -> str:
    """How far a placement is from the best random one; "" where there is none."""
    if placement.below_best_nats is None:
        return ""
    side = "below" if placement.below_best_nats >= 0 else "above"
    shown, interval = show_number(abs(placement.below_best_nats)), placement.below_best_interval
    if interval is None:
        return f"{shown} nats {side} the best of them"
    ends = sorted((interval.low, interval.high)) if side == "below" else sorted((-interval.low, -interval.high))
    return f"{shown} nats {side} the best of them ({' to '.join(show_number(end) for end in ends)})"


def standing_words(placement: Placement) -> str:
    """Where a placement stands among random ones, in a sentence."""
    if placement.percentile is None:
        return "No random placements of this size were measured beside it."
    share = show_percentile(placement.percentile, placement.percentile_interval)
    best = below_best_words(placement)
    return f"{share} of {placement.n_random:,} random placements of this size cost less{f'; {best}' if best else ''}."
