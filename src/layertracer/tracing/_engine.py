"""Prompts in, numbers out: passes of the ladder or the plain method, as they were planned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from layertracer._errors import AnatomyError, LayerTracerError, NonFiniteError, OutOfMemoryError
from layertracer.models import Network, is_out_of_memory, without_gradients
from layertracer.tracing._batching.batches import run_batches
from layertracer.tracing._batching.memory_budget import PassPlan
from layertracer.tracing._batching.prompts import Prompt, bind_batch
from layertracer.tracing._failures import first_line, is_of_callers_making
from layertracer.tracing._lenses.protocol import Lens
from layertracer.tracing._observers.protocol import BatchObserver, add_each, numbers_of
from layertracer.tracing._passes.batch_passes import BatchPasses, Before
from layertracer.tracing._passes.measure import Measured, followed_of, measure_plain, measure_rows
from layertracer.tracing._passes.plain import plain_logits
from layertracer.tracing._passes.tail import make_reduction
from layertracer.tracing._planning.planner import Planner
from layertracer.tracing._planning.schedule import BucketWork, PrefixWork, Schedule
from layertracer.tracing._planning.workload import Workload
from layertracer.tracing._proofs.alone import Disagreement
from layertracer.tracing._proofs.audit import Auditor
from layertracer.tracing._readings import Progress, Readings
from layertracer.tracing._whole_answers import AnswerReader


def _reason_of(error: Exception) -> str:
    if isinstance(error, OutOfMemoryError) or is_out_of_memory(error):
        return "memory ran out"
    return first_line(error)


@dataclass(slots=True, kw_only=True)
class Engine:
    """One model, what is done to it, one plan.

    Attributes:
        passes: What is done to which rows.
        planner: Chooses how much goes into a pass.
        readings: Where the numbers go; what was finished before an error stays there.
        auditor: Measures some of them again.
        answers: Reads whole answers; None where nobody asks.
        lenses: Lenses beside the logit lens.
        on_progress: Called after every batch.
        notes: What a user should know of how it went.
    """

    passes: BatchPasses
    planner: Planner
    readings: Readings
    auditor: Auditor
    answers: AnswerReader | None = None
    lenses: Sequence[Lens] = ()
    on_progress: Callable[[Progress], None] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def network(self) -> Network:
        """The model."""
        return self.passes.network

    @property
    def _work(self) -> Workload:
        return self.planner.work

    def run(self, schedule: Schedule) -> None:
        """Measure all prompts.

        Args:
            schedule: What goes into which pass.

        Raises:
            Disagreement: If something measured again differs by more than rounding explains.
            NonFiniteError: If the model's output is NaN for a prompt.
            OutOfMemoryError: If not even one prompt with one perturbed copy fits.
        """
        with without_gradients():
            alone = [prompt for bucket in schedule.alone for prompt in bucket.prompts]
            self._run_or_else_alone(partial(self._run_buckets, schedule.alone, Before()), alone)
            for group in schedule.groups:
                run = partial(self._run_prefix, group.prefix, Before(passes=group.passes))
                self._run_or_else_alone(run, group.prompts)
            self.auditor.look_back()

    def _run_or_else_alone(self, run: Callable[[], None], prompts: Sequence[Prompt]) -> None:
        """Some prompts, going on from what the model remembers; without that where it does not work out."""
        try:
            run()
        except Exception as error:  # whatever a model's own code raises with its cache need not happen without it
            passes = self.passes
            is_final = isinstance(error, NonFiniteError | Disagreement) or is_of_callers_making(error)
            if passes.cached is None or is_final:
                raise
            reason = _reason_of(error)
        else:
            return
        left = [prompt for prompt in prompts if not self.readings.finished[prompt.index]]
        self.notes.append(f"{len(left)} prompts were traced without the model's own cache: {reason}.")
        self.passes = replace(passes, cached=None)
        self._run_buckets(self.planner.without_cache().alone(left), Before())
        self.passes = passes

    def _run_prefix(self, prefix: PrefixWork, before: Before) -> None:
        node = prefix.node
        ids = torch.tensor([node.first.ids[node.start : node.end]], device=self.network.device)
        before = self.passes.read(ids, before)
        self._run_buckets(prefix.buckets, before)
        for child in prefix.children:
            self._run_prefix(child, before)

    def _run_buckets(self, buckets: Sequence[BucketWork], before: Before) -> None:
        """Prompts of any lengths; out of memory halves the batch, then the variants of a pass, and goes on."""
        for bucket in buckets:
            for _ in run_batches(self.network, bucket.prompts, bucket.plan, partial(self._run_batch, before=before)):
                if self.on_progress is not None:
                    done = self.readings.finished
                    self.on_progress(Progress(done=int(done.sum()), total=len(done)))

    def _run_batch(self, batch: Sequence[Prompt], plan: PassPlan, *, before: Before) -> None:
        try:
            self._measure_batch(batch, plan, before)
        except Exception as error:
            # With the model's cache, prompts are tried without it first.
            if self.passes.cached is not None or not self._is_of_this_way(batch, error):
                raise
            raise Disagreement(f"rows could not go through the layers together ({_reason_of(error)})") from error
        self.auditor.look_at(batch)

    def _is_of_this_way(self, batch: Sequence[Prompt], error: Exception) -> bool:
        """Whether an error comes of how a batch was run: its prompts run alone and clean without one."""
        is_answer = isinstance(error, LayerTracerError) and not isinstance(error, AnatomyError)
        if is_answer or self._work.method == "plain" or is_out_of_memory(error) or is_of_callers_making(error):
            return False
        try:
            for prompt in batch:
                network, ids = bind_batch(self.network, [prompt])
                plain_logits(network, ids, read=prompt.read)
        except Exception:  # noqa: BLE001 - whatever the model's own code raises on its own
            return False
        return True

    def _measure_batch(self, batch: Sequence[Prompt], plan: PassPlan, before: Before) -> None:
        network, ids = bind_batch(self.network, batch)
        read, observers, work = batch[0].read, self.passes.fresh_observers(), self._work
        if not before.passes:
            before = Before(passes=plan.passes(work.in_ladder))
        if work.method == "ladder":
            indices = tuple(prompt.index for prompt in batch)
            rows = self.passes.run(network, ids, read=read, before=before, observers=observers, prompts=indices)
            reduction = make_reduction(network, self.planner.budget_bytes, shortage=plan.shortage)
            measured = measure_rows(rows, batch, ids, reduction=reduction, lenses=self.lenses)
        else:
            edits = {cell: self.passes.draws.edit(*cell) for cell in work.in_ladder}
            perturbers = self.passes.at(network, ids, read)
            measured = measure_plain(
                network, ids, batch, edits=edits, perturbers=perturbers, observers=observers, lenses=self.lenses
            )
        if work.state is not None:
            followed, cells = followed_of(batch, measured.lens), work.in_state
            found = work.state.measure(
                ids, batch, measured.lens, cells=cells, n_variants=plan.n_states, followed=followed
            )
            measured = replace(measured, rows=measured.rows | found)
        self._keep(batch, measured, observers)

    def _keep(self, batch: Sequence[Prompt], measured: Measured, observers: Sequence[BatchObserver]) -> None:
        work, device = self._work, measured.lens.log_prob.device
        shape = len(batch), work.n_draws, self.network.anatomy.n_layers
        rows = {name: torch.zeros(*shape, device=device) for name in self.readings.rows}
        for (layer, draw), numbers in measured.rows.items():
            for name, per_prompt in numbers.items():
                rows[name][:, draw, layer] = per_prompt
        if self.answers is not None:
            self.readings.answers |= self.answers.read(batch, measured.lens)
        seen = {one.name: numbers_of(one) for one in observers}
        measures = {name: by_layer for name, by_layer in seen.items() if by_layer is not None}
        self.readings.keep(batch, measured.by_lens, rows, cells=work.cells, measures=measures)
        for total, one in zip(self.passes.observers, observers, strict=True):
            if one.name not in measures:
                add_each([total], [one])
