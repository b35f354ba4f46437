"""What design advice consists of.

Numbers of judgement are of held-out rows, which no search saw. KL divergences are KL(full ‖ placed) in nats, means over
rows and over the positions that are read, all of which lie at or beyond what a window sees.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from layertracer._types import Interval
from layertracer._types.substitutes import Substitute
from layertracer.advice._role_records import Divisions, Gates

Search = Literal["greedy", "singles", "joint_js", "pairs", "exact"]
"""How placements are chosen."""

Verdict = Literal["better", "undecided", "worse"]
"""A placement beside others of its size: better or worse than chance, or not to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Share of a task's prompts whose answer is the top token, position by position, of the placed model.

    Attributes:
        share: The share, in [0, 1].
        interval: Interval of the share.
        full_share: The full model's share on the same prompts.
        n_prompts: How many prompts.
        kl_nats: KL(full ‖ placed) at the answer's positions.
        kl_interval: Its interval, over prompts; None where they are too few.
    """

    share: float
    interval: Interval
    full_share: float
    n_prompts: int
    kl_nats: float
    kl_interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a placement costs, on held-out rows.

    Attributes:
        kept: Layers that keep their mixer, ascending.
        kl_nats: KL(full ‖ placed), mean over text rows and positions; NaN where there is no text.
        kl_interval: Its interval, resampling rows; None where they are too few.
        nll_change: Change of the text's own negative log-likelihood, in nats a token; NaN where there is no text.
        nll_interval: Its interval; None likewise.
        accuracy: By task.
        n_rows: Rows of text.
        n_positions: Positions that were read in them, together.
    """

    kept: tuple[int, ...]
    kl_nats: float
    kl_interval: Interval | None
    nll_change: float
    nll_interval: Interval | None
    accuracy: Mapping[str, Accuracy]
    n_rows: int
    n_positions: int

    @property
    def objective(self) -> float:
        """What placements are compared by: KL of text plus mean KL of tasks, of what there is of both."""
        parts = [] if np.isnan(self.kl_nats) else [self.kl_nats]
        if self.accuracy:
            parts.append(float(np.mean([one.kl_nats for one in self.accuracy.values()])))
        return float(np.sum(parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which layers keep their mixer, chosen by a search, and what that costs.

    Attributes:
        layers: Kept, ascending.
        substitute: What stands in the other layers.
        n_layers: Layers of the model.
        placeable: Layers whose mixer could be substituted.
        model: Name of the model.
        chosen_by: The search that chose it.
        judgement: What it costs, on held-out rows; None where it was not judged.
        percentile: Share of random placements of the same size whose objective is lower (ties by half), in percent: 0
            is better than all; None where there are none to compare with.
        percentile_interval: Its interval.
        n_random: How many random placements that is of.
        verdict: Beside them.
        objective: Its objective on the compared rows: those held-out ones on which the random ones were measured too.
        compared_kl_nats: KL(full ‖ placed) of text on the compared rows; NaN where there is no text.
        below_best_nats: The best random one's objective less its own, on the compared rows: positive where it is better
            than all of them; None where there are none.
        below_best_interval: Its interval, resampling rows in pairs; None where they are too few.
        kv_cache_share: Share of the full model's KV cache that it keeps at the context that was asked about; None where
            none was, or it is not known.
        notes: What must be said of it.
        config: What is pasted into the model's configuration to say the same; None where nothing does, or nobody asked.
        linear_config: What is pasted into a configuration of flash-linear-attention for the hybrid that is to be
            trained: attention in these layers, linear mixers elsewhere; None where heads are unknown, or nobody asked.
    """

    layers: tuple[int, ...]
    substitute: Substitute
    n_layers: int
    placeable: tuple[int, ...]
    model: str
    chosen_by: str
    judgement: Judgement | None = None
    percentile: float | None = None
    percentile_interval: Interval | None = None
    n_random: int = 0
    verdict: Verdict = "undecided"
    objective: float = float("nan")
    compared_kl_nats: float = float("nan")
    below_best_nats: float | None = None
    below_best_interval: Interval | None = None
    kv_cache_share: float | None = None
    notes: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = None
    linear_config: Mapping[str, Any] | None = None

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the placement to a file of JSON that `load_placement` and anybody's script can read.

        Args:
            path: The file.
            overwrite: Whether a file that lies there is replaced.

        Returns:
            The file.

        Raises:
            RunError: If something lies there that may not be replaced, or the disk refuses.
        """
        from layertracer.advice._placements import save_placement

        return save_placement(self, Path(path), overwrite=overwrite)

    @property
    def kl_nats(self) -> float:
        """KL(full ‖ placed) of held-out text; NaN where it was not judged."""
        return float("nan") if self.judgement is None else self.judgement.kl_nats

    @property
    def kl_interval(self) -> Interval | None:
        """Its interval."""
        return None if self.judgement is None else self.judgement.kl_interval

    @property
    def accuracy(self) -> Mapping[str, Accuracy]:
        """By task."""
        return {} if self.judgement is None else self.judgement.accuracy


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Singles:
    """What single layers are worth, on the rows of the search. Arrays have one entry a placeable layer.

    Attributes:
        layers: The placeable layers.
        removed_kl_nats: By kind of rows ("text", a task's name): KL when that layer alone is substituted.
        restored_kl_nats: By kind: KL when that layer alone is kept.
        removed_accuracy: By task: share solved when that layer alone is substituted.
        restored_accuracy: By task: when that layer alone is kept.
        all_kl_nats: By kind: KL when all are substituted.
        joint_js: JS divergences of a trace at mixer_output and state, each divided by its largest, added; None where it
            was not measured.
        rank_agreement: Spearman's correlation between the two directions; NaN where one is constant.
    """

    layers: tuple[int, ...]
    removed_kl_nats: Mapping[str, Float64[np.ndarray, " placeable"]]
    restored_kl_nats: Mapping[str, Float64[np.ndarray, " placeable"]]
    removed_accuracy: Mapping[str, Float64[np.ndarray, " placeable"]]
    restored_accuracy: Mapping[str, Float64[np.ndarray, " placeable"]]
    all_kl_nats: Mapping[str, float]
    joint_js: Float64[np.ndarray, " placeable"] | None
    rank_agreement: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """What two layers lose together less what each loses alone, on the rows of the search.

    Attributes:
        layers: The placeable layers.
        kl_nats: Objective when two are substituted, symmetric; the diagonal is of single ones.
        interaction: kl_nats less the sum of the single ones; the diagonal is 0.
    """

    layers: tuple[int, ...]
    kl_nats: Float64[np.ndarray, "placeable placeable"]
    interaction: Float64[np.ndarray, "placeable placeable"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Baseline:
    """Placements that nobody searched for, of one size.

    Attributes:
        name: "uniform", "random", "most_vulnerable", "around_particle" or "published".
        placements: The layers kept, one tuple each.
        objective: Of each, on the compared rows.
        kl_nats: KL(full ‖ placed) of text of each, on the compared rows; NaN where there is no text.
        percentile: Of a single one among the random ones; of several the best one's; None for "random" itself.
        note: Where it comes from, or why there is none.
    """

    name: str
    placements: tuple[tuple[int, ...], ...]
    objective: Float64[np.ndarray, " placement"]
    kl_nats: Float64[np.ndarray, " placement"]
    percentile: float | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedMatch:
    """A published list beside the advised placement of the same model and size.

    Attributes:
        selector: How its authors chose.
        source: Where it stands.
        layers: The list.
        overlap: Layers in both.
        expected: Overlap by chance.
        p: Hypergeometric: so large an overlap or larger, by chance.
        p_spaced: The same among placements that keep the list's spacing, shifted.
        p_holm: p after Holm's correction over the lists.
    """

    selector: str
    source: str
    layers: tuple[int, ...]
    overlap: int
    expected: float
    p: float
    p_spaced: float
    p_holm: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ratio:
    """What it costs to keep fewer layers.

    Attributes:
        n_kept: Numbers of layers kept, ascending.
        judgements: One for each.
        knee: Number at which the curve bends: each layer more lowers the objective by less from there on than before;
            None where it does not bend.
        knee_interval: Its interval, resampling rows; None where it cannot be told.
        note: What must be said of it.
    """

    n_kept: tuple[int, ...]
    judgements: tuple[Judgement, ...]
    knee: int | None
    knee_interval: Interval | None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluations:
    """What the advice rests on.

    Attributes:
        n_search_rows: By kind of rows, those that the search saw.
        n_held_out_rows: By kind, those that judged.
        n_compared_rows: By kind, those of the held-out ones on which placements were compared with random ones.
        n_evaluations: Placements measured, on rows of either.
        audit_cells: How many were measured again the plain way.
        audit_worst_nats: The largest difference; NaN where none was.
        cpu_s: CPU seconds.
        notes: What must be said: where the text is from, what was left out.
    """

    n_search_rows: Mapping[str, int]
    n_held_out_rows: Mapping[str, int]
    n_evaluations: int
    audit_cells: int
    audit_worst_nats: float
    cpu_s: float
    notes: tuple[str, ...] = ()
    n_compared_rows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class AdviceRecord:
    """Everything that one call of `design` found.

    Attributes:
        model: What is known of the model: name, n_layers, mixers of its layers, fingerprint, as in a trace's record.
        substitute: What stands in the layers that are not kept.
        search: How placements were chosen.
        seed: The seed.
        singles: Single layers.
        pairs: Pairs of them, where asked for.
        placements: Advised, by how many layers are kept.
        baselines: By how many are kept, by name.
        published: Published lists beside them, by how many are kept.
        ratio: What it costs to keep fewer; None where not measured.
        divisions: Regions of layers; None where not measured.
        gates: What gates would gain; None where not measured.
        snippets: By how many are kept: configuration to paste, or None, see `snippet_reason`.
        snippet_reason: Why there is no snippet; "" where there is one.
        evaluations: What all rests on.
        provenance: As in a trace's record.
        spec: What was asked, as JSON values.
        notes: What must be said.
    """

    model: Mapping[str, Any]
    substitute: Substitute
    search: str
    seed: int
    singles: Singles
    pairs: Pairs | None
    placements: Mapping[int, Placement]
    baselines: Mapping[int, Mapping[str, Baseline]]
    published: Mapping[int, tuple[PublishedMatch, ...]]
    ratio: Ratio | None
    divisions: Divisions | None
    gates: Gates | None
    snippets: Mapping[int, Mapping[str, Any] | None]
    snippet_reason: str
    evaluations: Evaluations
    provenance: Mapping[str, Any]
    spec: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())
