"""Audit of a trace: some of its own cells measured once more, the plain way, and held against it.

One prompt alone, one forward of the model's own code, one hook or none. A clean forward holds all of a prompt's lens
rows against the trace, a perturbed one a cell. What differs by more than rounding explains is a disagreement; whoever
runs the trace then goes on by a slower way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layertracer._types import Audit
from layertracer.models import Network, is_out_of_memory
from layertracer.tracing._batching.prompts import Prompt, bind_batch
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._distributions.readout_statistics import LensStatistics, measure_lens
from layertracer.tracing._distributions.reduction import Reduction
from layertracer.tracing._distributions.row_measures import ROW_MEASURES, FollowedRows, measure_distributions
from layertracer.tracing._lenses.protocol import Lens, translated_stream
from layertracer.tracing._observers.protocol import Observer
from layertracer.tracing._passes.batch_passes import BatchPasses
from layertracer.tracing._passes.measure import others_of
from layertracer.tracing._passes.plain import PlainEdits, plain_readout
from layertracer.tracing._planning.audit_cells import AuditPlan, Variant
from layertracer.tracing._planning.workload import Workload
from layertracer.tracing._proofs.alone import Disagreement, MeasuresAlone, own_logits, watched_alone
from layertracer.tracing._proofs.rounding import (
    MOST_READOUT,
    MOST_ROUNDING,
    RELATIVE_NATS,
    eps_of,
    jitters_allowed,
    nats_tolerance,
    rounding_moves,
)
from layertracer.tracing._readings import Readings

_BITS_TOLERANCE = 5e-5
_LIKELY = 1e-6


@dataclass(slots=True, kw_only=True)
class Auditor:
    """The audit of one trace by one way.

    Attributes:
        network: The model.
        work: What is done to the prompts.
        readings: What the trace has measured.
        reduction: How rows become numbers.
        passes: What is done to which rows.
        plan: What is measured again.
        lenses: Lenses beside the logit lens.
    """

    network: Network
    work: Workload
    readings: Readings
    reduction: Reduction
    passes: BatchPasses
    plan: AuditPlan
    lenses: Sequence[Lens] = ()
    _n_cells: int = field(init=False, default=0)
    _n_forwards: int = field(init=False, default=0)
    _nats: list[float] = field(init=False, default_factory=list)
    _bits: list[float] = field(init=False, default_factory=list)
    _rounded: int = field(init=False, default=0)
    _notes: list[str] = field(init=False, default_factory=list)
    _looked_at: set[int] = field(init=False, default_factory=set)
    _first: Prompt | None = field(init=False, default=None)
    _n_batches: int = field(init=False, default=0)

    def look_at(self, batch: Sequence[Prompt]) -> None:
        """Measure again what was chosen of a batch whose numbers are kept.

        Raises:
            Disagreement: If something differs by more than rounding explains.
        """
        self._first = self._first or batch[0]
        self._n_batches += 1
        for prompt in batch:
            if prompt.index in self.plan.looks:
                self._look(prompt, self.plan.looks[prompt.index], batch)

    def look_back(self) -> None:
        """Measure the first prompt again in the end: a model must not have changed on the way.

        Raises:
            Disagreement: If it has.
        """
        is_alone = self._first is not None and self._n_batches == 1 and self._first.index in self.plan.looks
        if self._first is not None and not is_alone and self.plan.share:
            self._look(self._first, (), [self._first])

    def result(self, notes: Sequence[str] = ()) -> Audit:
        """What was found so far."""
        found = [*notes, *self._notes]
        if not self.plan.share:
            found.append("Nothing was measured again: the audit was turned off.")
        if self._rounded:
            found.append(
                f"{self._rounded} cells differ by more than usual, and no more than rounding explains: the model's "
                "numbers move as much when its embeddings are rounded otherwise."
            )
        return Audit(
            share=self.plan.share,
            n_cells=self._n_cells,
            n_forwards=self._n_forwards,
            # A trace that ended before states no bound: which of those drawn it came to is no matter of chance.
            n_drawn=self.plan.n_drawn if self._looked_at >= set(self.plan.looks) else 0,
            worst_nats=max(self._nats, default=None),
            worst_bits=max(self._bits, default=None),
            notes=tuple(found),
        )

    def _look(self, prompt: Prompt, variants: Sequence[Variant], batch: Sequence[Prompt]) -> None:
        try:
            first = batch.index(prompt) // self.work.batch_multiple * self.work.batch_multiple
            partners = batch[first : first + self.work.batch_multiple]
            alone = _Alone(audit=self, prompt=prompt, partners=partners)
            self._compare_clean(alone)
            for variant in variants:
                self._compare_perturbed(alone, variant)
            self._looked_at.add(prompt.index)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._notes.append(f"Sample {prompt.index} could not be measured again: memory ran out.")

    def _compare_clean(self, alone: _Alone) -> None:
        differences = alone.lens_differences()
        self._n_forwards += 1
        self._n_cells += len(differences)
        self._nats.append(float(differences.max()))
        allowed = nats_tolerance(self.network) + RELATIVE_NATS * np.abs(alone.stored)
        wrong = np.flatnonzero(~(differences <= len(alone.prompt.read) * allowed))
        self._compare_readout(alone)
        if not len(wrong) or self._is_rounding(alone.lens_moves, differences, most=MOST_ROUNDING * allowed):
            return
        number, row = divmod(int(wrong[-1]), self._n_lens_rows)
        where = "from the embeddings" if row == 0 else f"after layer {row - 1}"
        where += f" by the lens {self.lenses[number - 1].name!r}" if number else ""
        raise Disagreement(
            f"sample {alone.prompt.index} read {where} had a log-probability of {alone.stored[wrong[-1]]:.4g} nats "
            f"beside others and {alone.plain[wrong[-1]]:.4g} when it was measured again alone"
        )

    def _compare_perturbed(self, alone: _Alone, variant: Variant) -> None:
        layer, draw = variant
        stored, plain = alone.stored_rows(variant), alone.rows(variant)
        differences = _difference(stored, plain)
        self._n_forwards += 1
        self._n_cells += 1
        for name, difference in zip(alone.audited, differences.tolist(), strict=True):
            (self._bits if name == "js_bits" else self._nats).append(difference)
        nats = len(alone.prompt.read) * (nats_tolerance(self.network) + RELATIVE_NATS * np.abs(stored))
        bits = max(_BITS_TOLERANCE, eps_of(self.network))
        tolerances = np.where([name == "js_bits" for name in alone.audited], bits, nats)
        wrong = np.flatnonzero(~(differences <= tolerances))
        if not len(wrong) or self._is_rounding(
            lambda: alone.row_moves(variant), differences, most=MOST_ROUNDING * tolerances
        ):
            return
        found = ROW_MEASURES[alone.audited[int(wrong[0])]].info
        what = "a JS divergence" if found.name == "js_bits" else f"a {found.name}"
        raise Disagreement(
            f"sample {alone.prompt.index} perturbed at layer {layer} by draw {draw} had {what} of "
            f"{stored[wrong[0]]:.4g} {found.unit} beside others and {plain[wrong[0]]:.4g} when it was measured again "
            "alone"
        )

    def _compare_readout(self, alone: _Alone) -> None:
        """Each lens's row after the first layer against the model with all later ones bypassed, where it was chosen."""
        if alone.prompt.index not in self.plan.readouts or self.work.method == "plain":
            return
        for number, lens in enumerate((None, *self.lenses)):
            read, stored = alone.by_bypassing(0, lens), float(alone.stored[number * self._n_lens_rows + 1])
            self._n_forwards += 1
            self._n_cells += 1
            self._nats.append(abs(read - stored))
            allowed = nats_tolerance(self.network) + RELATIVE_NATS * abs(stored)
            if not self._nats[-1] <= MOST_READOUT * len(alone.prompt.read) * allowed:
                by = "" if lens is None else f" by the lens {lens.name!r}"
                raise Disagreement(
                    f"sample {alone.prompt.index} read after layer 0{by} had a log-probability of {stored:.4g} nats, "
                    f"and {read:.4g} out of the model with its later layers bypassed"
                )

    @property
    def _n_lens_rows(self) -> int:
        """Rows that each lens reads."""
        return 1 + self.network.anatomy.n_layers

    def _is_rounding(self, moves: Callable[[], Iterator[Any]], differences: Any, *, most: Any) -> bool:
        """Whether differences are no larger than what the model's own numbers do with embeddings rounded otherwise."""
        if not np.all(differences <= most):
            return False
        largest = np.max(np.stack(list(moves())), axis=0)
        is_rounding = bool(np.all(differences <= jitters_allowed(self.network) * largest))
        self._rounded += is_rounding
        return is_rounding


@dataclass(slots=True, kw_only=True)
class _Alone:
    """One prompt run alone, whole, without a cache; beside its partner where what is done to it asks for that."""

    audit: Auditor
    prompt: Prompt
    partners: Sequence[Prompt]
    network: Network = field(init=False)
    stored: Any = field(init=False)
    plain: Any = field(init=False)
    _ids: Tensor = field(init=False)
    _own: Tensor = field(init=False)
    _lens: LensStatistics = field(init=False)

    def __post_init__(self) -> None:
        """Run it clean."""
        self.network, self._ids = bind_batch(self.audit.network, [self.prompt])
        read = self.audit.readings.lenses.values()
        self.stored = np.concatenate([one.log_prob[self.prompt.index] for one in read])
        kept = self.audit.readings.measures
        measures = MeasuresAlone([one.name for one in self.audit.passes.observers if one.name in kept])
        self.plain, self._own, self._lens = self._clean(measures.observers)
        stored = {name: values[self.prompt.index] for name, values in kept.items()}
        measures.compare(stored, network=self.network, sample=self.prompt.index)

    def lens_differences(self) -> Any:
        """How far the trace is from it, nats: in the target, and in what the logit lens finds most probable.

        [lens × (1 + layer)], the logit lens first.
        """
        differences = _difference(self.stored, self.plain)
        readings, lens, n_layers = self.audit.readings.logit, self._lens, self._n_layers
        top = readings.top_prob[self.prompt.index].astype(np.float64)
        # The k-th largest, whichever tokens they are: equally probable ones have no order.
        mine = lens.top_log_prob[0, 0, :, : top.shape[1]].double().exp().cpu().numpy()
        after = slice(1, 1 + n_layers)
        differences[after] = np.maximum(differences[after], np.abs(mine[1:] - top).max(axis=1))
        likely = top[-1] > _LIKELY
        if likely.any():
            own = self._own[0, 0].cpu()[readings.top_ids[self.prompt.index, -1].astype(np.int64)].double().numpy()
            most = np.abs(own[likely] - np.log(top[-1][likely])).max()
            differences[n_layers] = max(differences[n_layers], most)
        return differences

    def lens_moves(self) -> Iterator[Any]:
        """How far it is from itself when its embeddings are rounded otherwise, [lens × (1 + layer)]."""
        for _ in rounding_moves(self.network):
            yield _difference(self._clean()[0], self.plain)

    def by_bypassing(self, layer: int, lens: Lens | None) -> float:
        """Log-probability of what is followed, out of the whole model with all layers after one bypassed."""
        targets, others = self._followed()
        logits = plain_readout(self.network, self._ids, read=self.prompt.read, layer=layer, lens=lens)
        return float(measure_lens(logits, targets, n_top=1, others=others).log_prob.double().sum())

    def _followed(self) -> FollowedRows:
        """Tokens that are followed [1, read], and others that count as well."""
        followed, device = self.audit.readings.target_ids[self.prompt.index], self._ids.device
        return FollowedRows(torch.tensor([followed], device=device), others_of([self.prompt], device))

    @property
    def audited(self) -> list[str]:
        """The row measures that are held against the trace: divergences and log-probabilities."""
        return [
            name for name in self.audit.readings.rows if name == "js_bits" or ROW_MEASURES[name].info.unit == "nats"
        ]

    def stored_rows(self, variant: Variant) -> Any:
        """The trace's row measures of a perturbed copy, [measure]."""
        layer, draw = variant
        rows = self.audit.readings.rows
        return np.array([float(rows[name][self.prompt.index, draw, layer]) for name in self.audited])

    def rows(self, variant: Variant) -> Any:
        """Row measures of a perturbed copy, [measure]."""
        return self._rows(variant, self._own)

    def row_moves(self, variant: Variant) -> Iterator[Any]:
        """How far they are from themselves when the embeddings are rounded otherwise."""
        usual = self.rows(variant)
        for _ in rounding_moves(self.network):
            own = log_probs_of(own_logits(self.network, self._ids, self.prompt.read))
            yield _difference(self._rows(variant, own), usual)

    def _rows(self, variant: Variant, own: Tensor) -> Any:
        read, work = self.prompt.read, self.audit.work
        if variant in work.in_state:
            assert work.state is not None  # its cells are
            found = work.state.measure(
                self._ids, [self.prompt], self._lens, cells=[variant], n_variants=1, followed=self._followed()
            )[variant]
            return np.array([float(found[name]) for name in self.audited])
        network, ids = bind_batch(self.audit.network, self.partners)
        edits = PlainEdits(
            perturbers=self.audit.passes.at(network, ids, read),
            edits=[self.audit.passes.draws.edit(*variant)],
            prompts=tuple(partner.index for partner in self.partners),
        )
        with edits.made_in(network.anatomy.layers):
            perturbed = log_probs_of(own_logits(network, ids, read))
        perturbed = perturbed.narrow(0, self.partners.index(self.prompt), 1)
        found = measure_distributions(perturbed, own, self._followed())
        return np.array([float(found[name]) for name in self.audited])

    def _clean(self, observers: Sequence[Observer] = ()) -> tuple[Any, Tensor, LensStatistics]:
        """Log-probabilities of what is followed [lens × (1 + layer)], the model's distribution, and its readouts."""
        read, ids, lenses = self.prompt.read, self._ids, self.audit.lenses
        targets, others = self._followed()
        n_top = self.audit.readings.logit.top_ids.shape[2]
        if self.audit.work.method == "plain":
            logits = own_logits(self.network, ids, read)
            found = [self._plain_readouts(None, n_top), *(self._plain_readouts(one, 1) for one in lenses)]
        else:
            logits, rows = watched_alone(self.network, ids, read, observers=observers)
            found = [self.audit.reduction.lens(rows, targets, n_top=n_top, others=others)]
            for one in lenses:
                translated = torch.cat([translated_stream(one, rows), rows[:, :, -1:]], dim=2)
                found.append(self.audit.reduction.lens(translated, targets, n_top=1, others=others))
        log_probs = [one.log_prob[0].double().sum(dim=0).cpu().numpy() for one in found]
        # After the last layer it is what the model itself says, not what its tail makes of a single token.
        last = float(measure_lens(logits, targets, n_top=1, others=others).log_prob.double().sum())
        for numbers in log_probs:
            numbers[-1] = last
        return np.concatenate(log_probs), log_probs_of(logits), found[0]

    def _plain_readouts(self, lens: Lens | None, n_top: int) -> LensStatistics:
        """What a lens reads, one forward a layer."""
        targets, others = self._followed()
        readouts = [
            plain_readout(self.network, self._ids, read=self.prompt.read, layer=layer, lens=lens)
            for layer in range(-1, self._n_layers)
        ]
        parts = [measure_lens(one, targets, n_top=n_top, others=others) for one in readouts]
        return LensStatistics.stacked(parts, dim=2)

    @property
    def _n_layers(self) -> int:
        return self.network.anatomy.n_layers


def _difference(one: Any, other: Any) -> Any:
    """Largest absolute difference, 0 where both are the same infinity, in float64."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(one == other, 0.0, np.abs(one - other))
