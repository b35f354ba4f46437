"""Trace of one model on one task: the task particle and the vulnerable layer from one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from torch import Tensor

from layertracer._errors import LayerTracerError, SelfCheckError, printable_cause
from layertracer._types import Audit, EncodedSample, Method, Sample, Status
from layertracer.models import in_evaluation_mode, keeping_loaded, without_gradients
from layertracer.runs import TraceRecord, TraceSpec
from layertracer.tasks import EncodedTask, Task, load_task
from layertracer.tracing._batching.process_memory import Keeper, give_back, returning_large_tensors
from layertracer.tracing._batching.prompts import Prompt, warn_of_decoder_start
from layertracer.tracing._certify import RoundsRun
from layertracer.tracing._engine import Engine
from layertracer.tracing._failures import CallbackRaised, explain_failure, is_of_callers_making, shielded
from layertracer.tracing._model import TracedModel, refuse_untranslatable
from layertracer.tracing._observers.protocol import LAYER_MEASURES
from layertracer.tracing._observers.site_sums import SiteSums
from layertracer.tracing._options import TraceOptions, lay_out_task, settle_sites
from layertracer.tracing._passes.batch_passes import BatchPasses
from layertracer.tracing._passes.measure import N_TOP
from layertracer.tracing._passes.row_groups import DrawAxis
from layertracer.tracing._passes.tail import make_reduction
from layertracer.tracing._plan import (
    PlannedTrace,
    audit_plan,
    make_perturbers,
    plan_prompts,
    refuse_too_little,
)
from layertracer.tracing._planning.fallbacks import Fallback, fallbacks_from
from layertracer.tracing._planning.planner import Planner
from layertracer.tracing._planning.trace_plan import TracePlan
from layertracer.tracing._proofs.alone import Disagreement
from layertracer.tracing._proofs.audit import Auditor
from layertracer.tracing._readings import Progress, Readings
from layertracer.tracing._record import RecordParts, build_record
from layertracer.tracing._site_looks import SiteLooks
from layertracer.tracing._whole_answers import AnswerReader

_CUT_SHORT = "The trace was interrupted after its last prompt: not all that was drawn was measured again."

_KEPT_WHERE_TIGHT, _KEPT = 2 / 3, 5 / 6
"""How much of what was planned the process may hold before it is asked to give back what is free."""


class TraceInterrupted(KeyboardInterrupt):
    """A trace that was stopped by hand.

    Attributes:
        record: What was finished.
    """

    def __init__(self, record: TraceRecord) -> None:
        super().__init__(f"interrupted after {record.n_prompts} of {record.n_requested} prompts")
        self.record = record


@without_gradients()
def trace_model(
    model: TracedModel,
    task: Task | Sequence[Sample] | str,
    options: TraceOptions | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_plan: Callable[[TracePlan], None] | None = None,
) -> TraceRecord:
    """Where a model starts executing a task, and where it breaks most easily.

    Args:
        model: From `load_model` or `wrap_model`.
        task: A task, samples, or what `load_task` takes.
        options: What is traced and how.
        on_progress: Called whenever a batch of prompts is finished.
        on_plan: Called once, before the first pass.

    Raises:
        TaskError: If the task is empty, an answer is missing, or a prompt is too long.
        SiteError: If no layer of the model has the perturbation's site.
        NonFiniteError: If the model's output is NaN.
        OutOfMemoryError: If not even one prompt fits.
        ModelError: If the model's own code raises anything else.
        LayerTracerError: If LayerTracer's own code does, which is a fault to report.
        TraceInterrupted: On Ctrl-C; carries what was finished.

    Whatever `on_progress` or `on_plan` raises comes out as it is. An error that comes after prompts were finished, of
    these functions too, carries them as its `record`.
    """
    options = options or TraceOptions()
    started_at, began = datetime.now(UTC), time.perf_counter()
    options, site_notes = settle_sites(model, options)
    refuse_untranslatable(model.network, options.lenses)
    task = load_task(task) if isinstance(task, str) else task
    encoded, prompts = lay_out_task(model, task, options)
    parts = RecordParts(
        model=model,
        samples=encoded.samples,
        perturbations=options.perturbations,
        lenses=options.lenses,
        spec=_specify(encoded, options),
        warnings=(*site_notes, *encoded.warnings, *warn_of_decoder_start(encoded.samples, model.network)),
        command=options.command,
        started_at=started_at,
        method=model.self_check.method,
    )
    run = _make_run(model, encoded.samples, prompts, options, on_progress=on_progress, on_plan=on_plan)

    def record(status: Status, error: BaseException | None = None) -> TraceRecord:
        elapsed_s = time.perf_counter() - began
        all_parts = replace(
            parts, warnings=(*parts.warnings, *run.notes), plan=run.plan, audit=run.audit, method=run.method
        )
        if isinstance(run, RoundsRun):
            all_parts = replace(all_parts, certificate=run.certificate)
        return build_record(all_parts, run.readings, run.site_rms, status=status, error=error, elapsed_s=elapsed_s)

    return _run_to_its_end(run, record, name=model.name)


def _run_to_its_end(run: _Run | RoundsRun, record: Callable[..., TraceRecord], *, name: str) -> TraceRecord:
    """What was measured, whole; or whatever ended it, with what was finished before.

    Once all prompts are finished the trace is complete, whatever is interrupted after that: its audit, which says so,
    or the making of the record, which is made once more.
    """
    try:
        return _run_or_fail(run, record, name=name)
    except KeyboardInterrupt:
        raise TraceInterrupted(record("complete" if run.is_finished else "interrupted")) from None


def _run_or_fail(run: _Run | RoundsRun, record: Callable[..., TraceRecord], *, name: str) -> TraceRecord:
    """What was measured, whole; or an error, with what was finished before."""

    def record_so_far(error: BaseException) -> TraceRecord:
        """The record where the caller's own doing ended the trace: complete, as after Ctrl-C, if all was finished."""
        return record("complete") if run.is_finished else record("failed", error)

    stopped: CallbackRaised | None = None
    try:
        _measure_all(run)
    except CallbackRaised as stop:
        stopped = stop
    except LayerTracerError as error:
        error.record = record("failed", error)
        raise
    except Exception as error:  # whatever a model's own code raises: what was finished before must not be lost
        if is_of_callers_making(error):
            error.record = record_so_far(error)  # type: ignore[attr-defined]  # as on our own errors
            raise
        done = run.readings.finished
        doing = f"while it was traced, after {int(done.sum())} of {len(done)} prompts"
        failure = explain_failure(error, name=name, doing=doing, kept="What was finished is kept.")
        failure.record = record("failed", failure)
        raise failure from printable_cause(error)
    if stopped is not None:  # out here, so that it comes out as it went in
        with suppress(AttributeError):  # an exception with slots takes no record
            stopped.raised.record = record_so_far(stopped)  # type: ignore[attr-defined]  # as on our own errors
        raise stopped.raised
    return record("complete")


class _Run:
    """The measurements of one trace, as far as they are done."""

    def __init__(  # noqa: PLR0913 - each is a setting of its own, given by name
        self,
        *,
        model: TracedModel,
        samples: Sequence[EncodedSample],
        prompts: Sequence[Prompt],
        options: TraceOptions,
        on_progress: Callable[[Progress], None] | None,
        on_plan: Callable[[TracePlan], None] | None,
        readings: Readings | None = None,
    ) -> None:
        self._model, self._samples, self._prompts, self._options = model, samples, prompts, options
        self._on_progress, self._on_plan = shielded(on_progress), shielded(on_plan)
        self._sums: dict[str, SiteSums] = {}
        self._auditor: Auditor | None = None
        self._followed_up: list[str] = []
        self._fallback_notes: list[str] = []
        self._plan_notes: tuple[str, ...] = ()
        self._is_done = False
        self.plan: TracePlan | None = None
        self.readings = readings or _room_for(model, prompts, options)

    @property
    def site_rms(self) -> list[Tensor | None]:
        """Root mean square of what stood at each perturbation's site, [layer, width]; None where nobody looked."""
        sums = [self._sums.get(str(one.site)) for one in self._options.perturbations]
        return [None if one is None else one.rms() for one in sums]

    @property
    def method(self) -> Method:
        """How the perturbed rows were computed in the end."""
        return self._model.self_check.method if self._auditor is None else self._auditor.work.method

    @property
    def audit(self) -> Audit | None:
        """What was measured again; None before anything was."""
        if self._auditor is None:
            return None
        notes = [*self._followed_up, _CUT_SHORT] if self.is_finished and not self._is_done else self._followed_up
        return self._auditor.result(notes)

    @property
    def is_finished(self) -> bool:
        """Whether the numbers of all prompts are there."""
        return bool(self.readings.finished[[prompt.index for prompt in self._prompts]].all())

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how it went."""
        return (*self._plan_notes, *self._followed_up, *self._fallback_notes)

    def measure(self) -> None:
        """Run the ladder (or the plain method) over all prompts, after a look at the site where a mask is filled.

        Where what is measured again disagrees, everything is measured anew by the next slower way.

        Where weights are offloaded, those outside the layers are loaded once for all of it: the tail needs them for
        every chunk of rows.
        """
        network = self._model.network
        with in_evaluation_mode(network.call.module), keeping_loaded(network.outer_modules):
            self._measure()
        self._is_done = True
        give_back()

    def _measure(self) -> None:
        planned = plan_prompts(self._model, self._prompts, self._options)
        self._say(planned)
        refuse_too_little(planned)
        with returning_large_tensors(applies=planned.is_tight):
            share = _KEPT_WHERE_TIGHT if planned.is_tight else _KEPT
            with Keeper(int(planned.plan.peak_bytes * share)).between_layers(self._model.network):
                self._measure_as(planned)

    def _measure_as(self, planned: PlannedTrace) -> None:
        """Measure all prompts by the first way that gives the same numbers twice."""
        first = Fallback(name="", planner=planned.planner, schedule=planned.schedule)
        why: list[str] = []
        for fallback in fallbacks_from(first, self._prompts):
            self._followed_up = _follow_up(why, fallback)
            try:
                self._measure_by(fallback)
            except Disagreement as disagreement:
                why.append(str(disagreement))
                self.readings.forget(self._prompts)
                continue
            return
        raise SelfCheckError(
            f"{self._model.name!r} does not give the same numbers twice on these prompts: {why[-1]}, although it was "
            "run as plainly as can be, one prompt and one forward at a time. It keeps something between calls, or "
            "draws at random: make the model stateless and deterministic, then trace it again."
        )

    def _measure_by(self, fallback: Fallback) -> None:
        """Measure all prompts by one way.

        Raises:
            Disagreement: If something measured again differs by more than rounding explains.
        """
        model, work = self._model, fallback.work
        looks = SiteLooks(network=model.network, prompts=self._prompts, perturbations=self._options.perturbations)
        self._sums = looks.sums
        fills, by_prompt = looks.fills(fallback), self._options.by_prompt
        perturbers = make_perturbers(model, self._options.perturbations, fills, by_prompt=by_prompt)
        observers = looks.observers(work)
        passes = BatchPasses(
            network=model.network,
            axes=model.axes,
            perturbers=perturbers,
            draws=DrawAxis.of(self._options.perturbations),
            last=tuple(site.last_only for site in work.sites),
            cached=work.cached,
            observers=(*observers, *LAYER_MEASURES.values()),
        )
        self._auditor = Auditor(
            network=model.network,
            work=work,
            readings=self.readings,
            reduction=make_reduction(model.network, fallback.planner.budget_bytes),
            passes=passes,
            plan=audit_plan(fallback.schedule, work, self._options),
            lenses=self._options.lenses,
        )
        self._fallback_notes = []
        engine = Engine(
            passes=passes,
            planner=fallback.planner,
            readings=self.readings,
            auditor=self._auditor,
            answers=self._make_answer_reader(fallback.planner),
            lenses=self._options.lenses,
            on_progress=self._on_progress,
            notes=self._fallback_notes,
        )
        engine.run(fallback.schedule)

    def _say(self, planned: PlannedTrace) -> None:
        self.plan = planned.plan
        self._plan_notes = planned.plan.notes
        if self._on_plan is not None:
            self._on_plan(planned.plan)

    def _make_answer_reader(self, planner: Planner) -> AnswerReader:
        return AnswerReader(
            network=self._model.network,
            axes=self._model.axes,
            samples=self._samples,
            method=planner.work.method,
            row_by_row=planner.row_by_row,
            budget_bytes=planner.budget_bytes,
            row_bytes=planner.clean_row_bytes,
            lenses=self._options.lenses,
        )


def _room_for(model: TracedModel, prompts: Sequence[Prompt], options: TraceOptions) -> Readings:
    return Readings.empty(
        n_prompts=len(prompts),
        n_layers=model.anatomy.n_layers,
        n_draws=DrawAxis.of(options.perturbations).total,
        n_top=min(N_TOP, model.anatomy.d_vocab),
        lenses=[one.name for one in options.lenses],
    )


def _make_run(
    model: TracedModel,
    samples: Sequence[EncodedSample],
    prompts: Sequence[Prompt],
    options: TraceOptions,
    *,
    on_progress: Callable[[Progress], None] | None,
    on_plan: Callable[[TracePlan], None] | None,
) -> _Run | RoundsRun:
    """The measurements of all prompts; or in rounds, until a layer is certified."""

    def begin(some: Sequence[Prompt], options: TraceOptions, readings: Readings | None = None) -> _Run:
        """The run of some prompts; the plan that a caller hears of is that of all."""
        return _Run(
            model=model,
            samples=samples,
            prompts=some,
            options=options,
            on_progress=on_progress,
            on_plan=on_plan if readings is None else None,
            readings=readings,
        )

    if options.until is None:
        return begin(prompts, options)
    readings = _room_for(model, prompts, options)
    told = shielded(on_plan)
    return RoundsRun(model=model, prompts=prompts, options=options, all_readings=readings, begin=begin, on_plan=told)


def _measure_all(run: _Run | RoundsRun) -> None:
    """Measure all that was asked for."""
    run.measure()


MEASURING: Callable[..., None] = _measure_all
"""What may be interrupted at any moment without loss; what follows it makes a record of what was finished."""


def _follow_up(why: Sequence[str], fallback: Fallback) -> list[str]:
    """What a user should know where the trace did not go on as it was planned."""
    if not why:
        return []
    return [f"Everything was measured anew {fallback.name}, because {'; then '.join(why)}."]


def _specify(encoded: EncodedTask, options: TraceOptions) -> TraceSpec:
    asked: dict[str, Any] = {"chat": encoded.chat, "start_token": encoded.start_token}
    if encoded.chat:
        asked |= {"system": options.system, "template_arguments": dict(options.template_arguments or {})}
    asked |= {"n_samples": len(encoded.samples), "n_read_ahead": encoded.n_read_ahead}
    return TraceSpec(
        task={**encoded.spec, **asked},
        perturbation=options.perturbations[0].to_dict(),
        further_perturbations=tuple(one.to_dict() for one in options.further),
        onset=options.onset.to_dict(),
        target=options.target,
        target_tokens=options.target_tokens,
        seed=options.seed,
        lenses=tuple(one.name for one in options.lenses),
    )
