"""From a prompt and its answers to a sample."""

from __future__ import annotations

from layertracer._types import Sample
from layertracer.tasks._material import Row
from layertracer.tasks._values import not_text


def make_sample(prompt: str, answers: tuple[str, ...], *, row: Row | None = None, name: str = "") -> Sample:
    """A sample with its valid answers, of which there may be none.

    Args:
        prompt: The prompt.
        answers: The answers, of which any is right.
        row: The record that they are from, for messages.
        name: The field that they are from, for messages.

    Raises:
        TaskFileError: If there are several answers and a sample takes one.
    """
    if not answers:
        return Sample(prompt=prompt)
    if len(answers) > 1 and row is not None:
        raise not_text(row, name, list(answers))
    return Sample(prompt=prompt, answer=answers[0])
