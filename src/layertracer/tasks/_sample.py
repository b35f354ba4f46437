"""From a prompt and its answers to a sample."""

from __future__ import annotations

from layertracer._types import Sample


def make_sample(prompt: str, answers: tuple[str, ...]) -> Sample:
    """A sample with its valid answers: the one place where the answers of a record become a sample.

    Args:
        prompt: The prompt.
        answers: The answers, of which any is right; there may be none.
    """
    if len(answers) < 2:
        return Sample(prompt=prompt, answer=answers[0] if answers else None)
    return Sample(prompt=prompt, answers=answers)
