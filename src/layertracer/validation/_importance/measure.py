"""Importance of every layer by other means than masks, beside which a vulnerable layer can be held."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from layertracer._errors import SiteError, UnknownNameError
from layertracer._types import Audit, LayerMeasure, Mask, Perturbation, Sample, Skip, TargetKind, TargetTokens
from layertracer.runs import TraceRecord
from layertracer.tasks import Task, load_task
from layertracer.tracing import (
    LogitAttribution,
    Progress,
    TracedModel,
    TraceOptions,
    attribute_logits,
    estimate_removals,
    trace_model,
    why_not_offered,
)
from layertracer.validation._importance.infos import IMPORTANCE_NAMES, IN_EVERY_TRACE, INFOS

_BRANCHES = ("mixer", "mlp")
_ENDS = ("js_bits", "loss_nats")
_NO_CONTRAST = "no sample has a contrast answer of one token"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Importance(Mapping[str, LayerMeasure]):
    """Measures of every layer's importance by name, as a mapping; and why some are not there.

    Attributes:
        measures: What was measured, [prompt, layer] each, in the order of the prompts given.
        why_not: What was asked for and is not measured, with the reason.
        target_log_prob: Log-probability of the target, nats, [prompt].
        audit: What the trace measured of itself again; None where nothing of it was asked for.
        n_gradients_audited: Prompts whose gradients were held against differences of plain forwards.
        worst_logit_miss: How far the terms of a logit and the logit are apart at most, in logits; None where nothing
            was attributed.
        notes: What must be said.
    """

    measures: Mapping[str, LayerMeasure]
    why_not: Mapping[str, str]
    target_log_prob: np.ndarray  # float64 [prompt]
    audit: Audit | None
    n_gradients_audited: int = 0
    worst_logit_miss: float | None = None
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> LayerMeasure:
        """One of them."""
        return self.measures[name]

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self.measures)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.measures)


def measure_importance(  # noqa: PLR0913 - takes its settings by name, as a trace does
    model: TracedModel,
    task: Task | Sequence[Sample] | str,
    *,
    names: Sequence[str] | None = None,
    target: TargetKind = "answer",
    target_tokens: TargetTokens = "first",
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    audit: float = 0.1,
    memory: str | int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Importance:
    """Importance of every layer on some prompts: removals, gradients, and direct logit attribution.

    Skips and zero-ablations of all layers come from one trace, gradients from one backward a prompt. On running text,
    give samples whose answers are long and `target_tokens="all"`: then the numbers are over all positions of the
    answers.

    Args:
        model: From `load_model` or `wrap_model`.
        task: A task, samples, or what `load_task` takes.
        names: Which measures, of `IMPORTANCE_NAMES`; all of them by default.
        target: As for a trace.
        target_tokens: Likewise.
        chat: Likewise.
        system: Likewise.
        template_arguments: Likewise.
        seed: Draws what is measured again.
        audit: Share in which the numbers are measured again; 0 for none.
        memory: Memory that may be taken, e.g. "4GiB".
        on_progress: Called as prompts are finished, stage by stage.

    Raises:
        UnknownNameError: If a name is not one of those.
        TaskError: If the task is empty, an answer is missing, or a prompt is too long.
    """
    wanted = _checked(names)
    samples = load_task(task) if isinstance(task, str) else task
    options = TraceOptions(
        target=target,
        target_tokens=target_tokens,
        chat=chat,
        system=system,
        template_arguments=template_arguments,
        seed=seed,
        audit=audit,
        memory=memory,
    )
    run = _Measuring(model=model, samples=samples, options=options, wanted=wanted, on_progress=on_progress)
    run.trace()
    run.take_gradients()
    run.attribute()
    return run.result()


def _checked(names: Sequence[str] | None) -> tuple[str, ...]:
    if names is None:
        return IMPORTANCE_NAMES
    for name in names:
        if name not in IMPORTANCE_NAMES:
            raise UnknownNameError.among("measure of importance", name, IMPORTANCE_NAMES)
    return tuple(dict.fromkeys(names))


@dataclass(slots=True, kw_only=True)
class _Measuring:
    """Measures of importance, as far as they are there."""

    model: TracedModel
    samples: Task | Sequence[Sample]
    options: TraceOptions
    wanted: tuple[str, ...]
    on_progress: Callable[[Progress], None] | None
    found: dict[str, LayerMeasure] = field(default_factory=dict)
    why_not: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    log_prob: np.ndarray | None = None
    audit: Audit | None = None
    n_gradients_audited: int = 0
    worst_logit_miss: float | None = None

    def trace(self) -> None:
        """Skips, zero-ablations and what every trace measures, from one trace."""
        removals = {name: self._removal(name) for name in ("skip", "zero_mixer", "zero_mlp") if self._wants(name)}
        perturbations = {name: one for name, one in removals.items() if one is not None}
        if not perturbations and not self._wants(*IN_EVERY_TRACE):
            return
        record, perturbations = self._traced(perturbations)
        self.log_prob = record.target_log_prob[:, -1].astype(np.float64)
        self.audit = record.audit
        self.notes += record.warnings
        for name in IN_EVERY_TRACE:
            self._keep_from(record, name)
        for name, effect in zip(perturbations, record.effects.values(), strict=False):
            self._keep(f"{name}_js_bits", effect.js_bits.mean(axis=1))
            loss = effect.target_log_prob_loss
            if loss is None or np.isnan(loss).all():
                self._miss(f"{name}_loss_nats", "every prompt has several answers that begin otherwise")
            else:
                self._keep(f"{name}_loss_nats", loss.mean(axis=1))

    def _traced(self, perturbations: dict[str, Perturbation]) -> tuple[TraceRecord, dict[str, Perturbation]]:
        """A trace, and what it perturbed: skips alone where additions are not found again on these prompts."""
        asked = list(perturbations.values()) or [Skip()]
        try:
            return self._trace_with(asked), perturbations
        except SiteError as error:
            if len(asked) == 1 and isinstance(asked[0], Skip):
                raise
            for name in perturbations.keys() - {"skip"}:
                for end in _ENDS:
                    self._miss(f"{name}_{end}", str(error))
            return self._trace_with([Skip()]), {name: one for name, one in perturbations.items() if name == "skip"}

    def _trace_with(self, perturbations: Sequence[Perturbation]) -> TraceRecord:
        options = replace(self.options, perturbation=perturbations)
        return trace_model(self.model, self.samples, options, on_progress=self.on_progress)

    def take_gradients(self) -> None:
        """First-order estimates of removals."""
        if not self._wants("gradient_"):
            return
        estimates = estimate_removals(self.model, self.samples, self.options, on_progress=self.on_progress)
        for name, values in estimates.change_nats.items():
            self._keep_or_miss(f"gradient_{name}", values, estimates.why_not.get(name))
        self.n_gradients_audited = estimates.n_audited
        self.notes += estimates.notes
        if self.log_prob is None:
            self.log_prob = estimates.log_prob

    def attribute(self) -> None:
        """Direct logit attribution."""
        if not self._wants("dla_"):
            return
        attribution = attribute_logits(self.model, self.samples, self.options, on_progress=self.on_progress)
        self._keep_attribution(attribution)

    def _keep_attribution(self, attribution: LogitAttribution) -> None:
        for name in _BRANCHES:
            reason = attribution.why_not.get(name)
            self._keep_or_miss(f"dla_{name}", attribution.terms[name], reason)
            differences = attribution.differences[name]
            has_none = bool(np.isnan(differences).all())
            self._keep_or_miss(f"dla_{name}_difference", differences, reason or (_NO_CONTRAST if has_none else None))
        self.worst_logit_miss = attribution.worst
        self.notes += attribution.notes

    def result(self) -> Importance:
        """What was found."""
        n_prompts = len(next(iter(self.found.values())).values) if self.found else 0
        return Importance(
            measures={name: self.found[name] for name in self.wanted if name in self.found},
            why_not={name: self.why_not[name] for name in self.wanted if name in self.why_not},
            target_log_prob=np.full(n_prompts, np.nan) if self.log_prob is None else self.log_prob,
            audit=self.audit,
            n_gradients_audited=self.n_gradients_audited,
            worst_logit_miss=self.worst_logit_miss,
            notes=tuple(dict.fromkeys(self.notes)),
        )

    def _wants(self, *beginnings: str) -> bool:
        return any(name.startswith(beginnings) for name in self.wanted)

    def _removal(self, name: str) -> Perturbation | None:
        """What takes something away from every layer; None where the model has no such site."""
        if name == "skip":
            return Skip()
        site = f"{name.removeprefix('zero_')}_output"
        reason = why_not_offered(self.model, site)
        if reason is not None:
            for end in _ENDS:
                self._miss(f"{name}_{end}", f"the site {site!r} {reason} in {self.model.name!r}")
            return None
        anatomy = self.model.anatomy
        return Mask.explicit(np.zeros((anatomy.n_layers, 1, anatomy.d_model), dtype=bool), site=site)

    def _keep_from(self, record: TraceRecord, name: str) -> None:
        if name in record.measures:
            self.found[name] = record.measures[name]
        else:
            self._miss(name, "the trace did not measure it")

    def _keep_or_miss(self, name: str, values: np.ndarray, reason: str | None) -> None:
        if reason is None:
            self._keep(name, values)
        else:
            self._miss(name, reason)

    def _keep(self, name: str, values: np.ndarray) -> None:
        self.found[name] = LayerMeasure(info=INFOS[name], values=values)

    def _miss(self, name: str, reason: str) -> None:
        self.why_not[name] = reason
