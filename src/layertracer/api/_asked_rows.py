"""Text and tasks that placements are measured on, in whatever form users hold them. No torch at import."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from layertracer._errors import UsageError
from layertracer._types import Sample
from layertracer.api._asked import prompts_for
from layertracer.api._taken import refused
from layertracer.tasks import Task, list_tasks

if TYPE_CHECKING:
    from layertracer.tracing import TracedModel
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    TracedModel = Any

AskedText: TypeAlias = "str | os.PathLike[str] | Task | tuple[Sample, ...] | None"
AskedTask: TypeAlias = "str | Task | tuple[Sample, ...]"

_TEXTS = (
    "Give a file or a text, a list of texts, rows of token ids (lists, an array or a tensor), None for text that the "
    "model writes itself, or False for none."
)
_TASKS = (
    "Give the name of a built-in task, e.g. 'recall', a file, what load_task returns, prompts with answers, or a list "
    "of these."
)


def text_for(model: TracedModel, argument: str, given: object) -> AskedText:
    """Text for a model, out of a file, texts, or rows of token ids; None for what it writes itself.

    Raises:
        UsageError: If it is none of these; the message names the argument.
    """
    if given is None or isinstance(given, str | os.PathLike | Task):
        return given
    if isinstance(given, bool | int | float | bytes):
        raise refused(argument, given, _TEXTS)
    try:
        samples = prompts_for(model, given, needs_answers=False)
    except UsageError as error:
        raise UsageError(f"{argument}: {error} {_TEXTS}") from None
    if not len(samples):
        raise refused(argument, given, f"It is empty. {_TEXTS}")
    return samples


def tasks_for(model: TracedModel, given: object) -> dict[str, AskedTask]:
    """Tasks by name, out of names, files, tasks and prompts; the names of built-in ones stay as they are.

    Raises:
        UsageError: If it is none of these, or two have the same name.
        LayerTracerError: If a task cannot be loaded.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping) and not _is_prompt(given):
        named = {str(name): _task_for(model, one) for name, one in given.items()}
    else:
        named = {}
        for one in _several(given):
            task = _task_for(model, one)
            name = task if isinstance(task, str) else task.name if isinstance(task, Task) else "prompts"
            if name in named:
                raise UsageError(
                    f"Two tasks are called {name!r}. Give a dictionary, {{name: task}}, that tells them apart."
                )
            named[name] = task
    return named


def _is_prompt(given: Mapping[Any, Any]) -> bool:
    """Whether a dictionary is a prompt, or columns of them, and not tasks by their names."""
    return bool({"prompt", "prompt_ids", "input_ids", "input", "question"} & set(given))


def _several(given: object) -> Sequence[object]:
    """Tasks, one by one: a list is one of tasks where a name or a task is in it, else one of prompts."""
    if isinstance(given, list | tuple):
        if not given or all(isinstance(one, str | os.PathLike | Task) for one in given):
            return given
        if any(isinstance(one, Task) for one in given) or all(_holds_prompts(one) for one in given):
            return given
    return [given]


def _holds_prompts(one: object) -> bool:
    """Whether a part of a list is a task or a list of prompts, and no prompt itself."""
    return isinstance(one, str | Task) or (
        isinstance(one, list) and bool(one) and all(isinstance(part, Sample | tuple | Mapping) for part in one)
    )


def _task_for(model: TracedModel, given: object) -> AskedTask:
    """One task; the name of a built-in one stays, so that it can be made as long as it must be."""
    if isinstance(given, str) and given in {info.name for info in list_tasks()}:
        return given
    if isinstance(given, bool | int | float | bytes):
        raise refused("tasks", given, _TASKS)
    return cast("AskedTask", prompts_for(model, given, needs_answers=True))
