"""Prompts and their tokens as labels, and how many of them a page can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from layertracer.reports._values.visible import shorten, visible_line, visible_token
from layertracer.runs import TraceRecord

_LABEL = 44
_TOKEN = 24


def token_label(record: TraceRecord, token: int) -> str:
    """A token as a short label; its id where its text is not known."""
    text = record.tokens.get(token)
    return f"#{token}" if text is None else shorten(visible_token(text), _TOKEN)


def tokens_label(record: TraceRecord, tokens: Sequence[int]) -> str:
    """Several tokens as one label."""
    return shorten("|".join(token_label(record, token) for token in tokens), 2 * _TOKEN) if tokens else "–"


def target_label(record: TraceRecord, row: int) -> str:
    """The tokens that are followed in a prompt, and how many answers beside theirs count as well."""
    prompt = record.prompts[row]
    label, n_others = tokens_label(record, prompt.target_ids), len(prompt.other_answer_ids)
    follows_others = n_others and record.spec.target == "answer"
    return f"{label} or {n_others} more" if follows_others else label


def prompt_label(record: TraceRecord, row: int) -> str:
    """The end of a prompt on one line: its last line, or its last tokens where no text is known."""
    prompt = record.prompts[row]
    if prompt.prompt_text is None:
        return shorten(" ".join(token_label(record, token) for token in prompt.prompt_ids[-4:]), _LABEL)
    lines = [line for line in prompt.prompt_text[-4000:].split("\n") if line.strip()]
    label = visible_line(lines[-1].strip()[-4 * _LABEL :]) if lines else "∅"
    return label if len(label) <= _LABEL else f"…{label[-_LABEL + 1 :]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How many prompts each part of the page shows, so that the page stays small.

    Attributes:
        lines: Faint lines of single prompts.
        map_rows: Rows of the map.
        lens: Prompts of the logit-lens grid.
        table_rows: Rows of the table of prompts.
    """

    lines: int
    map_rows: int
    lens: int
    table_rows: int

    @classmethod
    def for_record(cls, record: TraceRecord) -> Budget:
        """The budget of a page: fewer prompts where there are more layers."""
        n, layers = record.n_prompts, max(record.n_layers, 1)
        per_lens = layers * max(record.top_ids.shape[-1], 1)
        return cls(
            lines=min(n, 60, max(1, 4000 // layers)),
            map_rows=min(n, 200, max(1, 20_000 // layers)),
            lens=min(n, 48, max(1, 20_000 // per_lens)),
            table_rows=min(n, 400),
        )

    def halve(self) -> Budget:
        """Half as many prompts everywhere, but at least one."""
        return Budget(
            lines=max(1, self.lines // 2),
            map_rows=max(1, self.map_rows // 2),
            lens=max(1, self.lens // 2),
            table_rows=max(1, self.table_rows // 2),
        )

    def describe(self, n_prompts: int) -> dict[str, str]:
        """What was left out, per part; empty where nothing was."""
        shown = {"lines": self.lines, "map": self.map_rows, "lens": self.lens, "table": self.table_rows}
        return {
            part: f"The first {n:,} of {n_prompts:,} prompts. All are in the run folder, and in every mean."
            for part, n in shown.items()
            if n < n_prompts
        }
