"""First-order estimates of what the removal of a layer's mixer, MLP or whole update does: one backward for all layers.

To first order, the log-probability of what is followed changes by −⟨∂ log P / ∂ a, a⟩ when the addition a is taken
away, summed over positions (attribution patching to zero: Nanda 2023; Molchanov et al. 2017 for pruning).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import OutOfMemoryError
from layertracer._types import Sample
from layertracer.models import Role, in_evaluation_mode, is_placed, is_quantised, without_gradients
from layertracer.tasks import Task
from layertracer.tracing._attribution.branches import BRANCHES, budget_of, why_no_branches
from layertracer.tracing._attribution.directional import Differences, signs, verdict
from layertracer.tracing._attribution.not_measured import NotMeasured, telling_why_not
from layertracer.tracing._attribution.objective import Followings, target_log_probs
from layertracer.tracing._attribution.saved_bytes import counting_saved
from layertracer.tracing._attribution.taped import Tape, TapedTerm
from layertracer.tracing._batching.batches import run_batches
from layertracer.tracing._batching.memory_budget import PassPlan
from layertracer.tracing._batching.prompts import Prompt, bind_batch, bucket_prompts
from layertracer.tracing._failures import explaining_failures
from layertracer.tracing._model import TracedModel
from layertracer.tracing._options import TraceOptions, lay_out_task
from layertracer.tracing._passes.plain import plain_logits
from layertracer.tracing._planning.audit_cells import check_share
from layertracer.tracing._proofs.rounding import MOST_READOUT, nats_tolerance
from layertracer.tracing._readings import Progress

_CUT = "its code cannot be differentiated"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RemovalEstimates:
    """First-order estimates of what removals do to the log-probability of what is followed.

    Attributes:
        change_nats: By what is removed ("mixer", "mlp", "block"), the estimated change, [prompt, layer]; NaN at layers
            without it. Lower is worse for what is followed.
        log_prob: The log-probability itself, nats.
        why_not: What is not estimated, and why.
        n_audited: How many prompts were held against differences of plain forwards.
        notes: What must be said.
    """

    change_nats: dict[str, Float[np.ndarray, "prompt layer"]]
    log_prob: Float[np.ndarray, " prompt"]
    why_not: dict[str, str]
    n_audited: int
    notes: tuple[str, ...] = ()


@without_gradients()
def estimate_removals(
    model: TracedModel,
    samples: Task | Sequence[Sample],
    options: TraceOptions | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> RemovalEstimates:
    """First-order estimates for every layer from one forward and one backward a prompt.

    Laws: the sum over removals, weighted at random, is the derivative by differences of the plain model; a prompt's
    numbers do not depend on the prompts beside it; parameters, their gradients, modes and hooks stay as they are.

    Args:
        model: The model.
        samples: The prompts.
        options: What is followed of them, the memory that may be taken, and the share of the prompts that are held
            against differences of plain forwards (`audit`; one at least, none for 0), which the seed draws.
        on_progress: Called whenever a batch of prompts is finished.

    Raises:
        TaskError: If there is no sample, an answer is missing, or a prompt is too long.
    """
    options = options or TraceOptions()
    _, prompts = lay_out_task(model, samples, options)
    n_layers, reason = model.anatomy.n_layers, why_no_gradients(model)
    if reason is not None:
        return _nothing(len(prompts), n_layers, reason)
    why_not = why_no_branches(model)
    found = _Gradients(
        model=model,
        followings=Followings.of(prompts),
        branches=len(why_not) < len(BRANCHES),
        budget_bytes=budget_of(model, options),
        on_progress=on_progress,
    )
    with (
        in_evaluation_mode(model.network.call.module),
        explaining_failures(model.name, "while gradients were taken"),
    ):
        try:
            found, failed = _run(found)
            audited = found.audit(check_share(options.audit), seed=options.seed)
        except NotMeasured as nothing:
            return _nothing(len(prompts), n_layers, str(nothing))
    return _gathered(found, audited, n_prompts=len(prompts), why_not=why_not | failed)


def _run(found: _Gradients) -> tuple[_Gradients, dict[str, str]]:
    """All gradients; those of whole layers alone where branches are not found again, and why.

    Raises:
        NotMeasured: If not even those can be taken.
    """
    try:
        found.run()
    except NotMeasured as reason:
        if not found.branches:
            raise
        whole = replace(found, branches=False)
        whole.run()
        return whole, dict.fromkeys(BRANCHES, str(reason))
    return found, {}


def why_no_gradients(model: TracedModel) -> str | None:
    """Why no gradient can be taken of a model; None where it can be tried."""
    if is_placed(model.module):
        return "accelerate loads or moves its weights while it runs: a backward pass would find them gone"
    if is_quantised(model.module):
        return "its weights are quantised, and their kernels are not made to be differentiated"
    return None


def _nothing(n_prompts: int, n_layers: int, reason: str) -> RemovalEstimates:
    empty = np.full((n_prompts, n_layers), np.nan)
    names = (*BRANCHES, "block")
    return RemovalEstimates(
        change_nats=dict.fromkeys(names, empty),
        log_prob=np.full(n_prompts, np.nan),
        why_not=dict.fromkeys(names, reason),
        n_audited=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Audited:
    n_prompts: int = 0
    notes: tuple[str, ...] = ()
    wrong: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _Gradients:
    """Estimates by gradients, as far as they are there.

    Attributes:
        products: By role, ⟨∂ log P / ∂ a, a⟩ of each continuation and layer; None is all that a layer changes.
    """

    model: TracedModel
    followings: Followings
    branches: bool
    budget_bytes: int
    on_progress: Callable[[Progress], None] | None
    log_prob: Float[np.ndarray, " continuation"] = field(init=False)
    products: dict[Role | None, Float[np.ndarray, "continuation layer"]] = field(init=False)

    def __post_init__(self) -> None:
        """Make room."""
        n, n_layers = len(self.followings.prompts), self.model.anatomy.n_layers
        self.log_prob = np.full(n, np.nan)
        roles: tuple[Role | None, ...] = (*BRANCHES, None) if self.branches else (None,)
        self.products = {role: np.full((n, n_layers), np.nan) for role in roles}

    def run(self) -> None:
        """Take all gradients.

        Raises:
            NotMeasured: If they cannot be taken.
        """
        n_done = 0
        for bucket in bucket_prompts(self.followings.prompts):
            for batch in self._batches(bucket):
                n_done += len(batch)
                if self.on_progress is not None:
                    self.on_progress(Progress(n_done, len(self.followings.prompts), "taking gradients"))

    def _batches(self, bucket: Sequence[Prompt]) -> Iterator[Sequence[Prompt]]:
        """Each batch of a bucket, once it is done: the first prompt alone says how many fit."""
        network, one_by_one = self.model.network, self.model.self_check.row_by_row
        try:
            with counting_saved(network.call.module) as saved:
                yield next(self._taken(bucket[:1], PassPlan(n_prompts=1, n_variants=1)))
            fitting = max(1, self.budget_bytes // max(1, 2 * saved.n_bytes))
            plan = PassPlan(n_prompts=1 if one_by_one else fitting, n_variants=1)
            yield from self._taken(bucket[1:], plan)
        except OutOfMemoryError as error:
            length = len(bucket[0].ids)
            raise NotMeasured(
                f"memory ran out in the backward pass of one prompt of {length} tokens; use shorter prompts"
            ) from error

    def _taken(self, bucket: Sequence[Prompt], plan: PassPlan) -> Iterator[Sequence[Prompt]]:
        for batch, _ in run_batches(self.model.network, bucket, plan, lambda batch, _: self._take(batch)):
            yield batch

    def _take(self, batch: Sequence[Prompt]) -> None:
        """One forward and one backward."""
        network, ids = bind_batch(self.model.network, batch)
        tape, where = Tape(network=network, branches=self.branches), [prompt.index for prompt in batch]
        with telling_why_not(_CUT), torch.enable_grad():
            with tape.running():
                logits = plain_logits(network, ids, read=batch[0].read)
            log_probs = target_log_probs(batch, logits)
            if not log_probs.requires_grad:
                raise NotMeasured("no gradient reaches its logits: the model's own code cuts them off")
            gradients = torch.autograd.grad(log_probs.sum(), [term.edge for term in tape.terms], allow_unused=True)
        self.log_prob[where] = log_probs.detach().double().cpu().numpy()
        for products in self.products.values():
            products[where] = np.nan
        for term, gradient in zip(tape.terms, gradients, strict=True):
            if term.role in self.products:
                self._add(where, term, gradient)

    def _add(self, where: list[int], term: TapedTerm, gradient: Tensor | None) -> None:
        """Add up the product of a term and its gradient."""
        if gradient is None:
            raise NotMeasured(f"no gradient comes back to layer {term.layer}: the model's own code cuts them off")
        number = product_by_row(term, gradient)
        if not np.isfinite(number).all():
            raise NotMeasured(f"the gradients at layer {term.layer} are not finite in {self.model.dtype}")
        products = self.products[term.role]
        products[where, term.layer] = np.nan_to_num(products[where, term.layer]) + number

    def audit(self, share: float, *, seed: int) -> _Audited:
        """Hold some prompts' gradients against the plain model.

        Raises:
            NotMeasured: If the derivative of all that layers change is not that of the plain model, or the plain model
                says something else.
        """
        prompts = self.followings.prompts
        if not share:
            return _Audited(notes=("Gradients were not held against differences: audit=0.",))
        drawn = np.random.default_rng([seed, len(prompts), 5]).permutation(len(prompts))[
            : max(1, round(share * len(prompts)))
        ]
        longest = max(prompts, key=lambda prompt: len(prompt.ids))
        looks = {prompt.index: prompt for prompt in (longest, *(prompts[number] for number in drawn.tolist()))}
        notes: list[str] = []
        wrong: dict[str, str] = {}
        for prompt in looks.values():
            with telling_why_not("its plain forwards failed"):
                differences = Differences(self.model.network, prompt)
            self._check_log_prob(prompt, differences.own)
            for roles in ([None], list(BRANCHES)) if self.branches else ([None],):
                reason = self._check(prompt, differences, roles, seed=seed, notes=notes)
                if reason and roles == [None]:
                    raise NotMeasured(reason)
                if reason:
                    wrong |= dict.fromkeys(BRANCHES, reason)
        return _Audited(n_prompts=len(looks), notes=tuple(dict.fromkeys(notes)), wrong=wrong)

    def _check_log_prob(self, prompt: Prompt, alone: float) -> None:
        found = float(self.log_prob[prompt.index])
        if not abs(alone - found) <= MOST_READOUT * nats_tolerance(self.model.network) * (1 + abs(alone)):
            raise NotMeasured(
                f"with gradients it says something else: a log-probability of {found:.5g} against {alone:.5g} without"
            )

    def _check(
        self,
        prompt: Prompt,
        differences: Differences,
        roles: Sequence[Role | None],
        *,
        seed: int,
        notes: list[str],
    ) -> str | None:
        """Why a prompt's gradients are not those of the plain model; None where they are, or that cannot be told."""
        places = [
            (int(layer), role)
            for role in roles
            for layer in np.flatnonzero(~np.isnan(self.products[role][prompt.index]))
        ]
        weights = signs(places, seed=[seed, prompt.index, len(roles)])
        terms = [weight * self.products[role][prompt.index, layer] for (layer, role), weight in weights.items()]
        expected, size = float(np.sum(terms)), float(np.sqrt(np.square(terms).sum()))
        with telling_why_not("what its layers add could not be scaled"):
            is_right = verdict(differences.slopes(weights), expected, size=size)
        sample = self.followings.owners[prompt.index]
        if is_right is None:
            notes.append(
                f"Whether the gradients of sample {sample} are right cannot be told: by differences in "
                f"{self.model.dtype}, they do not settle (rounding, or a kink or a jump of the model's)."
            )
        if is_right is not False:
            return None
        what = "all that layers change" if roles == [None] else "what mixers and MLPs add"
        return (
            f"its gradients are not the derivatives of what it computes: by differences, {what} grown at random in "
            f"sample {sample} has another one than {expected:.4g} nats; the model's own code cuts or replaces gradients"
        )


def product_by_row(term: TapedTerm, gradient: Tensor) -> Float[np.ndarray, " row"]:
    """⟨gradient, what is added⟩ of each row, in float64 where the device has it."""
    wide = torch.float32 if gradient.device.type == "mps" else torch.float64
    added = term.added
    seen = gradient.reshape(added.shape) if gradient.numel() == added.numel() else term.shape.view(gradient)
    assert seen is not None  # it has the shape of the sum, which is the stream's
    products = seen.to(wide) * added.to(wide)
    return np.asarray(products.movedim(term.shape.batch_axis, 0).flatten(1).sum(dim=1).cpu().numpy(), dtype=np.float64)


def _gathered(found: _Gradients, audited: _Audited, *, n_prompts: int, why_not: dict[str, str]) -> RemovalEstimates:
    """The estimates of prompts, of their continuations: each counts by its share of the probability."""
    owners = np.array(found.followings.owners)
    total = np.full(n_prompts, -np.inf)
    np.logaddexp.at(total, owners, found.log_prob)
    shares = np.exp(found.log_prob - total[owners])
    why_not = why_not | audited.wrong
    change: dict[str, Float[np.ndarray, "prompt layer"]] = {}
    for role in (*BRANCHES, None):
        name = role or "block"
        values = np.full((n_prompts, found.model.anatomy.n_layers), np.nan)
        if name not in why_not:
            values = np.zeros_like(values)
            np.add.at(values, owners, -shares[:, None] * found.products[role])
        change[name] = values
    return RemovalEstimates(
        change_nats=change,
        log_prob=total,
        why_not=why_not,
        n_audited=audited.n_prompts,
        notes=audited.notes,
    )
