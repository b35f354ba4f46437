"""What a trace would take, asked beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from layertracer._types import TargetKind, TargetTokens
from layertracer.api._asked import LensLike, ModelLike, PerturbationLike, TaskLike, asked_of_layers, prompts_for
from layertracer.api._taken import take_flag, take_model

if TYPE_CHECKING:
    from layertracer.tracing import TracePlan
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    TracePlan = Any


def plan(  # noqa: PLR0913 - what users call takes its settings by name
    model: ModelLike,
    task: TaskLike,
    *,
    perturbation: PerturbationLike = None,
    lens: LensLike = None,
    target: TargetKind = "answer",
    target_tokens: TargetTokens = "first",
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
    share_prefix: bool | None = None,
    audit: float = 0.1,
    memory: str | int | None = None,
) -> TracePlan:
    """What `trace` would do and take: prompts, shared prefixes, passes, arithmetic, memory and time.

    Nothing is traced. What the layers take is measured on the model: a pass over one and two rows for each length, or
    for the longest and the shortest of them.

    Laws: live bytes are within 25 % of what is really live; on a CPU the peak is no less than four fifths of what the
    process grows by; it is within the budget wherever the smallest pass is.

    Args:
        model: As for `trace`.
        task: As for `trace`.
        perturbation: As for `trace`.
        lens: As for `trace`.
        target: As for `trace`.
        target_tokens: As for `trace`.
        chat: Whether prompts are put into the tokenizer's chat template.
        system: As for `trace`.
        template_arguments: As for `trace`.
        share_prefix: As for `trace`.
        audit: As for `trace`.
        memory: Memory that the trace may take beyond the weights, e.g. "4GiB", or bytes; None for most of what is
            free.

    Raises:
        TaskError: If the task is empty, an answer is missing, or a prompt is too long.
        SiteError: If no layer of the model has the perturbation's site.
        UsageError: If `memory` is no size, or an argument is not of a kind that is taken.
        ModelError: If the model's own code raises something.
    """
    from layertracer.tracing import TraceOptions, plan_trace

    options = TraceOptions(
        **asked_of_layers(perturbation, lens, target=target, target_tokens=target_tokens),
        chat=take_flag("chat", chat),
        system=system,
        template_arguments=template_arguments,
        audit=audit,
        share_prefix=None if share_prefix is None else take_flag("share_prefix", share_prefix),
        memory=memory,
    )
    taken = take_model(model)
    return plan_trace(taken, prompts_for(taken, task, needs_answers=target == "answer"), options)
