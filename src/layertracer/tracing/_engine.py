"""Prompts in, numbers out: passes of the ladder or the plain method, as many prompts at a time as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from layertracer._errors import OutOfMemoryError
from layertracer._types import Method
from layertracer.models import Network, is_out_of_memory
from layertracer.tracing._batches import run_batches
from layertracer.tracing._climber import Before, Climber
from layertracer.tracing._measure import Measured, measure_plain, measure_rows
from layertracer.tracing._memory import PassPlan, plan_pass, row_bytes
from layertracer.tracing._prefixes import PrefixNode
from layertracer.tracing._prompts import Prompt, bind_batch, bucket_prompts
from layertracer.tracing._readings import Progress, Readings
from layertracer.tracing._reduce import Reduction
from layertracer.tracing._site_layers import layers_with
from layertracer.tracing._site_values import SiteSums
from layertracer.tracing._spot_check import find_disagreement
from layertracer.tracing._state import StatePass
from layertracer.tracing._tail import Tail

_LOGITS_BYTES = 256 * 2**20
"""Largest chunk of logits; larger ones are no faster."""

_MEMORY_COPIES = 4
"""How often a row's memory of a layer is there at the busiest moment: given to the row, with its own tokens added, and
its heads repeated for keys and values."""


class _NotTheSame(Exception):  # noqa: N818 - not an error: it says that prompts are to be traced without sharing
    """A prompt after a shared prefix does not give what it gives alone."""


@dataclass(slots=True, kw_only=True)
class Engine:
    """One model, one perturbation, one memory budget.

    Attributes:
        climber: What is done to which rows.
        n_draws: Number of draws.
        method: "ladder" or "plain".
        row_by_row: Whether prompts must run one at a time.
        budget_bytes: Memory that a pass may take.
        readings: Where the numbers go; what was finished before an error stays there.
        state: What is done to the layers' memory; None where nothing is.
        sums: Where what stands at the site in clean rows is summed; None where nobody asks.
        on_progress: Called after every batch.
        notes: What a user should know of how it went.
    """

    climber: Climber
    n_draws: int
    method: Method
    row_by_row: bool
    budget_bytes: int
    readings: Readings
    state: StatePass | None = None
    sums: SiteSums | None = None
    on_progress: Callable[[Progress], None] | None = None
    notes: list[str] = field(default_factory=list)
    _checked_length: int = field(default=0, init=False)

    @property
    def network(self) -> Network:
        """The model."""
        return self.climber.network

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are perturbed: those that have the perturbation's site."""
        if self.state is not None:
            return self.state.site.layers
        assert self.climber.perturber is not None  # there is one or the other
        return layers_with(self.climber.perturber.site, self.network)

    def run(self, root: PrefixNode) -> None:
        """Measure all prompts.

        Args:
            root: The prompts, grouped by what they have in common.

        Raises:
            NonFiniteError: If the model's output is NaN for a prompt.
            OutOfMemoryError: If not even one prompt with one perturbed copy fits.
        """
        with torch.inference_mode():
            self._run_or_else_alone(partial(self._run_prompts, root.prompts, Before()), root.prompts)
            for node in root.children:
                prompts = [prompt for one in node.nodes() for prompt in one.prompts]
                self._run_or_else_alone(partial(self._run_group, node), prompts)

    def _run_or_else_alone(self, run: Callable[[], None], prompts: Sequence[Prompt]) -> None:
        """Some prompts, going on from what the model remembers; without that where it does not work out."""
        try:
            run()
        except Exception as error:
            climber = self.climber
            expected = isinstance(error, _NotTheSame | OutOfMemoryError) or is_out_of_memory(error)
            if climber.cached is None or not expected:
                raise
            reason = str(error) if isinstance(error, _NotTheSame) else "memory ran out"
        else:
            return
        left = [prompt for prompt in prompts if not self.readings.finished[prompt.index]]
        self.notes.append(f"{len(left)} prompts were traced without the model's own cache: {reason}.")
        self.climber = replace(climber, cached=None)
        self._run_prompts(left, Before())
        self.climber = climber

    def _run_group(self, node: PrefixNode) -> None:
        """Prompts that have a prefix in common."""
        longest = max(one.end - one.start for one in node.nodes())
        rows = row_bytes(self.network, longest)
        plan = plan_pass(rows, n_variants=self.n_draws * len(self.layers), n_prompts=1, budget_bytes=self.budget_bytes)
        self._run_node(node, Before(passes=plan.passes(layers=self.layers, n_draws=self.n_draws)))

    def _run_node(self, node: PrefixNode, before: Before) -> None:
        ids = torch.tensor([node.first.ids[node.start : node.end]], device=self.network.device)
        before = self.climber.read(ids, before)
        self._run_prompts(node.prompts, before)
        for child in node.children:
            self._run_node(child, before)

    def _run_prompts(self, prompts: Sequence[Prompt], before: Before) -> None:
        """Prompts of any lengths; out of memory halves the batch, then the variants of a pass, and goes on."""
        for bucket in bucket_prompts(prompts):
            plan = self._plan(bucket, before)
            for _ in run_batches(self.network, bucket, plan, partial(self._run_batch, before=before)):
                if self.on_progress is not None:
                    done = self.readings.finished
                    self.on_progress(Progress(done=int(done.sum()), total=len(done)))

    def _plan(self, bucket: Sequence[Prompt], before: Before) -> PassPlan:
        length, n_prompts = len(bucket[0].ids), 1 if self.row_by_row else len(bucket)
        if self.state is not None:
            n_read = len(bucket[0].read)
            return self.state.plan(length=length, n_read=n_read, n_prompts=n_prompts, budget_bytes=self.budget_bytes)
        if before.memories:
            rows = row_bytes(self.network, length - before.n_tokens) + self._memory_bytes(length)
            n_variants = max(sum(map(len, variants.values())) for variants in before.passes)
            plan = plan_pass(rows, n_variants=n_variants, n_prompts=n_prompts, budget_bytes=self.budget_bytes)
            return replace(plan, n_variants=1)  # the passes are given: only prompts can be fewer
        rows = row_bytes(self.network, length)
        n_variants = self.n_draws * len(self.layers)
        return plan_pass(rows, n_variants=n_variants, n_prompts=n_prompts, budget_bytes=self.budget_bytes)

    def _memory_bytes(self, length: int) -> int:
        """What one row's memory of one layer takes at the busiest moment."""
        assert self.climber.cached is not None  # something was read before
        n_layers = self.network.anatomy.n_layers
        return _MEMORY_COPIES * self.climber.cached.state.row_bytes(length) // n_layers

    def _run_batch(self, batch: Sequence[Prompt], plan: PassPlan, *, before: Before) -> None:
        network, ids = bind_batch(self.network, batch)
        anatomy, read = network.anatomy, batch[0].read
        sums = None if self.sums is None else SiteSums(anatomy.n_layers, anatomy.d_model)
        if not before.passes:
            n_draws = 0 if self.climber.perturber is None else self.n_draws
            before = Before(passes=plan.passes(layers=self.layers, n_draws=n_draws))
        if self.method == "ladder":
            rows = self.climber.climb(network, ids, read=read, before=before, sums=sums)
            measured = measure_rows(rows, batch, ids, reduction=self._reduction(plan))
            self._check_spot(network, ids, measured, read=read, before=before)
        else:
            variants = [(layer, draw) for layer in self.layers for draw in range(self.n_draws)]
            perturber = self.climber.at(network, ids, read)
            measured = measure_plain(network, ids, batch, perturber=perturber, variants=variants)
        js = measured.js
        if self.state is not None:
            js = self.state.measure(ids, batch, measured.lens, n_variants=plan.n_variants)
        self._keep(batch, measured, js)
        if self.sums is not None and sums is not None:
            self.sums.add(sums)

    def _check_spot(
        self, network: Network, ids: Tensor, measured: Measured, *, read: Sequence[int], before: Before
    ) -> None:
        """The first prompt after a memory longer than any before it must give what it gives in one piece.

        Raises:
            _NotTheSame: If it does not.
        """
        remembered = before.n_tokens or (self.climber.last_only and self.climber.cached is not None and read[0])
        if remembered <= self._checked_length:
            return
        perturber = self.climber.at(network, ids, read)
        found = find_disagreement(network, ids, measured, read=read, perturber=perturber)
        if found is not None:
            raise _NotTheSame(found)
        self._checked_length = remembered

    def _keep(self, batch: Sequence[Prompt], measured: Measured, js: dict[tuple[int, int], Tensor]) -> None:
        layers = self.layers
        js_bits = torch.zeros(len(batch), self.n_draws, len(layers), device=measured.lens.log_prob.device)
        for (layer, draw), bits in js.items():
            js_bits[:, draw, layers.index(layer)] = bits
        self.readings.keep(batch, measured.lens, js_bits, layers=layers)

    def _reduction(self, plan: PassPlan) -> Reduction:
        """Half of the budget and more for logits, made when the pass itself has ended; less after a shortage."""
        chunk_bytes = min(self.budget_bytes * 5 // 8, _LOGITS_BYTES) // plan.shortage
        return Reduction(Tail(self.network), d_vocab=self.network.anatomy.d_vocab, budget_bytes=chunk_bytes)
