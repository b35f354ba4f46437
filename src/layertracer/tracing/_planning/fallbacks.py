"""The ways in which a trace can be measured, from the fastest to the plainest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._batching.shared_prefixes import without_prefixes
from layertracer.tracing._planning.planner import Planner
from layertracer.tracing._planning.schedule import Schedule
from layertracer.tracing._planning.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """One of them.

    Attributes:
        name: What sets it apart, as the end of a sentence; empty for the way that was planned.
        planner: How its sizes are chosen.
        schedule: What goes into which pass.
    """

    name: str
    planner: Planner
    schedule: Schedule

    @property
    def work(self) -> Workload:
        """What is done to the prompts."""
        return self.planner.work

    @property
    def row_by_row(self) -> bool:
        """Whether prompts run one at a time."""
        return self.planner.row_by_row


def fallbacks_from(planned: Fallback, prompts: Sequence[Prompt]) -> Iterator[Fallback]:
    """The way that was planned, and those that are slower, each made when it is asked for.

    Without shared prefixes, and at last one row at a time: by the plain method, or, at the layers'
    caches, with one perturbed row in a call. A ladder over one prompt at a time is no way of its own: where rows see
    one another, a prompt's perturbed rows do as well.
    """
    yield planned
    fallback = planned
    if fallback.work.cached is not None:
        fallback = _slower(fallback, prompts, name="without shared prefixes", work=replace(fallback.work, cached=None))
        yield fallback
    if fallback.work.method != "plain":
        name = "by the plain method, one prompt and one hooked forward at a time"
        yield _slower(fallback, prompts, name=name, work=_one_row_at_a_time(fallback.work), row_by_row=True)


def _slower(
    fallback: Fallback, prompts: Sequence[Prompt], *, name: str, work: Workload, row_by_row: bool | None = None
) -> Fallback:
    root = without_prefixes(prompts)
    costs = fallback.planner.batch_costs.costs.without_cache(work.all_spans(root))
    planner = replace(
        fallback.planner,
        batch_costs=replace(fallback.planner.batch_costs, work=work, costs=costs),
        row_by_row=fallback.row_by_row if row_by_row is None else row_by_row,
    )
    schedule = planner.schedule(root)
    return replace(fallback, name=name, planner=planner, schedule=schedule)


def _one_row_at_a_time(work: Workload) -> Workload:
    """Nothing shares a call with anything else."""
    work = replace(work.without_sight(), method="plain")
    if work.state is None:
        return work
    site = work.state.site
    site = replace(site, continuation=replace(site.continuation, one_row=True))
    return replace(work, state=replace(work.state, site=site))
