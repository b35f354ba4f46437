"""Direct logit attribution: what the mixer and the MLP of each layer add to a token's logit by the tail alone.

The stream that leaves the last layer is the embeddings and everything that was added to them. The tail, with the
statistics of its norms held, is linear (see `frozen_tail`), so that the logit is a sum with a term for each of them
(Elhage et al. 2021, for MLPs Geva et al. 2021). That the terms add up to the model's own logit is proved prompt by
prompt; where they do not, no number is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from layertracer._errors import SiteError
from layertracer._types import Sample
from layertracer.models import Network, in_evaluation_mode, keeping_loaded, without_gradients
from layertracer.tasks import Task
from layertracer.tracing._attribution.branches import BRANCHES, budget_of, why_no_branches
from layertracer.tracing._attribution.encoded_facts import contrast_tokens
from layertracer.tracing._attribution.frozen_tail import LinearTail, linearise_tail
from layertracer.tracing._attribution.not_measured import NotMeasured
from layertracer.tracing._attribution.stream_terms import StreamTerms
from layertracer.tracing._batching.batches import run_batches
from layertracer.tracing._batching.memory_budget import fast_bytes, plan_pass, row_bytes
from layertracer.tracing._batching.prompts import Prompt, bind_batch, bucket_prompts
from layertracer.tracing._failures import explaining_failures
from layertracer.tracing._model import TracedModel
from layertracer.tracing._options import TraceOptions, lay_out_task
from layertracer.tracing._passes.plain import plain_logits
from layertracer.tracing._proofs.rounding import MOST_READOUT, eps_of, nats_tolerance
from layertracer.tracing._readings import Progress

_LOGITS_AT_A_TIME = 2**23
"""Over the vocabulary, of four rows a position, some copies of which autograd keeps."""
_SIGMAS, _ADDED = 6.0, 4.0
"""How many standard deviations of the stream's own rounding the terms may miss the logit by, and how many roundings of
what the tail adds up."""
_NORMS_EPS = torch.finfo(torch.float32).eps
"""Norms and products of matrices are worked out in float32, whatever the type of the stream."""
_HIDES = 0.1
"""Rounding beyond this share of the terms' sizes would hide whether they are all there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogitAttribution:
    """What mixers and MLPs add to logits by the tail alone, in logits; the mean over the positions that are read.

    Law: embedding + mixers + MLPs + other additions + constant = logit, of every prompt that has numbers.

    Attributes:
        terms: By branch ("mixer", "mlp"), of the token that is followed, [prompt, layer]; NaN at layers without it.
        embedding: Of what enters the first layer.
        other: Of additions that are neither a mixer's nor an MLP's.
        constant: Of biases.
        logit: The logit itself, before a softcap where there is one.
        differences: As `terms`, of the followed token less the contrast; NaN where a prompt has none.
        is_capped: Whether a softcap follows, so that the model's own logit is another one.
        why_not: What is not attributed, and why, by branch.
        worst: How far terms and logit are apart at most, in logits; None where nothing was attributed.
        notes: What must be said.
    """

    terms: dict[str, Float[np.ndarray, "prompt layer"]]
    embedding: Float[np.ndarray, " prompt"]
    other: Float[np.ndarray, " prompt"]
    constant: Float[np.ndarray, " prompt"]
    logit: Float[np.ndarray, " prompt"]
    differences: dict[str, Float[np.ndarray, "prompt layer"]]
    is_capped: bool
    why_not: dict[str, str]
    worst: float | None
    notes: tuple[str, ...] = ()


@without_gradients()
def attribute_logits(
    model: TracedModel,
    samples: Task | Sequence[Sample],
    options: TraceOptions | None = None,
    *,
    contrasts: Sequence[int | None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> LogitAttribution:
    """Direct logit attribution of every layer's mixer and MLP.

    Args:
        model: The model.
        samples: The prompts; of several answers the first is followed.
        options: What is followed of them, and the memory that may be taken.
        contrasts: For each prompt the token that the followed one is compared with, None for none; those of the
            samples' contrast answers by default. Only where a single token is followed.
        on_progress: Called whenever a batch of prompts is finished.

    Raises:
        TaskError: If there is no sample, an answer is missing, or a prompt is too long.
    """
    options = options or TraceOptions()
    _, prompts = lay_out_task(model, samples, options)
    why_not, network = why_no_branches(model), model.network
    contrasts = contrast_tokens(model, samples, options) if contrasts is None else contrasts
    run = _Attributing(model=model, prompts=prompts, contrasts=contrasts, seed=options.seed, on_progress=on_progress)
    if len(why_not) < len(BRANCHES):
        with in_evaluation_mode(network.call.module), explaining_failures(model.name, "while logits were attributed"):
            try:
                with keeping_loaded(network.outer_modules):
                    run.run(budget_of(model, options))
            except (NotMeasured, SiteError) as error:
                why_not |= dict.fromkeys(BRANCHES, str(error))
    if run.all_failed:
        why_not = dict.fromkeys(BRANCHES, run.failures[0]) | why_not
    return run.result(why_not)


@dataclass(slots=True, kw_only=True)
class _Attributing:
    """The attribution of logits, as far as it is there."""

    model: TracedModel
    prompts: Sequence[Prompt]
    contrasts: Sequence[int | None]
    seed: int
    on_progress: Callable[[Progress], None] | None
    terms: dict[str, Float[np.ndarray, "which prompt layer"]] = field(init=False)
    sums: Float[np.ndarray, "which prompt"] = field(init=False)
    is_capped: bool = False
    worst: float | None = None
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make room."""
        n_prompts, n_layers = len(self.prompts), self.model.anatomy.n_layers
        self.terms = {role: np.full((2, n_prompts, n_layers), np.nan) for role in BRANCHES}
        self.sums = np.full((4, n_prompts), np.nan)

    @property
    def all_failed(self) -> bool:
        """Whether the law held for no prompt."""
        return len(self.failures) == len(self.prompts)

    def run(self, budget_bytes: int) -> None:
        """Attribute all prompts."""
        network, n_done = self.model.network, 0
        for bucket in bucket_prompts(self.prompts):
            plan = plan_pass(
                2 * row_bytes(network, len(bucket[0].ids)),
                n_variants=0,
                n_prompts=1 if self.model.self_check.row_by_row else len(bucket),
                budget_bytes=fast_bytes(network, budget_bytes),
            )
            for batch, _ in run_batches(network, bucket, plan, lambda batch, _: self._take(batch)):
                n_done += len(batch)
                if self.on_progress is not None:
                    self.on_progress(Progress(n_done, len(self.prompts), "attributing logits"))

    def _take(self, batch: Sequence[Prompt]) -> None:
        network, ids = bind_batch(self.model.network, batch)
        seen = StreamTerms(network=network, read=batch[0].read, length=ids.shape[1])
        with seen.watching():
            logits = plain_logits(network, ids, read=batch[0].read)
        self._check_run(seen)
        tokens = _tokens(batch, logits, [self._contrast(prompt) for prompt in batch])
        n_rows, n_vocab = len(batch) * len(batch[0].read), network.anatomy.d_vocab
        size = max(1, _LOGITS_AT_A_TIME // (4 * n_vocab))
        tables = [
            self._attribute(_Rows.of(network, seen, logits, tokens, slice(start, start + size)))
            for start in range(0, n_rows, size)
        ]
        self._keep(batch, np.concatenate(tables), seen)

    def _contrast(self, prompt: Prompt) -> int | None:
        return self.contrasts[prompt.index] if len(prompt.read) == 1 else None

    def _check_run(self, seen: StreamTerms) -> None:
        if len(seen.left) != self.model.anatomy.n_layers or seen.entering is None:
            raise NotMeasured("its layers do not run once each on these prompts")

    def _attribute(self, rows: _Rows) -> Float[np.ndarray, "row column"]:
        """A row of numbers for each: see `_Rows.table`."""
        tails = linearise_tail(rows.network, rows.left[-1], lambda _: rows.tokens, seed=self.seed)
        self.is_capped = self.is_capped or tails[0].is_capped
        return rows.table(tails)

    def _keep(self, batch: Sequence[Prompt], table: Float[np.ndarray, "row column"], seen: StreamTerms) -> None:
        """Take the numbers of a batch, of those prompts for which the law holds at all positions."""
        by_prompt = table.reshape(len(batch), len(batch[0].read), -1)
        n_terms = 1 + len(seen.added)
        for prompt, own in zip(batch, by_prompt, strict=True):
            miss, allowed, size, constant, logit = own[:, 2 * n_terms :].T
            if reason := _why_no_law(miss, allowed, size):
                self.failures.append(f"{reason} (sample {prompt.index})")
                continue
            self.worst = max(self.worst or 0.0, float(np.abs(miss).max()))
            mean, last = own.mean(axis=0), own[-1]
            self._fill(prompt, seen, mean[1:n_terms], last[n_terms + 1 : 2 * n_terms])
            other = sum(mean[1 + number] for number, (_, role, _) in enumerate(seen.added) if role not in BRANCHES)
            self.sums[:, prompt.index] = mean[0], other, constant.mean(), logit.mean()

    def _fill(
        self,
        prompt: Prompt,
        seen: StreamTerms,
        terms: Float[np.ndarray, " term"],
        differences: Float[np.ndarray, " term"],
    ) -> None:
        for (layer, role, _), term, difference in zip(seen.added, terms, differences, strict=True):
            if role in BRANCHES:
                place = self.terms[role][:, prompt.index, layer]
                place[:] = np.nan_to_num(place) + np.array((term, difference))
        if self._contrast(prompt) is None:
            for values in self.terms.values():
                values[1, prompt.index] = np.nan

    def result(self, why_not: dict[str, str]) -> LogitAttribution:
        """What was found."""
        for role in why_not:
            self.terms[role][:] = np.nan
        notes = []
        if self.is_capped:
            notes.append("A softcap follows the logits: what is attributed is the logit before it.")
        if self.failures and not self.all_failed:
            notes.append(
                f"{len(self.failures)} of {len(self.prompts)} prompts have no logit attribution: {self.failures[0]}."
            )
        embedding, other, constant, logit = self.sums
        return LogitAttribution(
            terms={role: values[0] for role, values in self.terms.items()},
            differences={role: values[1] for role, values in self.terms.items()},
            embedding=embedding,
            other=other,
            constant=constant,
            logit=logit,
            is_capped=self.is_capped,
            why_not=why_not,
            worst=self.worst,
            notes=tuple(notes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Some positions with the terms of their streams."""

    network: Network
    terms: Float[Tensor, "term row width"]
    left: Float[Tensor, "layer row width"]
    logits: Float[Tensor, "row d_vocab"]
    tokens: Int[Tensor, "row token"]

    @classmethod
    def of(
        cls, network: Network, seen: StreamTerms, logits: Tensor, tokens: Int[Tensor, "row token"], which: slice
    ) -> _Rows:
        """Some of those of a batch."""
        assert seen.entering is not None  # checked before
        added = [values.flatten(0, 1)[which] for values in (seen.entering, *(one for _, _, one in seen.added))]
        left = torch.stack([values.flatten(0, 1)[which] for values in seen.left])
        return cls(
            network=network,
            terms=torch.stack(added),
            left=left,
            logits=logits.flatten(0, 1)[which],
            tokens=tokens[which],
        )

    def table(self, tails: Sequence[LinearTail]) -> Float[np.ndarray, "row column"]:
        """For each row the terms of the token, those of its difference to the contrast, and how the law holds.

        The last columns: by how much the terms miss the logit, how much they may, how large they are together, the
        constant, and the logit.
        """
        own = tails[0]
        terms = torch.einsum("trw,rw->rt", self.terms.double(), own.direction)
        others = torch.einsum("trw,rw->rt", self.terms.double(), own.direction - tails[-1].direction)
        miss = terms.sum(dim=1) + own.constant - own.logit
        miss = torch.where(miss.abs() >= (off := self._off(tails)).abs(), miss, off)
        allowed = self._allowed(own)
        size = terms.abs().sum(dim=1)
        columns = torch.stack((miss, allowed, size, own.constant, own.logit), dim=1)
        return torch.cat((terms, others, columns), dim=1).cpu().numpy()

    def _off(self, tails: Sequence[LinearTail]) -> Float[Tensor, " row"]:
        """By how much the tail alone misses the model's own logits of the tokens, beyond what rounding explains."""
        own = self.logits.double().gather(1, self.tokens)
        found = torch.stack([tail.own_logit for tail in tails], dim=1)
        share = MOST_READOUT * nats_tolerance(self.network)
        off = (own - found).abs()
        beyond = torch.where(off <= share * (1 + own.abs()), 0.0, off)
        return beyond.amax(dim=1)

    def _allowed(self, own: LinearTail) -> Float[Tensor, " row"]:
        """How far the terms may be from the logit by rounding alone.

        The stream is rounded after each of two additions a layer, independently of one another, and the tail adds up
        products of it.
        """
        products = own.direction * self.left.double()
        last = products[-1]
        rounded = 2 * products.square().sum(dim=(0, 2)) + 4 * last.square().sum(dim=1)
        eps = max(eps_of(self.network), _NORMS_EPS)
        added_up = _NORMS_EPS * _ADDED * last.abs().sum(dim=1)
        return _SIGMAS * eps * rounded.sqrt() + added_up + 2 * eps * own.logit.abs()


def _tokens(
    batch: Sequence[Prompt], logits: Float[Tensor, "prompt read d_vocab"], contrasts: Sequence[int | None]
) -> Int[Tensor, "row token"]:
    """For each position the token that is followed, and its contrast: the token itself where there is none."""
    found = []
    for prompt, own, contrast in zip(batch, logits, contrasts, strict=True):
        followed = prompt.target_ids or (int(own[-1].argmax()),)
        others = [*followed[:-1], followed[-1] if contrast is None else contrast]
        found += list(zip(followed, others, strict=True))
    return torch.tensor(found, device=logits.device)


def _why_no_law(
    miss: Float[np.ndarray, " read"], allowed: Float[np.ndarray, " read"], size: Float[np.ndarray, " read"]
) -> str | None:
    """Why terms are not known to add up to a prompt's logit; None where they are."""
    worst = int(np.argmax(np.abs(miss) - allowed))
    if not (np.abs(miss) <= allowed).all():
        return (
            f"what its layers add does not add up to its logit: {abs(miss[worst]):.3g} logits are missing where "
            f"rounding explains {allowed[worst]:.3g}. Its stream is scaled, normed or changed elsewhere too"
        )
    if not (allowed <= _HIDES * size).all():
        return (
            f"rounding hides whether what its layers add is all of its logit: it explains {float(allowed.max()):.3g} "
            "logits. Load the model in a type of more digits"
        )
    return None
