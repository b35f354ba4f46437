"""A task: prompts, their answers, and the specification from which they can be made again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, overload

from layertracer._types import Sample
from layertracer.tasks._recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Prompts with the answers that are followed.

    A task is a sequence of samples: it has a length, an order, and `task[3]` is its fourth sample.

    Attributes:
        name: Name of the built-in task, of the file without its suffix, or of the dataset.
        samples: The prompts in their order.
        spec: What was asked for and what it was made from, as JSON values: "name", "kind" ("few-shot",
            "generated", "verbatim" or "text"), "source", "sha256" (of the file's content; of a generated task, of its
            words), "n_shot", "limit", "seed", "template",
            "demonstrations" (of several sets, one behind the other), "demonstration_sets" and "templates" (where there
            are several), "prompt_field", "answer_field", "answer_marker", "prompt_words", "answer_prefix", "header",
            "n_keys" and "min_distance" (of recall), "n_samples", "n_left_out" (a count for each reason) and "notes".
        recipe: What it was made of by `load_task`, so that it can be made again for a model that does not know all of
            its words; None for samples that were put together by hand. It has no part in equality.

    Example:
        >>> from layertracer.tasks import load_task
        >>> task = load_task("antonym", n_shot=1, limit=2)
        >>> len(task), task.spec["seed"]
        (2, 0)
    """

    name: str
    samples: tuple[Sample, ...]
    spec: Mapping[str, Any]
    recipe: Recipe | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was read and what was left out, one sentence each: fields, records of how many, lines, the limit."""
        return tuple(str(note) for note in self.spec.get("notes", ()))

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, index: int | slice) -> Sample | tuple[Sample, ...]:
        return self.samples[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """A built-in task, described without making its prompts.

    Attributes:
        name: Name that `load_task` takes.
        n_pairs: Number of directed pairs; 0 where prompts are generated.
        description: What the answer is to the input.
        source: Where the pairs are from, with the licence where there is one.
        example: One pair, input and output.
    """

    name: str
    n_pairs: int
    description: str
    source: str
    example: tuple[str, str]
