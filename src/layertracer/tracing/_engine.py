"""Prompts in, numbers out: passes of the ladder or the plain method, as many prompts at a time as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layertracer._types import Method
from layertracer.models import Network
from layertracer.tracing._batches import run_batches
from layertracer.tracing._divergence import js_divergence
from layertracer.tracing._ladder import ArgumentAxes, climb
from layertracer.tracing._memory import PassPlan, plan_pass
from layertracer.tracing._perturb import LastPosition, Perturber
from layertracer.tracing._plain import plain_logits, plain_perturbed, plain_readout
from layertracer.tracing._prompts import Prompt, bind_batch, bucket_prompts
from layertracer.tracing._readings import Progress, Readings
from layertracer.tracing._reduce import LensStatistics, Reduction, log_probs_of, measure_lens
from layertracer.tracing._rows import stream_positions
from layertracer.tracing._site_layers import layers_with
from layertracer.tracing._state import StatePass
from layertracer.tracing._tail import Tail

N_TOP = 5
"""How many of the most probable tokens are kept for each prompt and layer."""

_LOGITS_BYTES = 256 * 2**20
"""Largest chunk of logits; larger ones are no faster."""


@dataclass(slots=True, kw_only=True)
class Engine:
    """One model, one perturbation, one memory budget.

    Attributes:
        network: The model.
        axes: Batch axes of its layers' arguments.
        perturber: What is done to its layers; None where nothing is, or their memory is perturbed.
        n_draws: Number of draws.
        last_only: Whether only the prompt's last position is perturbed.
        method: "ladder" or "plain".
        row_by_row: Whether prompts must run one at a time.
        budget_bytes: Memory that a pass may take.
        readings: Where the numbers go; what was finished before an error stays there.
        state: What is done to their memory; None where nothing is.
        on_progress: Called after every batch.
    """

    network: Network
    axes: ArgumentAxes
    perturber: Perturber | None
    n_draws: int
    last_only: bool
    method: Method
    row_by_row: bool
    budget_bytes: int
    readings: Readings
    state: StatePass | None = None
    on_progress: Callable[[Progress], None] | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are perturbed: those that have the perturbation's site."""
        if self.state is not None:
            return self.state.site.layers
        assert self.perturber is not None  # there is one or the other
        return layers_with(self.perturber.site, self.network)

    def run(self, prompts: Sequence[Prompt]) -> None:
        """Measure all prompts.

        Raises:
            NonFiniteError: If the model's output is NaN for a prompt.
            OutOfMemoryError: If not even one prompt with one perturbed copy fits.
        """
        with torch.inference_mode():
            for bucket in bucket_prompts(prompts):
                self._run_bucket(bucket)

    def _run_bucket(self, bucket: Sequence[Prompt]) -> None:
        """Prompts of one length; out of memory halves the batch, then the variants of a pass, and goes on."""
        for _ in run_batches(self.network, bucket, self._plan(bucket), self._run_batch):
            if self.on_progress is not None:
                done = self.readings.finished
                self.on_progress(Progress(done=int(done.sum()), total=len(done)))

    def _plan(self, bucket: Sequence[Prompt]) -> PassPlan:
        length, n_prompts = len(bucket[0].ids), 1 if self.row_by_row else len(bucket)
        if self.state is not None:
            n_read = len(bucket[0].read)
            return self.state.plan(length=length, n_read=n_read, n_prompts=n_prompts, budget_bytes=self.budget_bytes)
        n_variants = self.n_draws * len(self.layers)
        return plan_pass(
            self.network, length=length, n_variants=n_variants, n_prompts=n_prompts, budget_bytes=self.budget_bytes
        )

    def _run_batch(self, batch: Sequence[Prompt], plan: PassPlan) -> None:
        network, ids = bind_batch(self.network, batch)
        # Prompts of a bucket are read at the same positions, the first of which is the prompt's last.
        perturber = self.perturber
        if self.last_only and perturber is not None:
            wiring = network.anatomy.layers[0].wiring
            last = stream_positions(wiring, batch[0].read[:1], length=ids.shape[1])
            perturber = LastPosition(perturber=perturber, positions=tuple(last))
        measure = self._measure_ladder if self.method == "ladder" else self._measure_plain
        lens, js = measure(network, ids, batch, perturber, plan)
        if self.state is not None:
            js = self.state.measure(ids, batch, lens, n_variants=plan.n_variants)
        layers = self.layers
        js_bits = torch.zeros(len(batch), self.n_draws, len(layers), device=ids.device)
        for (layer, draw), bits in js.items():
            js_bits[:, draw, layers.index(layer)] = bits
        self.readings.keep(batch, lens, js_bits, layers=layers)

    def _measure_ladder(
        self, network: Network, ids: Tensor, batch: Sequence[Prompt], perturber: Perturber | None, plan: PassPlan
    ) -> tuple[LensStatistics, dict[tuple[int, int], Tensor]]:
        """Lens statistics [prompt, read, 1 + layer], and JS [prompt] of each layer and draw."""
        read = batch[0].read
        reduction = self._reduction(plan)
        js: dict[tuple[int, int], Tensor] = {}
        lens: LensStatistics | None = None
        n_draws = 0 if perturber is None else self.n_draws
        for variants in plan.variant_chunks(layers=self.layers, n_draws=n_draws):
            rows = climb(network, ids, read=read, perturber=perturber, variants=variants, axes=self.axes)
            clean = rows.rungs[-1]
            if lens is None:
                targets = _targets(batch, clean, reduction)
                lens = reduction.lens(torch.stack([rows.embedding, *rows.rungs], dim=2), targets, n_top=N_TOP)
            if rows.variants:
                bits = reduction.js_bits(clean.flatten(0, 1), rows.perturbed.flatten(1, 2))
                per_prompt = bits.unflatten(1, (len(batch), len(read))).mean(dim=-1)
                js.update(zip(rows.variants, per_prompt, strict=True))
        assert lens is not None  # there is always a first chunk
        return lens, js

    def _reduction(self, plan: PassPlan) -> Reduction:
        """A quarter of the budget for logits, which are made when the pass itself has ended; less after a shortage."""
        chunk_bytes = min(self.budget_bytes // 4, _LOGITS_BYTES) // plan.shortage
        return Reduction(Tail(self.network), d_vocab=self.network.anatomy.d_vocab, budget_bytes=chunk_bytes)

    def _measure_plain(
        self, network: Network, ids: Tensor, batch: Sequence[Prompt], perturber: Perturber | None, plan: PassPlan
    ) -> tuple[LensStatistics, dict[tuple[int, int], Tensor]]:
        """As `_measure_ladder`, one forward for each rung, layer and draw."""
        del plan
        read = batch[0].read
        logits = plain_logits(network, ids, read=read)
        own = log_probs_of(logits)
        targets = own.argmax(dim=-1)
        if batch[0].target_ids:
            targets = torch.tensor([prompt.target_ids for prompt in batch], device=own.device)
        n_layers = network.anatomy.n_layers
        rungs = [
            measure_lens(plain_readout(network, ids, read=read, layer=layer), targets, n_top=N_TOP)
            for layer in range(-1, n_layers - 1)
        ]
        lens = LensStatistics.stacked([*rungs, measure_lens(logits, targets, n_top=N_TOP)], dim=2)
        js: dict[tuple[int, int], Tensor] = {}
        for layer in self.layers if perturber is not None else ():
            for draw in range(self.n_draws):
                assert perturber is not None  # as above
                perturbed = plain_perturbed(network, ids, read=read, perturber=perturber, layer=layer, draw=draw)
                js[layer, draw] = js_divergence(log_probs_of(perturbed), own).mean(dim=-1)
        return lens, js


def _targets(batch: Sequence[Prompt], clean: Tensor, reduction: Reduction) -> Tensor:
    """Tokens followed [prompt, read]: the answers, or the model's own top tokens."""
    if batch[0].target_ids:
        return torch.tensor([prompt.target_ids for prompt in batch], device=clean.device)
    any_target = torch.zeros(clean.shape[:2], dtype=torch.long, device=clean.device)
    return reduction.lens(clean.unsqueeze(2), any_target, n_top=1).top_ids[:, :, 0, 0]
