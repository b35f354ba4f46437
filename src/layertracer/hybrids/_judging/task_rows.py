"""Prompts of tasks to measure placements on: long enough that a window takes something away."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from layertracer._errors import AnswerError, UsageError
from layertracer._types import EncodedAnswer, EncodedSample, Sample, Substitute
from layertracer.tasks import PAIR_NAMES, RECALL, Task, builtin_pairs, encode_samples, load_task
from layertracer.tracing import JudgedRow, TracedModel

TaskSource: TypeAlias = "str | Task | Sequence[Sample]"
"""The name of a built-in task, whose prompts are made as long as the substitute asks; a task; samples."""

_N_SHOT = 5
_N_FRONT = 8
"""So many pairs of recall lie beyond the window, sinks not counted: one of them is asked for."""
_N_TRIED = 4
_MOST_SHOTS = 128
_SETS = (16, 8, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPrompt:
    """One prompt, with a row for each of its answers that are right.

    Attributes:
        rows: The prompt with an answer behind it, read where the answer's tokens are due.
        text: Its text, or its token ids as text.
        asked: What may stand in no prompt of the search: the pair that is asked for. "" where that is not known.
        demonstration_set: Which demonstrations it begins with; None where the task has one set, or none.
    """

    rows: tuple[JudgedRow, ...]
    text: str
    asked: str = ""
    demonstration_set: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTask:
    """The prompts of one task that the substitute can take something from.

    Attributes:
        name: Its name.
        prompts: The prompts, in the task's order.
        keeps_file_order: Whether their order is a file's, and says nothing.
        shares_demonstrations: Whether all begin with the same demonstrations.
        notes: What must be said of them.
    """

    name: str
    prompts: tuple[AskedPrompt, ...]
    keeps_file_order: bool
    shares_demonstrations: bool
    notes: tuple[str, ...] = ()


def ask_task(
    model: TracedModel, substitute: Substitute, given: TaskSource, *, name: str, n_prompts: int, seed: int
) -> AskedTask:
    """The prompts of a task, those that lie within what a window sees left out.

    A built-in task that is given by its name is made long enough: recall by more keys, pairs by more demonstrations, in
    sets that share no pair, half of them for the search.

    Args:
        model: The model.
        substitute: What stands in the place of mixers.
        given: The task.
        name: What it is called.
        n_prompts: How many prompts are wanted, of a built-in task.
        seed: Seed of a built-in task.

    Raises:
        UsageError: If no prompt is long enough; the message has their lengths.
        AnswerError: If a prompt has no answer.
        TaskError: If the task cannot be read, or is longer than the model's context.
    """
    made: Task | Sequence[Sample] = given if not isinstance(given, str) else ()
    notes: tuple[str, ...] = ()
    if isinstance(given, str):
        make = _make_recall if given == RECALL else _make_pairs if given in PAIR_NAMES else None
        made, said = (load_task(given), "") if make is None else make(model, substitute, given, n_prompts, seed)
        notes = (said,) if said else ()
    encoded = encode_samples(
        made,
        model.tokenizer,
        max_length=model.network.max_length,
        has_encoder=model.network.call.has_encoder,
        followed="all",
    )
    unanswered = sum(not sample.answers for sample in encoded.samples)
    if unanswered:
        raise AnswerError(
            f"{unanswered} of {len(encoded.samples)} prompts of {name!r} have no answer, so that nobody can tell "
            "whether they are solved. Give answers."
        )
    spec = encoded.spec
    is_recall = spec.get("source") == "built-in" and spec.get("name") == RECALL
    asked = [_ask(sample, is_recall=is_recall) for sample in encoded.samples]
    prompts = _without_copies(asked)
    kept = [one for one in prompts if _reaches(one, substitute, is_recall=is_recall)]
    if not kept:
        raise UsageError(_why_none(prompts, substitute, name=name, is_recall=is_recall))
    n_near = len(prompts) - len(kept)
    n_copies = len(asked) - len(prompts)
    copies = f"{n_copies} of {len(asked)} prompts of {name!r} are copies of another one: each counts once."
    near = f"{n_near} of {len(prompts)} prompts of {name!r} were left out: {_what_is_near(substitute, is_recall)}."
    return AskedTask(
        name=name,
        prompts=tuple(kept),
        keeps_file_order=spec.get("kind") not in ("few-shot", "generated"),
        shares_demonstrations=bool(spec.get("demonstrations")) and spec.get("demonstration_sets", 1) == 1,
        notes=(*notes, *encoded.left_out, *((copies,) if n_copies else ()), *((near,) if n_near else ())),
    )


def _make_recall(model: TracedModel, substitute: Substitute, name: str, n_prompts: int, seed: int) -> tuple[Task, str]:
    """Recall with as many keys as it takes that the answer lies beyond the window, and not among the sinks."""
    size, sinks = getattr(substitute, "size", 0), getattr(substitute, "sinks", 0)
    per_pair = _tokens_per(model, [load_task(name, n_keys=n, n_shot=0, limit=8, seed=seed) for n in (4, 12)]) / 8
    # What is shown again stands between the list and the question, and lengthens the distance.
    behind = max(0, math.ceil((size + 1) / per_pair) - _N_SHOT)
    n_keys = _N_FRONT + math.ceil((sinks + 1) / per_pair) + behind
    task = load_task(name, n_keys=n_keys, min_distance=behind, n_shot=_N_SHOT, limit=_N_TRIED * n_prompts, seed=seed)
    return task, f"Task {name!r}: {n_keys} keys, {_N_SHOT} of them shown again before the question"


def _make_pairs(model: TracedModel, substitute: Substitute, name: str, n_prompts: int, seed: int) -> tuple[Task, str]:
    """A task of word pairs with as many demonstrations as it takes that prompts are longer than the window."""
    first, second = (load_task(name, n_shot=n, limit=8, seed=seed) for n in (5, 15))
    per_shot = _tokens_per(model, [first, second]) / 10
    n_shot = min(_MOST_SHOTS, max(_N_SHOT, math.ceil(substitute.n_seen / per_shot) + 2))
    # One set alone may be one by which a model does not see what is asked; half of the pairs at least are left to ask.
    n_sets = next((n for n in _SETS if 2 * n * n_shot <= len(builtin_pairs(name))), 2)
    task = load_task(name, n_shot=n_shot, demonstration_sets=n_sets, limit=_N_TRIED * n_prompts, seed=seed)
    return task, f"Task {name!r}: {n_shot} demonstrations, {n_sets} sets of them"


def _tokens_per(model: TracedModel, tasks: Iterable[Task]) -> float:
    """How many tokens the second of two tasks has more in a prompt, on average."""
    means = []
    for task in tasks:
        samples = encode_samples(task, model.tokenizer).samples
        means.append(sum(len(sample.prompt_ids) for sample in samples) / len(samples))
    return means[1] - means[0]


def _ask(sample: EncodedSample, *, is_recall: bool) -> AskedPrompt:
    """One prompt with its answers."""
    text = sample.prompt_text if sample.prompt_text is not None else repr(sample.prompt_ids)
    return AskedPrompt(
        rows=tuple(_answered(sample.prompt_ids, answer) for answer in sample.answers),
        text=text,
        asked=f"{text.rpartition(chr(10))[2]}{sample.answer_text or ''}" if is_recall else "",
        demonstration_set=sample.demonstration_set,
    )


def _without_copies(prompts: Sequence[AskedPrompt]) -> list[AskedPrompt]:
    """Each prompt once, in their order: copies make nothing surer."""
    distinct: dict[tuple[tuple[int, ...], ...], AskedPrompt] = {}
    for prompt in prompts:
        distinct.setdefault(tuple(row.ids for row in prompt.rows), prompt)
    return list(distinct.values())


def _answered(prompt_ids: tuple[int, ...], answer: EncodedAnswer) -> JudgedRow:
    """The prompt with an answer behind it, read from its first token on that is more than white space."""
    first = len(prompt_ids) + min(answer.n_blank, len(answer.ids) - 1) - 1
    ids = prompt_ids + answer.ids
    return JudgedRow(ids=ids, read=tuple(range(first, len(ids) - 1)))


def _reaches(prompt: AskedPrompt, substitute: Substitute, *, is_recall: bool) -> bool:
    """Whether the substitute takes something away from where the answer is due."""
    row = prompt.rows[0]
    if row.read[0] < substitute.n_seen:
        return False
    if not is_recall or not substitute.n_seen:
        return True
    # Where the answer stands in the prompt: it is what must lie beyond the window, and not among the sinks.
    answer = row.ids[row.read[0] + 1 :]
    places = [start for start in range(row.read[0] + 2 - len(answer)) if row.ids[start : start + len(answer)] == answer]
    size, sinks = getattr(substitute, "size", 0), getattr(substitute, "sinks", 0)
    return bool(places) and places[0] >= sinks and places[-1] + len(answer) - 1 <= row.read[0] - size


def _what_is_near(substitute: Substitute, is_recall: bool) -> str:
    """Why a prompt is left out."""
    if is_recall:
        return f"{substitute.describe()} still reaches the answer, or does not find it where it stood"
    return f"{substitute.describe()} sees all of them"


def _why_none(prompts: Sequence[AskedPrompt], substitute: Substitute, *, name: str, is_recall: bool) -> str:
    """The message for a task of which no prompt is long enough."""
    lengths = sorted(prompt.rows[0].read[0] + 1 for prompt in prompts)
    span = str(lengths[0]) if lengths[0] == lengths[-1] else f"{lengths[0]} to {lengths[-1]}"
    what = "a larger n_keys with min_distance" if is_recall else "longer prompts, such as more demonstrations (n_shot)"
    n_prompts = f"The {len(prompts)} prompts have" if len(prompts) > 1 else "The only prompt has"
    beyond = "with the answer beyond that" if is_recall else f"more than {substitute.n_seen} are needed"
    return (
        f"The task {name!r} proves nothing of {substitute.describe()}: it leaves every prompt as it is. {n_prompts} "
        f"{span} tokens; {beyond}. Give {what}, or a smaller window."
    )
