"""A trace that can save itself and write its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layertracer._errors import LayerTracerError
from layertracer._types import Mask, Perturbation, Sample, TargetKind, TargetTokens
from layertracer.measures import OnsetCriterion, Rise
from layertracer.runs import TraceRecord, read_run, save_run
from layertracer.tasks import Task

if TYPE_CHECKING:
    from layertracer.tracing import Progress, TracedModel, TracePlan
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    Progress = TracedModel = TracePlan = Any


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Trace(TraceRecord):
    """Everything that one trace measured, and what follows from it.

    See `TraceRecord` for the arrays and their shapes. In short: `target_prob` [prompt, layer], `embedding_prob`
    [prompt], `target_rank`, `entropy_bits` [prompt, layer], `js_bits` [prompt, draw, layer], and the answers
    `task_particle`, `vulnerable_layer`, `by_mixer`, `robustness`, `sensitivity`, `dominant`.
    """

    @classmethod
    def from_record(cls, record: TraceRecord) -> Trace:
        """The same trace, with `save` and `report`.

        Laws: equal to `record`.
        """
        return cls(**{field.name: getattr(record, field.name) for field in dataclasses.fields(TraceRecord)})

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Save the trace as a run folder, whole or not at all.

        Laws: `load_run(trace.save(path)) == trace`.

        Args:
            path: The folder to make.
            overwrite: Whether a run that lies there is replaced.

        Returns:
            The folder.

        Raises:
            RunError: If something lies at `path` that may not be replaced, or the disk refuses.
        """
        return save_run(self, path, overwrite=overwrite)

    def report(self, path: str | Path) -> Path:
        """Write the report: one HTML file that needs nothing else.

        Args:
            path: The file to write; one that is there is replaced.

        Returns:
            The file.

        Raises:
            UsageError: If `path` is a folder.
        """
        from layertracer.reports import write_report

        return write_report(self, path)


def load_run(path: str | Path) -> Trace:
    """A trace out of a run folder; needs no torch.

    Args:
        path: The folder.

    Raises:
        RunError: If there is no run at `path`.
        DamagedRunError: If a file is missing, cut short or altered; the message names it.
        RunFormatError: If the run was written by a newer version of LayerTracer.
    """
    return Trace.from_record(read_run(path))


def trace(  # noqa: PLR0913 - what users call takes its settings by name
    model: TracedModel,
    task: Task | Sequence[Sample] | str,
    *,
    perturbation: Perturbation | None = None,
    onset: OnsetCriterion | None = None,
    target: TargetKind = "answer",
    target_tokens: TargetTokens = "first",
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
    share_prefix: bool | None = None,
    seed: int = 0,
    audit: float = 0.1,
    memory: str | int | None = None,
    progress: Callable[[Progress], None] | None = None,
    on_plan: Callable[[TracePlan], None] | None = None,
    command: Sequence[str] | None = None,
) -> Trace:
    """Where a model starts executing a task, and where it breaks most easily, out of one forward pass.

    Laws: the same inputs and seed give the same numbers; prompts come back in the order given; the numbers do not
    depend on `memory` beyond rounding (1e-6), nor on `share_prefix` beyond 1e-5 bits (float32).

    Args:
        model: From `load_model` or `wrap_model`.
        task: From `load_task`, or samples, or a name that `load_task` takes.
        perturbation: What is done to each layer; `Mask()` by default.
        onset: When the target counts as risen; `Rise()` by default.
        target: "answer" follows the sample's answer, "model" the model's own top token.
        target_tokens: "first" follows the answer's first token that says something of it, "all" the teacher-forced
            product from there over its tokens.
        chat: Whether prompts are put into the tokenizer's chat template.
        system: Text of a system's turn before each of them, in the chat template.
        template_arguments: What else the chat template is given, e.g. {"enable_thinking": False}.
        share_prefix: Whether what prompts have in common (demonstrations, a system prompt) is read once for all of
            them, with the model's own cache, where that is proved to give the same; None where it saves time.
        seed: Seed of the bootstrap intervals, and of what the audit draws.
        audit: Share of the trace's arithmetic in which some of its numbers are measured again, the plain way: one
            prompt alone, one forward, one hook or none. Where one disagrees, the trace goes on by a slower way that
            agrees, and says so. 0 measures nothing again. See `Trace.audit`.
        memory: Memory that the trace may take beyond the weights, e.g. "4GiB", or bytes; None for most of what is
            free.
        progress: Called with `done`, `total` and `stage` whenever prompts are finished.
        on_plan: Called once with the plan, before the first pass.
        command: The command line, for the provenance.

    Raises:
        TaskError: If the task is empty, an answer is missing, or a prompt is too long.
        SiteError: If no layer of the model has the perturbation's site. Layers that alone lack it carry NaN.
        NonFiniteError: If the model's output is not finite; the message names the first layer.
        OutOfMemoryError: If not even one prompt fits in memory.
        KeyboardInterrupt: On Ctrl-C. As with the errors above, what was finished is its `record`, a `Trace`.
    """
    from layertracer.tracing import TraceInterrupted, TraceOptions, trace_model

    options = TraceOptions(
        perturbation=Mask() if perturbation is None else perturbation,
        onset=Rise() if onset is None else onset,
        target=target,
        target_tokens=target_tokens,
        chat=chat,
        system=system,
        template_arguments=template_arguments,
        share_prefix=share_prefix,
        seed=seed,
        audit=audit,
        memory=memory,
        command=command,
    )
    try:
        return Trace.from_record(trace_model(model, task, options, on_progress=progress, on_plan=on_plan))
    except TraceInterrupted as stop:
        stop.record = Trace.from_record(stop.record)
        raise
    except LayerTracerError as error:
        if isinstance(error.record, TraceRecord):
            error.record = Trace.from_record(error.record)
        raise


def plan(  # noqa: PLR0913 - what users call takes its settings by name
    model: TracedModel,
    task: Task | Sequence[Sample] | str,
    *,
    perturbation: Perturbation | None = None,
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

    Laws: peak memory is within 25 % of what is really live, and within the budget wherever the smallest pass is.

    Args:
        model: From `load_model` or `wrap_model`.
        task: From `load_task`, or samples, or a name that `load_task` takes.
        perturbation: What is done to each layer; `Mask()` by default.
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
        UsageError: If `memory` is no size.
    """
    from layertracer.tracing import TraceOptions, plan_trace

    options = TraceOptions(
        perturbation=Mask() if perturbation is None else perturbation,
        target=target,
        target_tokens=target_tokens,
        chat=chat,
        system=system,
        template_arguments=template_arguments,
        share_prefix=share_prefix,
        audit=audit,
        memory=memory,
    )
    return plan_trace(model, task, options)
