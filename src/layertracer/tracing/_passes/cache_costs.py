"""Costs of the state pass, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCosts:
    """Straight lines: what the prefix takes for p prompts, and a step for p prompts and v variants of each.

    Attributes:
        prefix_fixed: Reading the prefix, at any rate.
        prefix_per_prompt: And for each prompt.
        step_fixed: A step, at any rate.
        step_per_prompt: For each prompt.
        step_per_row: For each variant of each prompt.
    """

    prefix_fixed: int
    prefix_per_prompt: int
    step_fixed: int
    step_per_prompt: int
    step_per_row: int

    def peak_bytes(self, n_prompts: int, n_variants: int) -> int:
        """The most that is live."""
        step = self.step_fixed + n_prompts * (self.step_per_prompt + n_variants * self.step_per_row)
        return max(self.prefix_fixed + n_prompts * self.prefix_per_prompt, step)
