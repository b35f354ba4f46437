"""A trace that can save itself and write its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar

from layertracer._errors import SiteError, UsageError
from layertracer._types import (
    FALLBACK_SITE,
    InterruptGate,
    TargetKind,
    TargetTokens,
    Until,
    check_choice,
    checked_number,
    checked_whole,
    is_site_asked,
    keeping_interrupts_back,
)
from layertracer.advice import is_advice, verify_advice
from layertracer.api._asked import (
    LensLike,
    ModelLike,
    OnsetLike,
    PerturbationLike,
    ProgressLike,
    TaskLike,
    asked_of_layers,
    prompts_for,
)
from layertracer.api._progress import telling_progress
from layertracer.api._taken import refused, run_folder, take_flag, take_model, take_onset, take_path
from layertracer.evidence import is_causal, is_evidence, verify_causal, verify_evidence
from layertracer.runs import TraceRecord, Verification, read_run, save_run
from layertracer.runs import verify_run as verify_stored

if TYPE_CHECKING:
    from layertracer.tracing import Progress, TracedModel, TraceOptions, TracePlan
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    Progress = TracedModel = TraceOptions = TracePlan = Any

_VERIFY = ((is_advice, verify_advice), (is_evidence, verify_evidence), (is_causal, verify_causal))
"""What else there is than runs, and what verifies each."""

Said = TypeVar("Said")

_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Trace(TraceRecord):
    """Everything that one trace measured, and what follows from it.

    See `TraceRecord` for the arrays and their shapes. In short: `target_prob` [prompt, layer], `embedding_prob`
    [prompt], `target_rank`, `entropy_bits` [prompt, layer], `js_bits` [prompt, draw, layer], and the answers
    `task_particle`, `vulnerable_layer`, `by_mixer`, `robustness`, `sensitivity`, `dominant`. By name: `effects`, one of
    each perturbation, by its site (`trace.effects["mlp_output"].js_bits`, `.target_log_prob`, `.vulnerable_layer`,
    `.largest_loss_layer`), `measures` (`trace.measures["block_influence"].values`) and `lenses` (`.target_prob`,
    `.task_particle`).
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
        return save_run(self, take_path("path", path), overwrite=overwrite)

    def report(self, path: str | Path) -> Path:
        """Write the report: one HTML file that needs nothing else.

        Args:
            path: The file to write; one that is there is replaced.

        Returns:
            The file.

        Raises:
            UsageError: If `path` is a folder, or no path.
        """
        from layertracer.reports import write_report

        return write_report(self, take_path("path", path))


def load_run(path: str | Path) -> Trace:
    """A trace out of a run folder; needs no torch.

    Args:
        path: The folder, or the `run.json` in it.

    Raises:
        RunError: If there is no run at `path`.
        DamagedRunError: If a file is missing, cut short or altered, or holds what cannot be; the message names it.
        RunFormatError: If the run was written by a newer version of LayerTracer.
    """
    return Trace.from_record(read_run(run_folder(path)))


def verify_run(path: str | Path, *, expect: str | None = None) -> Verification:
    """Whether a stored run, advice, evidence or causal trace is as it was written, and all against it; needs no torch.

    Args:
        path: The folder, or the `run.json`, `advice.json`, `evidence.json` or `causal.json` in it.
        expect: The digest that it should have: `digest` of an earlier verification, kept elsewhere.

    Returns:
        `is_intact`, `faults` (each a `file` and a `reason`), `notes`, `digest`, and what the run says of itself.

    Raises:
        RunError: If there is no run at `path`, or a file may not be read.
        RunFormatError: If the run was written by a newer version of LayerTracer.
        UsageError: If `expect` is no digest.
    """
    folder = run_folder(path)
    for is_one, verify in _VERIFY:
        if is_one(folder):
            return verify(folder, expect=expect)
    return verify_stored(folder, expect=expect)


def trace(  # noqa: PLR0913 - what users call takes its settings by name
    model: ModelLike,
    task: TaskLike,
    *,
    perturbation: PerturbationLike = None,
    lens: LensLike = None,
    onset: OnsetLike = None,
    target: TargetKind = "answer",
    target_tokens: TargetTokens = "first",
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
    share_prefix: bool | None = None,
    seed: SupportsIndex = 0,
    audit: float = 0.1,
    memory: str | int | None = None,
    until: Until | None = None,
    confidence: float = 0.95,
    budget: SupportsIndex | None = None,
    progress: ProgressLike = None,
    on_plan: Callable[[TracePlan], None] | None = None,
    command: Sequence[str] | None = None,
) -> Trace:
    """Where a model starts executing a task, and where it breaks most easily, out of one forward pass.

    Laws: the same inputs and seed give the same numbers; prompts come back in the order given; the numbers do not
    depend on `memory` beyond rounding (in float32: 1e-6 of a log-probability's own size, 2e-6 bits), nor on
    `share_prefix` beyond 1e-5 bits (float32).

    Args:
        model: From `load_model` or `wrap_model`; or what those take: a module, a name, a path. It is then loaded or
            wrapped for this trace alone: load it once where there are several.
        task: From `load_task`, or a name or a file that it takes (32 prompts of a built-in task, all of a file, and of
            either with `until`); or prompts: samples, pairs (prompt, answer), dictionaries, a DataFrame, a Dataset,
            texts (target="model"), token ids, or what a tokenizer returned.
        perturbation: What is done to each layer; `Mask()` by default. The name of a site stands for a mask there. Of a
            list of them each is done by itself, in the same pass, and what it does is in `effects`; "all" stands for
            masks at all sites that the model has.
        lens: A lens, or several, read beside the logit lens, which is always read: `trace.lenses` by name. Anything
            with a name, a meaning, details and `translate(rows, layer)` is one.
        onset: When the target counts as risen; `Rise()` by default. A criterion's name will do.
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
        memory: Memory that the trace may take beyond what is resident when it begins, e.g. "4GiB", or bytes; None for
            four fifths of what is free and what the limits of this process leave. See docs/planning.md.
        until: "certified" to stop once one layer is certified to be the most vulnerable, with `confidence`, whenever
            that is: prompts are read in rounds, in an order drawn by the seed, each with masks of its own, and layers
            that can no longer be it are dropped. `trace.certificate` says which layer, or which ones can still be it,
            and of what; the trace's own tables are the prompts that were measured in all layers. See
            docs/certified.md.
        confidence: Of what is certified, in (0, 1).
        budget: Cells (prompts × draws × layers) that are measured until then at most; None for all.
        progress: True for a bar, or a function of one object with `done`, `total` and `stage`, called whenever
            prompts are finished.
        on_plan: Called once with the plan, before the first pass.
        command: The command line, for the provenance.

    Raises:
        UsageError: If an argument is not of a kind that is taken; the message says what was got and what is taken.
        TaskError: If the task is empty, an answer is missing, or a prompt is too long.
        SiteError: If no layer of the model has the perturbation's site. Layers that alone lack it carry NaN.
        NonFiniteError: If the model's output is not finite; the message names the first layer.
        OutOfMemoryError: If not even the smallest passes are within `memory`, before anything runs; the message names a
            size that would do. Or if not even one prompt fits in what there is.
        ModelError: If the model's own code raises anything else.
        KeyboardInterrupt: On Ctrl-C. As with the errors above, what was finished is its `record`, a `Trace`. What
            `progress` or `on_plan` raises comes out as it is, with that record too.
    """
    from layertracer.tracing import TraceOptions

    if on_plan is not None and not callable(on_plan):
        raise refused("on_plan", on_plan, "Give a function of one argument, the plan.")
    options = TraceOptions(
        **asked_of_layers(perturbation, lens, target=target, target_tokens=target_tokens),
        onset=take_onset(onset),
        chat=take_flag("chat", chat),
        system=system,
        template_arguments=template_arguments,
        share_prefix=None if share_prefix is None else take_flag("share_prefix", share_prefix),
        seed=checked_whole("seed", seed),
        audit=audit,
        memory=memory,
        command=command,
        **_asked_until(until, confidence=confidence, budget=budget),
    )
    taken = take_model(model)
    samples = prompts_for(taken, task, needs_answers=target == "answer", whole=until is not None)
    return _trace_to_the_end(taken, samples, options, progress=progress, on_plan=on_plan)


def _asked_until(until: Until | None, *, confidence: float, budget: SupportsIndex | None) -> dict[str, Any]:
    """When a trace is to stop, checked.

    Raises:
        UsageError: If it is no such thing, or a budget or a confidence is given to a trace of all prompts.
    """
    if until is None:
        if budget is not None or confidence != _CONFIDENCE:
            raise UsageError(
                "confidence and budget are those of a trace that stops by itself, and none was asked for. Give "
                'until="certified" with them, or leave them out.'
            )
        return {}
    check_choice("until", until, ("certified",))
    taken = checked_number("confidence", confidence, hint="confidence=0.95 is right in 19 of 20 traces or more.")
    checked = None if budget is None else checked_whole("budget", budget)
    return {"until": until, "confidence": taken, "budget": checked}


def _trace_to_the_end(
    model: TracedModel,
    samples: Any,
    options: TraceOptions,
    *,
    progress: ProgressLike,
    on_plan: Callable[[TracePlan], None] | None,
) -> Trace:
    """The trace; whatever ends it carries what was finished, all of it where that was all."""
    from layertracer.tracing import MEASURING, TraceInterrupted

    record: TraceRecord | None = None
    try:
        with telling_progress(progress, f"Tracing {model.name}") as advance, keeping_interrupts_back(MEASURING) as gate:
            on_progress = _opening(gate, advance)
            record = _trace_where_it_can(model, samples, options, on_progress=on_progress, on_plan=on_plan)
            return Trace.from_record(record)
    except BaseException as stop:
        found = getattr(stop, "record", record)
        if not isinstance(found, TraceRecord):
            raise
        if isinstance(stop, KeyboardInterrupt):
            raise TraceInterrupted(Trace.from_record(found)) from None
        stop.record = Trace.from_record(found)  # type: ignore[attr-defined]  # it was there
        raise


def _opening(gate: InterruptGate, advance: Callable[[Progress], None] | None) -> Callable[[Progress], None]:
    """A caller's function, which tells the gate that something is finished that must not be lost."""

    def say(progress: Progress) -> None:
        gate.has_begun = True
        if advance is not None:
            advance(progress)

    return say


def _remembering(callback: Callable[[Said], None] | None, raised: list[BaseException]) -> Callable[[Said], None] | None:
    """A caller's function, and what it raises: that is the caller's, whatever its kind, and never the model's."""
    if callback is None:
        return None

    def call(said: Said) -> None:
        try:
            callback(said)
        except BaseException as error:
            raised.append(error)
            raise

    return call


def _trace_where_it_can(
    model: TracedModel,
    samples: Any,
    options: TraceOptions,
    *,
    on_progress: Callable[[Progress], None] | None,
    on_plan: Callable[[TracePlan], None] | None,
) -> TraceRecord:
    """The trace at the site asked for; where nobody asked and it fails there on these prompts, at one that all have."""
    from layertracer.tracing import trace_model

    raised: list[BaseException] = []
    on_progress, on_plan = _remembering(on_progress, raised), _remembering(on_plan, raised)
    try:
        return trace_model(model, samples, options, on_progress=on_progress, on_plan=on_plan)
    except SiteError as error:
        asked = options.perturbations[0]
        if options.further or is_site_asked(asked) or any(error is one for one in raised):
            raise
        note = f"The site is {FALLBACK_SITE!r}: nobody asked for one, and at the usual one, {asked.site!r}, {error}"
    instead = dataclasses.replace(asked, site=FALLBACK_SITE)  # type: ignore[type-var]  # a Mask or a Noise
    record = trace_model(
        model, samples, dataclasses.replace(options, perturbation=instead), on_progress=on_progress, on_plan=on_plan
    )
    return dataclasses.replace(record, warnings=(note, *record.warnings))
