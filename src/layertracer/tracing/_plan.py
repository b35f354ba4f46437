"""A trace planned: costs found, sizes chosen, and all of it in numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from layertracer._errors import OutOfMemoryError, SiteError
from layertracer._types import Perturbation, Sample
from layertracer.models import Network, in_evaluation_mode, without_gradients
from layertracer.tasks import Task, load_task
from layertracer.tracing._batching.memory_budget import default_budget_bytes, enough_bytes, parse_memory
from layertracer.tracing._batching.process_memory import growth_of_trace, returning_large_tensors
from layertracer.tracing._batching.prompts import Prompt, prepare_prompts
from layertracer.tracing._batching.shared_prefixes import PrefixNode, plan_prefixes, tokens_saved, without_prefixes
from layertracer.tracing._failures import explaining_failures, first_line, is_of_callers_making
from layertracer.tracing._model import TracedModel
from layertracer.tracing._observers.site_sums import bank_bytes
from layertracer.tracing._options import TraceOptions, encode_task, fills_from_runs, settle_site
from layertracer.tracing._passes.cache_pass import StatePass, refuse_without_prefix
from layertracer.tracing._passes.cached_ladder import CachedLadder
from layertracer.tracing._passes.measure import N_TOP
from layertracer.tracing._perturbers.cached_values import make_state_perturber
from layertracer.tracing._planning.audit_cells import AuditPlan, check_share, plan_audit
from layertracer.tracing._planning.batch_costs import BatchCosts, CostSource, make_reduction
from layertracer.tracing._planning.cache_meter import measure_state
from layertracer.tracing._planning.cost_sources import GuessedCosts, MeasuredCosts
from layertracer.tracing._planning.device_rates import measure_rates
from layertracer.tracing._planning.guessed_costs import is_guessable
from layertracer.tracing._planning.measured_costs import form_of
from layertracer.tracing._planning.plan_summary import describe_schedule
from layertracer.tracing._planning.planner import Planner
from layertracer.tracing._planning.schedule import Schedule
from layertracer.tracing._planning.token_spans import TokenSpan
from layertracer.tracing._planning.trace_plan import TracePlan, format_bytes
from layertracer.tracing._planning.workload import Workload
from layertracer.tracing._sites.protocol import layers_with

_WORTH_PROVING = 256
"""Tokens that sharing must save before it is worth proving right, which takes a few seconds, once for each model."""
_ROWS_OF_PROBE = 3
"""Rows of each span that measuring runs: one, and two."""
_TIGHT = 4
"""How many times a guessed peak must go into the budget to be good enough."""
_ALWAYS_THERE_BYTES = 8 * 2**20
"""Clean passes of so few live bytes are within what the smallest trace takes anyway: the state is measured then."""
_WORTH_MEASURING = 20
"""How many times as long as the measuring of its costs a trace must take."""
_OPERATORS_OF_LAYER, _OPERATOR_UNDER_METER_S = 110, 80e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTrace:
    """A trace, planned.

    Attributes:
        planner: How its sizes are chosen.
        schedule: What is done.
        plan: The same in numbers.
    """

    planner: Planner
    schedule: Schedule
    plan: TracePlan

    @property
    def is_tight(self) -> bool:
        """Whether large tensors must go back to the system at once for the budget to be kept."""
        growth, plan = self.planner.growth, self.plan
        is_on_cpu = self.planner.work.network.device.type == "cpu"
        return is_on_cpu and growth.within(plan.budget_bytes, plan.live_bytes) is growth


@without_gradients()
def plan_trace(
    model: TracedModel, task: Task | Sequence[Sample] | str, options: TraceOptions | None = None
) -> TracePlan:
    """What a trace is going to do and to take, from costs that are measured on the model.

    Args:
        model: From `load_model` or `wrap_model`.
        task: A task, samples, or what `load_task` takes.
        options: What is to be traced and how.

    Raises:
        TaskError: If the task is empty, an answer is missing, or a prompt is too long.
        SiteError: If no layer of the model has the perturbation's site.
        ModelError: If the model's own code raises something.
    """
    options = options or TraceOptions()
    options, site_notes = settle_site(model, options)
    task = load_task(task) if isinstance(task, str) else task
    encoded = encode_task(model, task, options)
    module = model.network.call.module
    with in_evaluation_mode(module), explaining_failures(model.name, "while a trace of it was planned"):
        prompts = prepare_prompts(
            encoded.samples, model.network, target=options.target, target_tokens=options.target_tokens
        )
        plan = plan_prompts(model, prompts, options, measures=True).plan
    return replace(plan, notes=(*site_notes, *encoded.left_out, *plan.notes))


def plan_prompts(
    model: TracedModel, prompts: Sequence[Prompt], options: TraceOptions, *, measures: bool | None = None
) -> PlannedTrace:
    """Choose the sizes of a trace's passes.

    Args:
        model: The model.
        prompts: The prompts.
        options: What is to be traced and how.
        measures: Whether costs are measured; None where that is worth its time.
    """
    memory, budget_bytes = options.memory, default_budget_bytes(model.network)
    if memory is not None:
        budget_bytes = parse_memory(memory)
    root, cached, notes = _find_prefixes(model, prompts, options)
    work = _workload(model, prompts, options.perturbation, cached)
    enough = enough_bytes(model.network)
    fills = fills_from_runs(options.perturbation)
    bank = bank_bytes(model.network) if fills else 0
    growth = growth_of_trace(model.network, prompts, n_draws=work.n_draws, n_top=N_TOP, bank_bytes=bank)
    live_bytes = growth.live_within(budget_bytes)
    reduction = make_reduction(model.network, live_bytes)

    def plan(costs: CostSource, work: Workload) -> PlannedTrace:
        batch_costs = BatchCosts(work=work, costs=costs, reduction=reduction).with_clean_row(prompts)
        row_by_row = model.self_check.row_by_row
        planner = Planner(
            batch_costs=batch_costs, budget_bytes=live_bytes, enough_bytes=enough, row_by_row=row_by_row, growth=growth
        )
        schedule = planner.schedule(root)
        again = audit_plan(schedule, work, options)
        plan = describe_schedule(planner, schedule, again, budget_bytes=budget_bytes, fills=fills, notes=notes)
        return PlannedTrace(planner=planner, schedule=schedule, plan=plan)

    guessed, spans = plan(GuessedCosts(network=work.network, cached=cached), work), work.all_spans(root)
    if measures is None:
        is_tight = _TIGHT * guessed.plan.peak_bytes > budget_bytes or not is_guessable(work.network)
        measures = memory is not None or is_tight or _is_worth_measuring(guessed.plan, work.network, spans)
    if not measures:
        return guessed
    try:
        with returning_large_tensors(applies=model.device.type == "cpu"):
            costs = MeasuredCosts(probe=model.cost_probe, cached=cached, spans=spans, room_bytes=live_bytes)
            clean = plan(costs, work)
            if work.state is None or clean.plan.live_bytes > max(live_bytes, _ALWAYS_THERE_BYTES):
                return clean
            measured = replace(work, state=_measured(work.state, prompts))
    except Exception as error:  # whatever a model's own code raises: the trace raises it where it matters
        if is_of_callers_making(error):
            raise
        note = f"Memory and time were guessed, since what the layers take could not be measured ({first_line(error)})."
        return replace(guessed, plan=replace(guessed.plan, notes=(*guessed.plan.notes, note)))
    return plan(costs, measured)


def _measured(state: StatePass, prompts: Sequence[Prompt]) -> StatePass:
    """The state pass with what it takes for the longest prompts, and for those of which most is read."""
    length, n_scored = (max(map(len, them)) for them in zip(*((one.ids, one.read) for one in prompts), strict=True))
    return replace(state, costs=measure_state(state, length=max(length, n_scored + 1), n_scored=n_scored))


def refuse_too_little(planned: PlannedTrace) -> None:
    """Raise where not even the smallest passes are within the budget, before anything runs.

    Raises:
        OutOfMemoryError: Says what they take. What was only guessed refuses nothing.
    """
    plan = planned.plan
    if not plan.is_measured or plan.peak_bytes <= plan.budget_bytes:
        return
    needed = -(-plan.peak_bytes // 10**6)
    live, budget = format_bytes(plan.live_bytes), format_bytes(plan.budget_bytes)
    raise OutOfMemoryError(
        f"A trace of {plan.n_prompts} prompts with {plan.model!r} takes about {needed} MB beyond the weights even in "
        f"the smallest passes ({live} of tensors, and what the process needs beside them), and its budget is {budget}. "
        f'Give it {needed} MB or more (memory="{needed}MB", --memory {needed}MB; by default it is four fifths of '
        "what is free and what the limits of this process leave), or use shorter or fewer prompts."
    )


def audit_plan(schedule: Schedule, work: Workload, options: TraceOptions) -> AuditPlan:
    """What of a schedule is measured again."""
    return plan_audit(schedule, work, share=check_share(options.audit), seed=options.seed)


def _workload(
    model: TracedModel, prompts: Sequence[Prompt], perturbation: Perturbation, cached: CachedLadder | None
) -> Workload:
    site, method = perturbation.site, model.self_check.method
    state = None
    if site == "state":
        refuse_without_prefix(prompts)
        state_site = model.state_proof.site()
        perturber = make_state_perturber(perturbation, state_site.state, n_layers=model.anatomy.n_layers)
        state = StatePass(site=state_site, perturber=perturber, n_draws=perturbation.n_draws)
    return Workload(
        network=model.network,
        method=method,
        layers=layers_with(site, model.network) if state is None else state.site.layers,
        n_draws=perturbation.n_draws,
        is_inside=site not in ("block_output", "state"),
        last_only=perturbation.positions == "last",
        sees_site=state is None and method == "ladder" and not fills_from_runs(perturbation),
        cached=cached,
        state=state,
    )


def _find_prefixes(
    model: TracedModel, prompts: Sequence[Prompt], options: TraceOptions
) -> tuple[PrefixNode, CachedLadder | None, tuple[str, ...]]:
    """The prompts grouped by what they have in common, how rows go on from there, and why they do not."""
    alone = without_prefixes(prompts)
    perturbation, proof = options.perturbation, model.prefix_proof
    uncounted = sorted(model.network.uncounted_tokens & {token for prompt in prompts for token in prompt.ids})
    if uncounted and perturbation.site == "state":
        raise SiteError(
            f"The site 'state' cannot be read: prompts hold token {uncounted[0]}, the padding token of {model.name!r}, "
            "which it does not count as a position, and what its cache holds does. Leave that token out."
        )
    if perturbation.site == "state" or options.share_prefix is False:
        return alone, None, ()
    saved = tokens_saved(plan_prefixes(prompts))
    if perturbation.positions == "last":
        saved += sum(prompt.read[0] for prompt in prompts)
    is_proved = options.share_prefix or proof.is_made(perturbation.site)
    if saved < (1 if is_proved else _WORTH_PROVING):
        return alone, None, ()
    if uncounted:
        reason = f"some hold token {uncounted[0]}, the padding token, which the model does not count as a position"
        return alone, None, (f"Prompts share no prefix, which takes longer: {reason}.",)
    try:
        cached = proof.ladder(perturbation.site)
    except SiteError as refusal:
        return alone, None, (f"Prompts share no prefix, which takes longer: {refusal}.",)
    return plan_prefixes(prompts, shortest=cached.continuation.shortest), cached, ()


def _is_worth_measuring(plan: TracePlan, network: Network, spans: Collection[TokenSpan]) -> bool:
    """Whether measuring the costs of some spans takes next to nothing of a trace's time."""
    forms = {form_of(span) for span in spans}
    n_tokens = sum(
        max(span.n_own for span in spans if form_of(span) == form)
        + max(span.n_before for span in spans if form_of(span) == form)
        for form in forms
    )
    rates = measure_rates(network.device, network.dtype)
    n_weights = sum(one.numel() for layer in network.anatomy.layers for one in layer.module.parameters())
    flops = _ROWS_OF_PROBE * n_tokens * 2 * n_weights
    n_runs = 2 * len(forms) * (1 if len(spans) == len(forms) else 2)
    spent_s = flops / rates.flops + n_runs * network.anatomy.n_layers * _OPERATORS_OF_LAYER * _OPERATOR_UNDER_METER_S
    return plan.seconds >= _WORTH_MEASURING * spent_s
