"""From a prompt and its answers to a sample."""

from __future__ import annotations

import dataclasses
from typing import Any

from layertracer._types import Sample
from layertracer.tasks._material import Row
from layertracer.tasks._values import not_text

TAKES_SEVERAL = "answers" in {field.name for field in dataclasses.fields(Sample)}
"""Whether a sample may have several valid answers."""


def make_sample(prompt: str, answers: tuple[str, ...], *, row: Row, name: str) -> Sample:
    """A sample with its valid answers: the one place where several answers of a record become a sample.

    Args:
        prompt: The prompt.
        answers: The answers, of which any is right; there may be none.
        row: The record that they are from, for messages.
        name: The field that they are from, for messages.

    Raises:
        TaskFileError: If there are several answers and a sample takes one.
    """
    if len(answers) < 2:
        return Sample(prompt=prompt, answer=answers[0] if answers else None)
    if not TAKES_SEVERAL:
        raise not_text(row, name, list(answers))
    several: dict[str, Any] = {"answers": answers}
    return Sample(prompt=prompt, **several)
