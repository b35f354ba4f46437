"""Causal tracing: every layer and position of one run patched into the other (Meng et al. 2022)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from layertracer._errors import AnatomyError, LayerTracerError, SelfCheckError, printable_cause
from layertracer._types import Audit
from layertracer.models import in_evaluation_mode, is_out_of_memory, keeping_loaded, without_gradients
from layertracer.tracing._batching.memory_budget import (
    PassPlan,
    chunk_bytes,
    default_budget_bytes,
    fast_bytes,
    out_of_memory,
    parse_memory,
    plan_pass,
    row_bytes,
)
from layertracer.tracing._failures import (
    CallbackRaised,
    explaining_failures,
    first_line,
    is_of_callers_making,
    shielded,
)
from layertracer.tracing._model import TracedModel
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._patching.answers import AnswerReader
from layertracer.tracing._patching.audit import CausalAuditor, plan_looks
from layertracer.tracing._patching.batch_sizes import buckets, plan_cells
from layertracer.tracing._patching.cells import CellPasses, Windows
from layertracer.tracing._patching.entrance import Entrance, find_entrance
from layertracer.tracing._patching.prompts import CausalOptions, CausalPrompt, check_prompts
from layertracer.tracing._patching.readings import (
    CausalInterrupted,
    CausalReadings,
    Collected,
    OnCells,
    OnFinished,
    PromptCells,
)
from layertracer.tracing._patching.two_runs import Case, Corruption, Run, embedding_std
from layertracer.tracing._patching.ways import Way, refuse_unsuited, ways_of
from layertracer.tracing._proofs.alone import Disagreement

Found = TypeVar("Found")
_LOG = logging.getLogger("layertracer")
_GROWTH = 3
"""How many times the tensors of a pass a process grows by: what was freed is kept in pieces that do not always fit."""
_CELLS = 2
"""How many times what is enough for other passes on a CPU those of cells may take: their rows come in layer by layer,
so that half of them are there on average."""


@without_gradients()
def run_causal(
    model: TracedModel,
    prompts: Sequence[CausalPrompt],
    options: CausalOptions | None = None,
    *,
    min_total_effect: float = 0.01,
    on_progress: OnCells | None = None,
    on_finished: OnFinished | None = None,
) -> CausalReadings:
    """The answer's probability with every layer and position of one run patched into the other.

    Laws: the same within rounding whatever the batch, the memory and the order of prompts; the same with both runs
    exchanged and the other direction; where both runs are the same, nothing changes; with what leaves the last layer
    at the last position put in, it is exactly the donor's.

    Args:
        model: From `load_model` or `wrap_model`.
        prompts: The prompts, of any lengths; those of one length run together, and none is padded.
        options: How they are corrupted, and what is put where.
        min_total_effect: Prompts whose answer's probability changes by less are not patched.
        on_progress: Told how many cells are done, and of how many.
        on_finished: Told each prompt's index and cells as soon as they are there.

    Returns:
        All of it, in the order of the prompts.

    Raises:
        UsageError: If prompts or options are none, or do not go together.
        PromptTooLongError: If a prompt is longer than the model's context.
        SiteError: If the model has an encoder, or the site is not offered.
        SelfCheckError: If the model does not give the same twice.
        OutOfMemoryError: If not even one cell of one prompt fits.
        ModelError: If the model's own code raises anything else.
        CausalInterrupted: On Ctrl-C; carries what was finished.
    """
    options, network = options or CausalOptions(), model.network
    refuse_unsuited(model, options)
    check_prompts(prompts, options, network)
    told = None if on_progress is None else shielded(partial(_spread, on_progress))
    kept = None if on_finished is None else shielded(partial(_spread, on_finished))
    tracing: _Tracing | None = None
    stopped: CallbackRaised | None = None
    try:
        with (
            explaining_failures(model.name, "while values of one run were put into another"),
            in_evaluation_mode(network.call.module),
            keeping_loaded(network.outer_modules),
        ):
            tracing = _Tracing.of(model, prompts, options, min_total_effect)
            tracing.told, tracing.kept = told, kept
            tracing.measure()
    except CallbackRaised as stop:
        stopped = stop
    except KeyboardInterrupt:
        if tracing is None:
            raise
        raise CausalInterrupted(tracing.readings()) from None
    if stopped is not None:  # out here, so that it comes out as it went in
        raise stopped.raised
    assert tracing is not None  # or something has been raised
    return tracing.readings()


def _spread(callback: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    callback(*arguments)


@dataclass(slots=True, kw_only=True)
class _Tracing:
    """Causal tracing of some prompts, as far as it is done."""

    model: TracedModel
    prompts: Sequence[CausalPrompt]
    options: CausalOptions
    min_total_effect: float
    corruption: Corruption
    collected: Collected
    notes: list[str]
    budget_bytes: int
    told: Callable[[tuple[int, int]], None] | None = None
    kept: Callable[[tuple[int, PromptCells]], None] | None = None
    way: Way = field(init=False)
    _followed_up: list[str] = field(init=False, default_factory=list)
    _auditor: CausalAuditor | None = field(init=False, default=None)
    _n_done: int = field(init=False, default=0)

    @classmethod
    def of(
        cls, model: TracedModel, prompts: Sequence[CausalPrompt], options: CausalOptions, min_total_effect: float
    ) -> _Tracing:
        """Nothing done yet."""
        network, notes = model.network, list[str]()
        entrance, noise_std = Entrance(network=network, module=None), None
        if options.corrupt == "noise":
            entrance = find_entrance(network)
            noise_std = options.noise_scale * embedding_std(entrance, prompts)
            notes += [entrance.note] if entrance.note else []
        budget_bytes = default_budget_bytes(network) if options.memory is None else parse_memory(options.memory)
        tracing = cls(
            model=model,
            prompts=prompts,
            options=options,
            min_total_effect=min_total_effect,
            corruption=Corruption(entrance=entrance, options=options, noise_std=noise_std),
            collected=Collected(
                prompts=prompts,
                windows=Windows.of(network, site=options.site, width=options.window),
                n_layers=network.anatomy.n_layers,
                n_draws=options.n_draws,
            ),
            notes=notes,
            budget_bytes=budget_bytes // _GROWTH,
        )
        tracing.way = Way(name="", method=model.self_check.method, cached=None)
        return tracing

    def readings(self) -> CausalReadings:
        """What is finished."""
        said = self._followed_up
        audit = Audit(share=self.options.audit) if self._auditor is None else self._auditor.result(said)
        return self.collected.readings(
            noise_std=self.corruption.noise_std,
            audit=audit,
            method=self.way.method,
            notes=(*self.notes, *said),
        )

    def measure(self) -> None:
        """Measure all prompts by the first way that gives the same numbers twice.

        Raises:
            SelfCheckError: If none does.
        """
        why: list[str] = []
        for way in ways_of(self.model, self.prompts, self.options, self.notes):
            self.way = way
            self._follow_up(why)
            try:
                self._measure_by(way)
            except Disagreement as disagreement:
                why.append(str(disagreement))
            except Exception as error:
                is_answer = isinstance(error, LayerTracerError) and not isinstance(error, AnatomyError)
                is_last = way.method == "plain"
                if is_answer or is_last or is_out_of_memory(error) or is_of_callers_making(error):
                    raise
                why.append(f"rows could not go through the layers together ({first_line(error)})")
            else:
                return
        raise SelfCheckError(
            f"{self.model.name!r} does not give the same numbers twice: {why[-1]}, although it was run as plainly as "
            "can be, one prompt and one forward at a time. It keeps something between calls, or draws at random: make "
            "the model stateless and deterministic, then trace it again."
        )

    def _follow_up(self, why: Sequence[str]) -> None:
        if why:
            self._followed_up = [f"Everything was measured anew {self.way.name}, because {'; then '.join(why)}."]
            _LOG.warning("%s: %s", self.model.name, self._followed_up[0])
            self.collected.forget()

    def _measure_by(self, way: Way) -> None:
        """Measure all prompts by one way.

        Raises:
            Disagreement: If something measured again differs by more than rounding explains.
        """
        passes = self._passes(way)
        self._n_done = 0
        self._auditor = CausalAuditor(passes=passes, collected=self.collected, share=self.options.audit)
        self._read_both_runs(passes)
        self.collected.choose_patched(self.min_total_effect)
        self._auditor.looks = plan_looks(self.collected, share=self.options.audit, seed=self.options.seed)
        for number in np.flatnonzero(~self.collected.is_patched).tolist():
            self._finish(number)
        cases = [case for case in self._cases() if self.collected.is_patched[case.number]]
        for bucket in buckets(cases):
            self._measure_bucket(passes, bucket)

    def _passes(self, way: Way) -> CellPasses:
        network = self.model.network
        reader = AnswerReader(
            tail=Tail(network), d_vocab=network.anatomy.d_vocab, chunk_bytes=chunk_bytes(self.budget_bytes)
        )
        return CellPasses(
            network=network,
            axes=self.model.axes,
            site=self.options.site,
            reader=reader,
            corruption=self.corruption,
            windows=self.collected.windows,
            is_plain=way.method == "plain",
            cached=way.cached,
        )

    def _cases(self) -> list[Case]:
        return [
            Case(number, prompt, draw)
            for number, prompt in enumerate(self.prompts)
            for draw in range(self.options.n_draws)
        ]

    def _read_both_runs(self, passes: CellPasses) -> None:
        """Read what each prompt says clean, and in each corrupted run."""
        cases = self._cases()
        for bucket in buckets([case for case in cases if not case.draw]):
            for batch, found in self._in_batches(passes, bucket, self.corruption.clean):
                for case, own in zip(batch, found, strict=True):
                    self.collected.clean[case.number] = own
        for bucket in buckets(cases):
            for batch, found in self._in_batches(passes, bucket, self.corruption.corrupted):
                for case, own in zip(batch, found, strict=True):
                    self.collected.corrupted[case.number, case.draw] = own

    def _in_batches(
        self, passes: CellPasses, bucket: Sequence[Case], run_of: Callable[[Sequence[Case]], Run]
    ) -> Iterator[tuple[Sequence[Case], np.ndarray]]:
        """What one run says of cases of one length."""
        plan = plan_pass(
            row_bytes(passes.network, len(bucket[0].prompt.ids)),
            n_variants=0,
            n_prompts=1 if passes.is_plain else len(bucket),
            budget_bytes=self._pass_bytes,
        )

        def read(batch: Sequence[Case], plan: PassPlan) -> np.ndarray:
            del plan
            return passes.read(run_of(batch), [case.prompt for case in batch])

        yield from self._halving(bucket, plan, read)

    @property
    def _pass_bytes(self) -> int:
        return fast_bytes(self.model.network, self.budget_bytes)

    def _measure_bucket(self, passes: CellPasses, bucket: Sequence[Case]) -> None:
        """Measure the cells of cases of one length, corrupted from one position on."""
        windows = self.collected.windows
        plan = plan_cells(
            passes.network,
            bucket,
            n_windows=len(windows.distinct),
            n_sites=len(windows.of_layer),
            budget_bytes=min(self.budget_bytes, _CELLS * self._pass_bytes),
            ladder=passes.cached,
        )
        if passes.is_plain:
            plan = PassPlan(n_prompts=1, n_variants=1)
        for batch, _ in self._halving(bucket, plan, partial(self._measure_batch, passes)):
            for case in batch:
                if case.draw == self.options.n_draws - 1:
                    self._finish(case.number)

    def _measure_batch(self, passes: CellPasses, batch: Sequence[Case], plan: PassPlan) -> None:
        n_before = self._n_done
        try:
            for found in passes.cells(batch, n_windows=plan.n_variants):
                assert self._auditor is not None  # it is there before anything is measured
                self._auditor.check_base(batch, found.base)
                self.collected.fill(batch, found)
                n_layers = sum(layers in found.windows for layers in self.collected.windows.of_layer.values())
                self._n_done += len(batch) * n_layers
                self._tell()
        except Exception:
            self._n_done = n_before
            raise

    def _halving(
        self, bucket: Sequence[Case], plan: PassPlan, measure: Callable[[Sequence[Case], PassPlan], Found]
    ) -> Iterator[tuple[Sequence[Case], Found]]:
        """Batches, smaller ones once memory has run out.

        Raises:
            OutOfMemoryError: If not even one row fits.
        """
        n_done = 0
        while n_done < len(bucket):
            batch = bucket[n_done : n_done + plan.n_prompts]
            try:
                found = measure(batch, plan)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if plan.is_smallest:
                    length = len(bucket[0].prompt.ids)
                    raise out_of_memory(self.model.network, length) from printable_cause(error)
                plan = plan.halved()
                continue
            n_done += len(batch)
            yield batch, found

    def _finish(self, number: int) -> None:
        assert self._auditor is not None  # as above
        self._auditor.look_at(number)
        finished = self.collected.finish(number)
        if self.kept is not None:
            self.kept((self.prompts[number].index, finished))

    def _tell(self) -> None:
        if self.told is not None:
            patched = np.flatnonzero(self.collected.is_patched).tolist()
            n_positions = sum(len(self.prompts[one].ids) - self.prompts[one].first for one in patched)
            n_cells = self.options.n_draws * len(self.collected.windows.of_layer) * n_positions
            self.told((self._n_done, n_cells))
