"""Running text as prompts with long answers, so that many positions of it are read at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layertracer._types import Sample
from layertracer.tracing import Progress, gather_text
from layertracer.validation._setting import Setting
from layertracer.validation._stages.importance import take_importance
from layertracer.validation._stages.keeping import Found, not_measured
from layertracer.validation._stages.traces import trace_sites

Tell = Callable[[Progress], None]

_LEAST_TOKENS = 12
"""Fewest tokens of a passage that is left over at the end of a text."""
_READ_FROM = 0.25
"""The first quarter of a passage is read and not followed: there is little to be foretold there."""


def text_samples(setting: Setting) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """Passages, each as a prompt and what follows it, and what must be said of them.

    Raises:
        TaskError: If the text cannot be read, or is too short.
        UsageError: If a text has no tokenizer.
    """
    model, longest = setting.model, setting.model.network.max_length
    n_rows, n_tokens = setting.options.n_passages, setting.options.passage_tokens
    n_tokens = n_tokens if longest is None else min(n_tokens, longest)
    found = gather_text(
        model, setting.question.text, n_rows=n_rows, n_tokens=n_tokens, seed=setting.options.seed, least=_LEAST_TOKENS
    )
    # Prompts of one passage are taken anew together, as those behind one set of demonstrations are.
    samples = [
        replace(one, demonstration_set=row)
        for row, ids in enumerate(found.rows[:n_rows])
        for one in _cut(model.tokenizer, ids[:n_tokens])
    ]
    return tuple(samples), (f"{found.said}.", *found.notes)


def _cut(tokenizer: Any, ids: Sequence[int]) -> list[Sample]:
    """A passage as a prompt and what follows it; without a tokenizer, as prompts with one followed token each."""
    first = max(2, round(_READ_FROM * len(ids)))
    if len(ids) <= first:
        return []
    whole, head = (None, None) if tokenizer is None else (_text(tokenizer, ids), _text(tokenizer, ids[:first]))
    if whole is not None and head and whole.startswith(head) and whole[len(head) :].strip():
        return [Sample(prompt=head, answer=whole[len(head) :])]
    places = [first + (len(ids) - first) * step // 4 for step in range(4)]
    return [Sample(prompt_ids=tuple(ids[:place]), answer_id=ids[place]) for place in dict.fromkeys(places)]


def _text(tokenizer: Any, ids: Sequence[int]) -> str | None:
    """The text of some tokens, without those that begin every text; None where the tokenizer cannot say."""
    try:
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))
    except Exception:  # noqa: BLE001 - whatever a tokenizer raises: the tokens themselves do as well
        return None


def trace_text(setting: Setting, tell: Tell) -> Found:
    """The trace of running text at every site, over all the positions that are followed."""
    samples, notes = text_samples(setting)
    if not samples:
        return not_measured(f"{' '.join(notes)} That is too short: a passage takes {_LEAST_TOKENS} tokens.")
    return _by_passage(trace_sites(setting, samples, tell, target_tokens="all"), samples, notes)


def measure_text(setting: Setting, tell: Tell) -> Found:
    """Other measures of importance on running text."""
    samples, notes = text_samples(setting)
    if not samples:
        return not_measured(" ".join(notes))
    return _by_passage(take_importance(setting, samples, tell, target_tokens="all"), samples, notes)


def _by_passage(found: Found, samples: Sequence[Sample], notes: Sequence[str]) -> Found:
    """What was found, a mean over the prompts of each passage where there are several."""
    rows = [sample.demonstration_set for sample in samples]
    distinct = list(dict.fromkeys(rows))
    arrays: dict[str, NDArray[Any]] = dict(found.arrays)
    if len(distinct) < len(rows):
        members = [[place for place, row in enumerate(rows) if row == one] for one in distinct]
        of_prompts = {name for name, values in arrays.items() if len(values) == len(rows) and values.dtype.kind == "f"}
        arrays |= {name: np.stack([arrays[name][some].mean(axis=0) for some in members]) for name in of_prompts}
    return replace(found, facts={**found.facts, "notes": [*notes, *found.notes]}, arrays=arrays)
