"""Contrast prompts of recall: the same pairs, and another of their keys asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from layertracer._types import Sample
from layertracer.tasks._subjects import with_subjects
from layertracer.tasks._task import Task
from layertracer.tasks._tokens.tokenizer import Tokenizer, tokenize_texts


def with_other_keys(task: Task, tokenizer: Tokenizer | None, *, seed: int) -> tuple[Sample, ...]:
    """The prompts of recall, each with a contrast: another key of its own pairs, with the value of that one.

    In the prompt nothing changes but the key that is asked for. Of several keys whose prompt has as many tokens the
    seed takes one; a prompt without one has no contrast. Prompts of another task come back as they are.

    Args:
        task: A generated task.
        tokenizer: The model's tokenizer.
        seed: Seed of the choice.
    """
    samples = with_subjects(task)
    if tokenizer is None or task.recipe is None or task.recipe.material.words is None:
        return samples
    generator = np.random.default_rng([seed, len(samples)])
    return tuple(_with_contrast(sample, tokenizer, generator) for sample in samples)


def _with_contrast(sample: Sample, tokenizer: Tokenizer, generator: np.random.Generator) -> Sample:
    """A prompt with another key asked for, where one has as many tokens."""
    ahead, _, asked = str(sample.prompt).rpartition("\n")
    first, *shown = ahead.splitlines()
    pairs = [tuple(pair.split(" ", 1)) for pair in first.split(", ")]
    others = [pair for pair in pairs if len(pair) == 2 and pair[0] != asked and " ".join(pair) not in shown]
    others = [others[place] for place in generator.permutation(len(others)).tolist()]
    texts = [f"{ahead}\n{key}" for key, _ in others]
    lengths = _lengths([str(sample.prompt), *texts], tokenizer)
    for text, (_, value), length in zip(texts, others, lengths[1:], strict=True):
        if length == lengths[0]:
            return replace(sample, contrast=text, contrast_answer=f" {value}")
    return sample


def _lengths(texts: Sequence[str], tokenizer: Tokenizer) -> list[int]:
    return [len(ids) for ids in tokenize_texts(tokenizer, list(texts), add_special_tokens=True)]
