"""A trace planned: costs found, sizes chosen, and all of it in numbers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from layertracer._errors import OutOfMemoryError, SiteError, UsageError
from layertracer._types import Perturbation, Sample, fills_from_runs
from layertracer.models import Network, in_evaluation_mode, without_gradients
from layertracer.tasks import Task, load_task
from layertracer.tracing._batching.memory_budget import default_budget_bytes, enough_bytes, parse_memory
from layertracer.tracing._batching.process_memory import growth_of_trace, returning_large_tensors
from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._batching.shared_prefixes import PrefixNode, plan_prefixes, tokens_saved, without_prefixes
from layertracer.tracing._failures import explaining_failures, first_line, is_of_callers_making
from layertracer.tracing._model import TracedModel
from layertracer.tracing._observers.site_sums import bank_bytes
from layertracer.tracing._options import TraceOptions, lay_out_task, settle_sites
from layertracer.tracing._passes.cache_pass import StatePass, refuse_without_prefix
from layertracer.tracing._passes.cached_ladder import CachedLadder
from layertracer.tracing._passes.measure import N_TOP
from layertracer.tracing._passes.row_groups import DrawAxis
from layertracer.tracing._passes.tail import make_reduction
from layertracer.tracing._perturbers.cached_values import StateDraws, StatePerturber, make_state_perturber
from layertracer.tracing._perturbers.protocol import Fills, Perturber, make_perturber
from layertracer.tracing._planning.audit_cells import AuditPlan, check_share, plan_audit
from layertracer.tracing._planning.batch_costs import BatchCosts, CostSource
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
from layertracer.tracing._planning.workload import SiteWork, Workload
from layertracer.tracing._sites.protocol import SITES, layers_with

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
    options, site_notes = settle_sites(model, options)
    task = load_task(task) if isinstance(task, str) else task
    encoded, prompts = lay_out_task(model, task, options)
    module = model.network.call.module
    with in_evaluation_mode(module), explaining_failures(model.name, "while a trace of it was planned"):
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
    root, work, notes = _lay_out(model, prompts, options)
    enough = enough_bytes(model.network)
    filled = {one.site for one in options.perturbations if fills_from_runs(one)}
    fills, bank = bool(filled), len(filled) * bank_bytes(model.network)
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

    guessed, spans = plan(GuessedCosts(network=work.network, cached=work.cached), work), work.all_spans(root)
    if measures is None:
        is_tight = _TIGHT * guessed.plan.peak_bytes > budget_bytes or not is_guessable(work.network)
        measures = memory is not None or is_tight or _is_worth_measuring(guessed.plan, work.network, spans)
    if not measures:
        return guessed
    try:
        with returning_large_tensors(applies=model.device.type == "cpu"):
            costs = MeasuredCosts(probe=model.cost_probe, cached=work.cached, spans=spans, room_bytes=live_bytes)
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


def _lay_out(
    model: TracedModel, prompts: Sequence[Prompt], options: TraceOptions
) -> tuple[PrefixNode, Workload, tuple[str, ...]]:
    """The prompts grouped by what they have in common, what is done to them, and what to say of it."""
    perturbers = make_perturbers(model, options.perturbations, by_prompt=options.by_prompt)
    root, cached, notes = _find_prefixes(model, prompts, options, perturbers)
    work = _workload(model, prompts, options, cached)
    work = replace(work, n_lenses=1 + len(options.lenses))
    if any(one is not None and one.keeps_pairs for one in perturbers):
        refuse_unpaired(prompts)
        work = replace(work, batch_multiple=2)
    return root, work, notes


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


def make_perturbers(
    model: TracedModel,
    perturbations: Sequence[Perturbation],
    fills: Sequence[Fills | None] = (),
    *,
    by_prompt: bool = False,
) -> tuple[Perturber | None, ...]:
    """Specifications made ready for a model; None for what is done to the layers' caches, see `make_state_perturber`.

    Args:
        model: The model.
        perturbations: The specifications.
        fills: For each what masked dimensions become; none where nothing was seen yet.
        by_prompt: Whether every prompt has draws of its own.

    Raises:
        UsageError: If an explicit mask has another shape, or a perturbation is of an unknown kind.
    """
    known = fills or [None] * len(perturbations)
    return tuple(
        None
        if (site := SITES[perturbation.site]).joins == "cache"
        else make_perturber(
            perturbation,
            n_layers=model.anatomy.n_layers,
            width=site.width(model.network),
            device=model.device,
            fills=own,
            by_prompt=by_prompt,
        )
        for perturbation, own in zip(perturbations, known, strict=True)
    )


def _workload(
    model: TracedModel, prompts: Sequence[Prompt], options: TraceOptions, cached: CachedLadder | None
) -> Workload:
    perturbations = options.perturbations
    method, axis = model.self_check.method, DrawAxis.of(perturbations)
    state = _state_pass(model, prompts, perturbations, axis)
    sites = []
    for number, perturbation in enumerate(perturbations):
        join = SITES[perturbation.site].joins
        in_ladder = join != "cache"
        having = layers_with(perturbation.site, model.network) if state is None or in_ladder else state.site.layers
        sites.append(
            SiteWork(
                layers=tuple(layer for layer in having if options.layers is None or layer in options.layers),
                draws=axis.span(number),
                join=join,
                last_only=perturbation.positions == "last",
                sees_site=in_ladder and method == "ladder" and not fills_from_runs(perturbation),
            )
        )
    return Workload(network=model.network, method=method, sites=tuple(sites), cached=cached, state=state)


def _state_pass(
    model: TracedModel, prompts: Sequence[Prompt], perturbations: Sequence[Perturbation], axis: DrawAxis
) -> StatePass | None:
    """The pass over the layers' caches; None where nothing is done to them."""
    at_caches = [number for number, one in enumerate(perturbations) if SITES[one.site].joins == "cache"]
    if not at_caches:
        return None
    refuse_without_prefix(prompts)
    site = model.state_proof.site()
    by_draw: dict[int, tuple[StatePerturber, int]] = {}
    for number in at_caches:
        perturber = make_state_perturber(perturbations[number], site.state, n_layers=model.anatomy.n_layers)
        by_draw |= {draw: (perturber, own) for own, draw in enumerate(axis.span(number))}
    return StatePass(site=site, perturber=StateDraws(by_draw=by_draw), draws=tuple(by_draw))


def refuse_unpaired(prompts: Sequence[Prompt]) -> None:
    """Raise where prompts are no pairs of partners that can run together: 0 and 1, 2 and 3, and so on.

    Raises:
        UsageError: If there is one too many, or two partners differ in length.
    """
    if len(prompts) % 2:
        raise UsageError(
            f"This perturbation takes values from a prompt's partner (prompts 0 and 1 of the task, 2 and 3, …), and "
            f"there are {len(prompts)} prompts. Give an even number of them."
        )
    for one, other in zip(prompts[::2], prompts[1::2], strict=True):
        if (len(one.ids), one.read) != (len(other.ids), other.read):
            raise UsageError(
                f"Samples {one.index} and {other.index} are partners, and have {len(one.ids)} and {len(other.ids)} "
                "tokens. Partners run in one batch: give prompts of equal length."
            )


def _find_prefixes(
    model: TracedModel, prompts: Sequence[Prompt], options: TraceOptions, perturbers: Sequence[Perturber | None]
) -> tuple[PrefixNode, CachedLadder | None, tuple[str, ...]]:
    """The prompts grouped by what they have in common, how rows go on from there, and why they do not."""
    alone, proof = without_prefixes(prompts), model.prefix_proof
    in_ladder = [one for one, made in zip(options.perturbations, perturbers, strict=True) if made is not None]
    sites = list(dict.fromkeys(str(one.site) for one in in_ladder))
    uncounted = sorted(model.network.uncounted_tokens & {token for prompt in prompts for token in prompt.ids})
    if uncounted and None in perturbers:
        raise SiteError(
            f"The site 'state' cannot be read: prompts hold token {uncounted[0]}, the padding token of {model.name!r}, "
            "which it does not count as a position, and what its cache holds does. Leave that token out."
        )
    if not in_ladder or options.share_prefix is False:
        return alone, None, ()
    if any(made is not None and (made.is_per_prompt or made.keeps_pairs) for made in perturbers):
        note = "Prompts share no prefix, which takes longer: what is done to a layer depends on the prompt."
        return alone, None, (note,) if options.share_prefix else ()
    saved = tokens_saved(plan_prefixes(prompts))
    if all(one.positions == "last" for one in in_ladder):
        saved += sum(prompt.read[0] for prompt in prompts)
    is_proved = options.share_prefix or all(proof.is_made(site) for site in sites)
    if saved < (1 if is_proved else _WORTH_PROVING):
        return alone, None, ()
    if uncounted:
        reason = f"some hold token {uncounted[0]}, the padding token, which the model does not count as a position"
        return alone, None, (f"Prompts share no prefix, which takes longer: {reason}.",)
    try:
        ladders = [proof.ladder(site) for site in sites]
    except SiteError as refusal:
        return alone, None, (f"Prompts share no prefix, which takes longer: {refusal}.",)
    if len({ladder.continuation for ladder in ladders}) > 1:
        reason = f"its rows would be read on in another way for each of {', '.join(sites)}"
        return alone, None, (f"Prompts share no prefix, which takes longer: {reason}.",)
    return plan_prefixes(prompts, shortest=ladders[0].continuation.shortest), ladders[0], ()


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
