"""What stands at the sites of a trace in clean runs: what masks are filled with, and dominant dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from layertracer._errors import OutOfMemoryError
from layertracer._types import Perturbation, fills_from_runs
from layertracer.models import Network
from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._observers.site_sums import SiteSums, collect_site_values
from layertracer.tracing._perturbers.protocol import Fills
from layertracer.tracing._planning.fallbacks import Fallback
from layertracer.tracing._planning.planner import Planner
from layertracer.tracing._planning.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLooks:
    """The sites of one trace, looked at.

    Attributes:
        network: The model.
        prompts: All prompts.
        perturbations: What is done, each at its site.
        sums: Sums over the sites that are looked at, by site.
    """

    network: Network
    prompts: Sequence[Prompt]
    perturbations: Sequence[Perturbation]
    sums: dict[str, SiteSums] = field(default_factory=dict)

    def observers(self, work: Workload) -> tuple[SiteSums, ...]:
        """What sums up the clean rows at those sites that the passes look at, one at each."""
        looked_at = [
            str(perturbation.site)
            for perturbation, site in zip(self.perturbations, work.sites, strict=True)
            if site.sees_site and str(perturbation.site) not in self.sums
        ]
        found = {site: SiteSums.of(self.network, site) for site in looked_at}
        self.sums.update(found)
        return tuple(found.values())

    def fills(self, fallback: Fallback) -> list[Fills | None]:
        """What each mask is filled with, from a look at its site first; at all sites where the passes do not look."""
        fills: list[Fills | None] = []
        looked: dict[tuple[str, int], Fills | None] = {}
        for perturbation, site in zip(self.perturbations, fallback.work.sites, strict=True):
            is_filled = fills_from_runs(perturbation)
            seen_as = str(perturbation.site), getattr(perturbation, "seed", 0)
            if (is_filled or (site.is_in_ladder and fallback.work.method == "plain")) and seen_as not in looked:
                # One prompt at a time where masks are filled: nothing else looks at what they are filled with.
                one_by_one = fallback.row_by_row or is_filled
                sums, looked[seen_as] = self._look(fallback.planner, perturbation, row_by_row=one_by_one)
                if sums is not None:
                    self.sums[seen_as[0]] = sums
            fills.append(looked.get(seen_as))
        return fills

    def _look(
        self, planner: Planner, perturbation: Perturbation, *, row_by_row: bool
    ) -> tuple[SiteSums | None, Fills | None]:
        """What stands at a site in clean runs; nothing where memory does not allow it and nothing depends on it."""
        try:
            return collect_site_values(
                self.network,
                self.prompts,
                str(perturbation.site),
                seed=getattr(perturbation, "seed", 0),
                plan_of=partial(planner.site_pass, row_by_row=row_by_row),
            )
        except OutOfMemoryError:
            if fills_from_runs(perturbation):
                raise
            return None, None  # the prompts that do fit are still traced
