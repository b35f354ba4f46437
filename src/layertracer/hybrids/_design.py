"""Design advice: single layers, a search, and what it found beside placements that nobody searched for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from layertracer.advice import (
    Baseline,
    Judgement,
    Pairs,
    Placement,
    PublishedMatch,
    Ratio,
    Singles,
    compare_with_published,
)
from layertracer.hybrids._design_options import DesignOptions, ModelFacts, first_rows
from layertracer.hybrids._judging.rows import Rows
from layertracer.hybrids._measuring.bench import Bench, describe_singles
from layertracer.hybrids._measuring.comparison import Compared, compare, name_others
from layertracer.hybrids._measuring.joint_trace import JointTrace
from layertracer.hybrids._measuring.kept_measures import KeptMeasures
from layertracer.hybrids._placing.choose import Chosen, Scores, choose, greedy_paths
from layertracer.hybrids._placing.pairs import score_pairs
from layertracer.hybrids._placing.ratio import knee_with_interval
from layertracer.hybrids._placing.search import Kept, best_of, largest, score_singles

Judge = Callable[[Sequence[Kept]], Sequence[Judgement]]
"""What placements cost on all held-out rows."""

_RATIO_SIZES = (0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignMeans:
    """What a design measures with.

    Attributes:
        measures: What measures placements.
        trace: The joint trace of the search's rows.
        judge: What placements cost on all held-out rows.
        tell: Called with what is done next, in words.
    """

    measures: KeptMeasures
    trace: Callable[[], JointTrace]
    judge: Judge
    tell: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a design found."""

    singles: Singles
    pairs: Pairs | None
    placements: Mapping[int, Placement]
    baselines: Mapping[int, Mapping[str, Baseline]]
    published: Mapping[int, tuple[PublishedMatch, ...]]
    ratio: Ratio | None
    notes: tuple[str, ...]


class Design:
    """A design as far as it is measured.

    Args:
        facts: What is known of the model.
        rows: The rows.
        options: What is asked; `keep` is settled.
        means: What measures.
    """

    def __init__(
        self,
        facts: ModelFacts,
        rows: Rows,
        options: DesignOptions,
        *,
        means: DesignMeans,
    ) -> None:
        self._facts, self._options = facts, options
        self._trace, self._judge, self._tell = means.trace, means.judge, means.tell
        self._layers = means.measures.placeable
        self._search = Bench(means.measures, rows.search)
        self._compared = Bench(means.measures, first_rows(rows.held_out, options.n_compared))
        self._held_out = Bench(means.measures, rows.held_out)

    def run(self) -> Found:
        """Everything, from single layers to the curve of the ratio."""
        sizes = self._options.keep or ()
        self._tell("single layers")
        singles = score_singles(self._search, self._layers)
        self._tell("one trace at two sites")
        trace = self._trace()
        joint = None if trace.joint is None else trace.joint[list(self._layers)]
        pairs = None
        if self._options.wants_pairs or self._options.search == "pairs":
            self._tell("pairs of layers")
            pairs = score_pairs(self._search, singles)
        scores = Scores(singles=singles, joint_js=joint, pairs=pairs)
        self._tell(f"search ({self._options.search})")
        chosen = choose(self._options.search, self._search, sizes, scores)
        self._tell("random placements and baselines")
        compared = {size: self._compare(chosen[size].kept, trace) for size in sizes}
        self._tell("the curve over the number kept")
        ratio = self._measure_ratio(chosen, scores) if self._options.wants_ratio else None
        self._tell("judgement")
        judged = self._judge([chosen[size].kept for size in sizes])
        return Found(
            singles=describe_singles(self._search, self._layers, singles, joint_js=joint),
            pairs=pairs,
            placements={
                size: self._placement(chosen[size], compared[size], judgement)
                for size, judgement in zip(sizes, judged, strict=True)
            },
            baselines={size: compared[size].baselines for size in sizes},
            published={size: self._published(chosen[size].kept) for size in sizes},
            ratio=ratio,
            notes=trace.notes,
        )

    def _compare(self, kept: Kept, trace: JointTrace) -> Compared:
        others = name_others(
            self._layers,
            len(kept),
            trace,
            facts=self._facts,
            options=self._options,
        )
        return compare(self._compared, kept, others, seed=self._options.seed)

    def _placement(self, chosen: Chosen, compared: Compared, judgement: Judgement) -> Placement:
        placement = Placement(
            layers=chosen.kept,
            substitute=self._options.substitute,
            n_layers=self._facts.n_layers,
            placeable=self._layers,
            model=self._facts.name,
            chosen_by=chosen.chosen_by,
            judgement=judgement,
            objective=compared.objective,
            compared_kl_nats=compared.kl_nats,
            kv_cache_share=None if self._facts.cache_share is None else self._facts.cache_share(chosen.kept),
            notes=chosen.notes,
        )
        standing = compared.standing
        if standing is None:
            return placement
        return replace(
            placement,
            percentile=standing.percentile,
            percentile_interval=standing.interval,
            n_random=standing.n_others,
            verdict=standing.verdict,
            below_best_nats=standing.below_best_nats,
            below_best_interval=standing.below_best_interval,
            notes=(*chosen.notes, *_notes_on_standing(compared)),
        )

    def _published(self, kept: Kept) -> tuple[PublishedMatch, ...]:
        if not self._options.against_published:
            return ()
        return compare_with_published(
            kept, model=self._facts.name, n_layers=self._facts.n_layers, placeable=self._layers
        )

    def _measure_ratio(self, chosen: Mapping[int, Chosen], scores: Scores) -> Ratio:
        """The held-out objective against the number kept: the advised placements, and those on the search's way."""
        n = len(self._layers)
        on_the_way = self._ways(max(chosen), scores)
        sizes = sorted({*chosen, *(size for size in (*_RATIO_SIZES, n) if size <= n and size in on_the_way)})
        placements = [chosen[size].kept if size in chosen else on_the_way[size] for size in sizes]
        knee, interval, note = knee_with_interval(sizes, self._held_out.row_kl(placements), seed=self._options.seed)
        return Ratio(
            n_kept=tuple(sizes),
            judgements=tuple(self._judge(placements)),
            knee=knee,
            knee_interval=interval,
            note=note,
        )

    def _ways(self, most: int, scores: Scores) -> dict[int, Kept]:
        """A placement of other sizes than those asked for: the better of the greedy ends, or the largest singles."""
        n = len(self._layers)
        if self._options.search not in ("greedy", "exact"):
            values = scores.singles.removed
            if self._options.search == "joint_js" and scores.joint_js is not None:
                values = np.nan_to_num(scores.joint_js, nan=-np.inf)
            return {size: largest(values, self._layers, size) for size in range(n + 1)}
        up, down = greedy_paths(self._search, self._layers, least=1, most=most)
        found: dict[int, Kept] = {}
        for size in range(n + 1):
            ends = [path.kept[size] for path in (up, down) if size in path.kept]
            found[size] = best_of(self._search, ends)
        return found


def _notes_on_standing(compared: Compared) -> tuple[str, ...]:
    """What must be said of where a placement stands."""
    standing = compared.standing
    assert standing is not None  # asked for where there is one
    if standing.interval is None:
        return ("Rows are too few to say where it stands among random placements: give more text or prompts.",)
    interval = standing.below_best_interval
    if interval is not None and interval.low <= 0.0 < standing.below_best_nats:
        return ("Better than every random placement on these rows; on others one of them may be as good: undecided.",)
    return ()
