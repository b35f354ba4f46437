"""Which prompts two runs have in common: the same text, or the same tokens that read the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from layertracer.runs import PromptRecord, TraceRecord

PromptKey = tuple[str, str, int]
"""Prompt, answer, and the how-manieth of its like: a prompt that is asked twice is two prompts."""


def prompt_keys(record: TraceRecord) -> tuple[PromptKey, ...]:
    """What identifies every prompt of a run, whatever the tokenizer.

    Where texts are known, the text of prompt and answer; otherwise the token ids together with the texts that the run
    keeps for them, so that equal ids of different vocabularies are not taken for the same prompt.
    """
    seen: Counter[tuple[str, str]] = Counter()
    keys = []
    for prompt in record.prompts:
        what = _identify(prompt, record)
        keys.append((*what, seen[what]))
        seen[what] += 1
    return tuple(keys)


def _identify(prompt: PromptRecord, record: TraceRecord) -> tuple[str, str]:
    def spell(ids: tuple[int, ...]) -> str:
        return "ids " + " ".join(f"{token}={record.tokens.get(token, '')!r}" for token in ids)

    question = spell(prompt.prompt_ids) if prompt.prompt_text is None else f"text {prompt.prompt_text}"
    answer = spell(prompt.answer_ids) if prompt.answer_text is None else f"text {prompt.answer_text}"
    others = map("text {}".format, prompt.other_answer_texts) if prompt.other_answer_texts else ()
    return question, "\0".join((answer, *(others or map(spell, prompt.other_answer_ids))))


def put_in_order(record: TraceRecord) -> TraceRecord:
    """The trace with its prompts sorted by what they are, so that their order in the run does not matter."""
    keys = prompt_keys(record)
    return record.select(sorted(range(len(keys)), key=lambda row: keys[row]))


def finite_rows(record: TraceRecord) -> list[int]:
    """The prompts all of whose numbers are there; a layer without the perturbed site is no gap."""
    present = np.setdiff1d(np.arange(record.n_layers), record.layers_without_site)
    is_whole = np.isfinite(record.js_bits[..., present]).all(axis=(1, 2))
    is_whole &= ~np.isnan(record.target_log_prob).any(axis=1) & ~np.isnan(record.embedding_log_prob)
    return [int(row) for row in np.flatnonzero(is_whole)]


def shared_rows(keys: Sequence[Sequence[PromptKey]]) -> list[tuple[int, ...]]:
    """The rows of the prompts that all runs have, in one order for all: one tuple of rows a run."""
    common = set(keys[0]).intersection(*keys[1:])
    rows = []
    for ours in keys:
        at = {key: row for row, key in enumerate(ours)}
        rows.append(tuple(at[key] for key in sorted(common)))
    return rows
