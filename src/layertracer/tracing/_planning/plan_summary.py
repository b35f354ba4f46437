"""A schedule in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from layertracer.tracing._batching.process_memory import ProcessGrowth
from layertracer.tracing._planning.audit_cells import AuditPlan
from layertracer.tracing._planning.batch_costs import Reserved
from layertracer.tracing._planning.device_rates import measure_rates
from layertracer.tracing._planning.pass_cost import Effort
from layertracer.tracing._planning.planner import Planner
from layertracer.tracing._planning.schedule import BatchCost, BucketWork, PrefixWork, Schedule
from layertracer.tracing._planning.trace_plan import BucketPlan, PlannedFlops, PrefixPlan, TracePlan


def describe_schedule(
    planner: Planner,
    schedule: Schedule,
    audit: AuditPlan,
    *,
    budget_bytes: int,
    fills: bool = False,
    notes: Sequence[str] = (),
) -> TracePlan:
    """What a trace is going to do and take.

    Args:
        planner: What chose its sizes.
        schedule: What is done.
        audit: What of it is measured again.
        budget_bytes: What the process may grow by.
        fills: Whether the site is looked at first, for masks to be filled.
        notes: What is known already of prefixes that are not shared.
    """
    work, network = planner.work, planner.work.network
    prefixes, buckets = list(schedule.prefixes()), list(schedule.buckets())
    before = sum((prefix.cost.effort for prefix, _ in prefixes), Effort())
    looks = list(_looks(planner, schedule, audit))
    again = sum((one.effort + Effort(flops=one.tail_flops) for one in looks), Effort())
    own = sum((one.cost.effort.times(_share(one)) for one in buckets), Effort())
    tail = sum(one.tail_flops for one in (prefix.cost for prefix, _ in prefixes))
    tail += sum(one.cost.tail_flops * _share(one) for one in buckets)
    effort = before + own + again + Effort(flops=tail)
    layer_bytes = sum(_parameter_bytes(layer.module) for layer in network.anatomy.layers)
    costs = [*looks, *(one.cost for one in buckets), *(prefix.cost for prefix, _ in prefixes)]
    live = max([0.0, *(cost.peak_bytes for cost in costs), *(_look_at_site(planner, buckets) if fills else ())])
    growth = planner.growth.within(budget_bytes, live)
    rates = measure_rates(network.device, network.dtype)
    return TracePlan(
        model=network.name,
        method=work.method,
        n_prompts=sum(len(one.prompts) for one in buckets),
        n_layers=network.anatomy.n_layers,
        n_draws=work.n_draws,
        n_variants=work.n_variants,
        prefixes=tuple(_describe_prefix(prefix) for prefix, _ in prefixes),
        buckets=tuple(_describe_bucket(one, growth) for one in buckets),
        flops=PlannedFlops(
            layers=own.flops,
            prefix=before.flops,
            tail=tail,
            audit=again.flops,
            plain=_plain_flops(planner, schedule),
        ),
        weight_bytes=_parameter_bytes(network.module),
        weight_bytes_read=int(layer_bytes * effort.n_passes),
        peak_bytes=growth.of(live),
        live_bytes=int(live),
        budget_bytes=budget_bytes,
        seconds=rates.seconds(effort, weight_bytes=layer_bytes),
        is_measured=planner.batch_costs.costs.is_measured,
        notes=(*notes, *schedule.notes),
    )


def _look_at_site(planner: Planner, buckets: Sequence[BucketWork]) -> Iterator[int]:
    """What it takes to look at the site in each bucket's prompts, one at a time."""
    for bucket in buckets:
        yield planner.site_row_bytes(len(bucket.prompts[0].ids))


def _share(bucket: BucketWork) -> float:
    """How many full batches the prompts of a bucket are."""
    return len(bucket.prompts) / bucket.plan.n_prompts


def _describe_prefix(prefix: PrefixWork) -> PrefixPlan:
    node = prefix.node
    return PrefixPlan(
        start=node.start,
        end=node.end,
        n_prompts=node.n_prompts,
        n_passes=prefix.cost.n_passes,
        tokens_saved=(node.n_prompts - 1) * (node.end - node.start),
        memory_bytes=int(prefix.memory_bytes),
    )


def _describe_bucket(bucket: BucketWork, growth: ProcessGrowth) -> BucketPlan:
    length, cost = len(bucket.prompts[0].ids), bucket.cost
    return BucketPlan(
        length=length,
        n_shared=bucket.n_before,
        n_own=length - bucket.n_before,
        n_prompts=len(bucket.prompts),
        prompts_per_pass=bucket.plan.n_prompts,
        n_cuts=cost.n_passes,
        n_passes=cost.n_passes * bucket.n_batches,
        widest_rows=cost.widest_rows,
        peak_bytes=growth.of(cost.peak_bytes),
    )


def _looks(planner: Planner, schedule: Schedule, audit: AuditPlan) -> Iterator[BatchCost]:
    """The prompts that are measured again."""
    caches = {id(bucket): prefix.memory_bytes for prefix, _ in schedule.prefixes() for bucket in prefix.buckets}
    for bucket in schedule.buckets():
        reserved = Reserved(n_tokens=bucket.n_before, memory_bytes=caches.get(id(bucket), 0.0))
        for prompt in bucket.prompts:
            if prompt.index in audit.looks:
                n_runs = 1 + len(audit.looks[prompt.index]) + (prompt.index in audit.readouts)
                yield planner.batch_costs.look(prompt, reserved, n_runs=n_runs)


def _plain_flops(planner: Planner, schedule: Schedule) -> float:
    """Of one forward for every prompt and perturbed copy and one without, each read where the trace reads."""
    tail, n_layers = planner.batch_costs.costs.tail_flops(), planner.work.network.anatomy.n_layers
    total = 0.0
    for bucket, before in _with_flops_before(planner, schedule):
        prompt = bucket.prompts[0]
        n_scored = len(prompt.read)
        forward = before + planner.batch_costs.own_flops(prompt, bucket.n_before)
        each = (1 + planner.work.n_variants) * (forward + n_scored * tail) + n_layers * n_scored * tail
        total += len(bucket.prompts) * each
    return total


def _with_flops_before(planner: Planner, schedule: Schedule) -> Iterator[tuple[BucketWork, float]]:
    """All buckets, each with the arithmetic of the shared tokens before it in one row."""
    yield from ((bucket, 0.0) for bucket in schedule.alone)

    def under(prefix: PrefixWork, before: float) -> Iterator[tuple[BucketWork, float]]:
        here = before + planner.batch_costs.prefix_flops(prefix.node)
        yield from ((bucket, here) for bucket in prefix.buckets)
        for child in prefix.children:
            yield from under(child, here)

    for group in schedule.groups:
        yield from under(group.prefix, 0.0)


def _parameter_bytes(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())
