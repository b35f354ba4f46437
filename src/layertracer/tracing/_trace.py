"""A joint trace: the task particle and the vulnerable layer of one model on one task, from one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from torch import Tensor

from layertracer._errors import LayerTracerError, ModelError, OutOfMemoryError, SiteError, UsageError
from layertracer._types import SITES, Mask, Noise, Perturbation, Sample, Skip, Status, TargetKind, TargetTokens
from layertracer.measures import OnsetCriterion, Rise
from layertracer.runs import TraceRecord, TraceSpec
from layertracer.tasks import EncodedTask, Task, load_task
from layertracer.tracing._cached_ladder import CachedLadder
from layertracer.tracing._climber import Climber
from layertracer.tracing._engine import Engine
from layertracer.tracing._measure import N_TOP
from layertracer.tracing._memory import default_budget_bytes, parse_memory
from layertracer.tracing._model import TracedModel, encode_for
from layertracer.tracing._perturb import Fills, Perturber, make_perturber
from layertracer.tracing._prefixes import PrefixNode, plan_prefixes, tokens_saved, without_prefixes
from layertracer.tracing._prompts import Prompt, prepare_prompts
from layertracer.tracing._readings import Progress, Readings
from layertracer.tracing._record import RecordParts, build_record
from layertracer.tracing._site_values import SiteSums, collect_site_values
from layertracer.tracing._state import StatePass, refuse_without_prefix
from layertracer.tracing._state_perturb import make_state_perturber

_WORTH_PROVING = 256
"""Tokens that sharing must save before it is worth proving right, which takes a few seconds, once for each model."""


class TraceInterrupted(KeyboardInterrupt):
    """A trace that was stopped by hand.

    Attributes:
        record: What was finished.
    """

    def __init__(self, record: TraceRecord) -> None:
        super().__init__(f"interrupted after {record.n_prompts} of {record.n_requested} prompts")
        self.record = record


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions:
    """What is traced and how.

    Attributes:
        perturbation: What is done to each layer.
        onset: When the target counts as risen.
        target: "answer" follows the sample's answer, "model" the model's own top token.
        target_tokens: "first" follows the answer's first token, "all" the teacher-forced product.
        share_prefix: Whether what prompts have in common is read once, where that is proved right.
        chat: Whether prompts are put into the tokenizer's chat template.
        seed: Seed of the bootstrap.
        memory: Memory that a pass may take, e.g. "4GiB"; None for a share of what is free.
        command: The command line, for the record.
    """

    perturbation: Perturbation = field(default_factory=Mask)
    onset: OnsetCriterion = field(default_factory=Rise)
    target: TargetKind = "answer"
    target_tokens: TargetTokens = "first"
    share_prefix: bool = True
    chat: bool = False
    seed: int = 0
    memory: str | int | None = None
    command: Sequence[str] | None = None


def trace_model(
    model: TracedModel,
    task: Task | Sequence[Sample] | str,
    options: TraceOptions | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> TraceRecord:
    """Where a model starts executing a task, and where it breaks most easily.

    Args:
        model: From `load_model` or `wrap_model`.
        task: A task, samples, or what `load_task` takes.
        options: What is traced and how.
        on_progress: Called whenever a batch of prompts is finished.

    Raises:
        TaskError: If the task is empty, an answer is missing, or a prompt is too long.
        SiteError: If no layer of the model has the perturbation's site.
        NonFiniteError: If the model's output is NaN.
        OutOfMemoryError: If not even one prompt fits.
        ModelError: If the model's own code raises anything else.
        TraceInterrupted: On Ctrl-C; carries what was finished.

    A `LayerTracerError` that comes after prompts were finished carries them as its `record`.
    """
    options = options or TraceOptions()
    started_at, began = datetime.now(UTC), time.perf_counter()
    refuse_perturbation(model, options.perturbation)
    task = load_task(task) if isinstance(task, str) else task
    encoded = encode_for(model, task, chat=options.chat)
    prompts = prepare_prompts(
        encoded.samples, model.network, target=options.target, target_tokens=options.target_tokens
    )
    parts = RecordParts(
        model=model,
        samples=encoded.samples,
        perturbation=options.perturbation,
        spec=_specify(task, encoded, options),
        warnings=encoded.warnings,
        command=options.command,
        started_at=started_at,
    )
    run = _Run(model=model, prompts=prompts, options=options, on_progress=on_progress)

    def record(status: Status, error: BaseException | None = None) -> TraceRecord:
        elapsed_s = time.perf_counter() - began
        all_parts = replace(parts, warnings=(*parts.warnings, *run.notes))
        return build_record(all_parts, run.readings, run.site_rms, status=status, error=error, elapsed_s=elapsed_s)

    try:
        run.measure()
    except KeyboardInterrupt:
        raise TraceInterrupted(record("interrupted")) from None
    except LayerTracerError as error:
        error.record = record("failed", error)
        raise
    except Exception as error:  # whatever a model's own code raises: what was finished before must not be lost
        n_done = int(run.readings.finished.sum())
        failure = ModelError(
            f"{model.name!r} raised an error of its own while it was traced, after {n_done} of {len(prompts)} prompts: "
            f"{type(error).__name__}: {error}. What was finished is kept; the cause is in the model's own code."
        )
        failure.record = record("failed", failure)
        raise failure from error
    return record("complete")


class _Run:
    """The measurements of one trace, as far as they are done."""

    def __init__(
        self,
        *,
        model: TracedModel,
        prompts: Sequence[Prompt],
        options: TraceOptions,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._model, self._prompts, self._options, self._on_progress = model, prompts, options, on_progress
        self._budget_bytes = (
            parse_memory(options.memory) if options.memory is not None else default_budget_bytes(model.network)
        )
        self._sums: SiteSums | None = None
        self.notes: list[str] = []
        self.readings = Readings.empty(
            n_prompts=len(prompts),
            n_layers=model.anatomy.n_layers,
            n_draws=options.perturbation.n_draws,
            n_top=min(N_TOP, model.anatomy.d_vocab),
        )

    @property
    def site_rms(self) -> Tensor | None:
        """Root mean square of what stood at the site, [layer, width]; None where it was not looked at."""
        return None if self._sums is None else self._sums.rms()

    def measure(self) -> None:
        """Run the ladder (or the plain method) over all prompts, after a look at the site where a mask is filled."""
        model, perturbation = self._model, self._options.perturbation
        state = self._make_state_pass() if perturbation.site == "state" else None
        # Made before anything runs, since it refuses a mask of the wrong shape.
        perturber = self._make_perturber() if state is None else None
        sums = None
        if _fills_from_runs(perturbation) or (state is None and model.self_check.method == "plain"):
            self._sums, fills = self._look_at_site()
            perturber = self._make_perturber(fills)
        elif state is None:
            self._sums = sums = SiteSums(model.anatomy.n_layers, model.anatomy.d_model)
        root, cached = self._find_prefixes()
        climber = Climber(
            network=model.network,
            axes=model.axes,
            perturber=perturber,
            last_only=perturbation.positions == "last",
            cached=cached,
            sees_site=sums is not None,
            trimmable=model.trimmable,
        )
        Engine(
            climber=climber,
            n_draws=perturbation.n_draws,
            method=model.self_check.method,
            row_by_row=model.self_check.row_by_row,
            budget_bytes=self._budget_bytes,
            readings=self.readings,
            state=state,
            sums=sums,
            on_progress=self._on_progress,
            notes=self.notes,
        ).run(root)

    def _find_prefixes(self) -> tuple[PrefixNode, CachedLadder | None]:
        """The prompts grouped by what they have in common, and how rows go on from there."""
        alone = without_prefixes(self._prompts), None
        perturbation, proof = self._options.perturbation, self._model.prefix_proof
        if perturbation.site == "state" or not self._options.share_prefix:
            return alone
        saved = tokens_saved(plan_prefixes(self._prompts))
        if perturbation.positions == "last":
            saved += sum(prompt.read[0] for prompt in self._prompts)
        if saved < (_WORTH_PROVING if not proof.is_made(perturbation.site) else 1):
            return alone
        try:
            cached = proof.ladder(perturbation.site)
        except SiteError as refusal:
            self.notes.append(f"Prompts share no prefix, which takes longer: {refusal}.")
            return alone
        return plan_prefixes(self._prompts, shortest=cached.way.shortest), cached

    def _make_state_pass(self) -> StatePass:
        perturbation, site = self._options.perturbation, self._model.state_proof.site()
        refuse_without_prefix(self._prompts)
        perturber = make_state_perturber(perturbation, site.state, n_layers=self._model.anatomy.n_layers)
        return StatePass(site=site, perturber=perturber, n_draws=perturbation.n_draws)

    def _look_at_site(self) -> tuple[SiteSums | None, Fills | None]:
        """What stands at the site in clean runs; nothing where memory does not allow it and nothing depends on it."""
        perturbation = self._options.perturbation
        try:
            return collect_site_values(
                self._model.network,
                self._prompts,
                perturbation.site,
                seed=getattr(perturbation, "seed", 0),
                budget_bytes=self._budget_bytes,
                row_by_row=self._model.self_check.row_by_row,
            )
        except OutOfMemoryError:
            if _fills_from_runs(perturbation):
                raise
            return None, None  # the prompts that do fit are still traced

    def _make_perturber(self, fills: Fills | None = None) -> Perturber:
        anatomy = self._model.anatomy
        return make_perturber(
            self._options.perturbation,
            n_layers=anatomy.n_layers,
            width=anatomy.d_model,
            device=self._model.device,
            fills=fills,
        )


def _fills_from_runs(perturbation: Perturbation) -> bool:
    return isinstance(perturbation, Mask) and perturbation.fill != "zero"


def refuse_perturbation(model: TracedModel, perturbation: Perturbation) -> None:
    """Raise for what is no perturbation, or one at a site that was not proved for the model.

    Raises:
        UsageError: If it is no perturbation.
        SiteError: If no layer of the model has such a part, or what that adds to the stream could not be told apart.
    """
    if not isinstance(perturbation, Mask | Noise | Skip):
        raise UsageError(
            f"perturbation must be a Mask, Noise or Skip, got {perturbation!r}. For masks of your own use "
            "Mask.explicit(keep)."
        )
    check, site, name = model.self_check, perturbation.site, model.name
    if site == "block_output":
        return
    if site == "state":
        model.state_proof.site()
        return
    if site in check.errors and check[site].passed:
        return
    offered = [one for one in SITES if one == "block_output" or (one in check.errors and check[one].passed)]
    reason = "could not be proved right" if site in check.errors else "does not exist"
    if check.method == "plain":
        reason = "was not proved, since it is traced by the plain method,"
    raise SiteError(
        f"The site {site!r} {reason} in {name!r}, so that nothing can be masked there. Sites of this model: "
        f"{', '.join(offered)}."
    )


def _specify(task: Task | Sequence[Sample], encoded: EncodedTask, options: TraceOptions) -> TraceSpec:
    spec: dict[str, Any] = dict(task.spec) if isinstance(task, Task) else {"name": "samples", "kind": "samples"}
    return TraceSpec(
        task=spec | {"chat": encoded.chat, "start_token": encoded.start_token, "n_samples": len(encoded.samples)},
        perturbation=options.perturbation.to_dict(),
        onset=options.onset.to_dict(),
        target=options.target,
        target_tokens=options.target_tokens,
        seed=options.seed,
    )
