"""Profile of a model's layers on prompts: how far each readout is from the output, and how alike layers are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import LayerTracerError, SelfCheckError
from layertracer._types import Method, Sample, TargetKind, TargetTokens
from layertracer.measures import LEAST_TOKENS, cka_of
from layertracer.models import (
    Network,
    in_evaluation_mode,
    is_out_of_memory,
    keeping_loaded,
    without_gradients,
)
from layertracer.tasks import Task
from layertracer.tracing._batching.batches import run_batches
from layertracer.tracing._batching.memory_budget import default_budget_bytes, fast_bytes, plan_pass
from layertracer.tracing._batching.prompts import Prompt, bind_batch, bucket_prompts
from layertracer.tracing._distributions.kl_divergence import DivergenceFrom
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._failures import explaining_failures, first_line, is_of_callers_making
from layertracer.tracing._model import TracedModel, lay_out
from layertracer.tracing._observers.layer_hsic import LayerHsic, compared_tokens
from layertracer.tracing._observers.protocol import observing
from layertracer.tracing._passes.ladder import LadderPass, run_pass
from layertracer.tracing._passes.plain import plain_logits, plain_readout
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._planning.audit_cells import check_share
from layertracer.tracing._proofs.alone import Disagreement, watched_alone
from layertracer.tracing._proofs.readout_audit import choose_looks
from layertracer.tracing._proofs.rounding import MOST_READOUT, eps_of, nats_tolerance
from layertracer.tracing._proofs.self_check import refuse_non_finite
from layertracer.tracing._readout import prompt_row_bytes

_LOG = logging.getLogger("layertracer")

_LOGITS_AT_A_TIME = 2**22
"""16 MiB of float32."""
_MOST_PROMPTS = 32
"""Prompts at a time: inner products of their tokens are kept for all layers."""
_CKA_TOLERANCE, _CKA_ROUNDINGS = 1e-3, 64
"""How far a CKA may be off beside others: at least, and in roundings of the model's numbers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerProfile:
    """What is known of a model's layers on some prompts beside what a trace measures.

    Attributes:
        kl_nats: KL(final ‖ readout after each layer), nats, the mean over the positions that are followed; 0 after the
            last layer.
        hsic: Unbiased HSIC between what enters the first layer and what leaves every layer, over each prompt's tokens;
            0 for prompts with too few. Mean over prompts, then `layertracer.measures.cka_of`.
        n_measured_again: How many prompts were measured again, each alone, the plain way.
        notes: What must be said of it.
    """

    kl_nats: Float[np.ndarray, "prompt layer"]
    hsic: Float[np.ndarray, "prompt layer_and_one layer_and_one"]
    n_measured_again: int
    notes: tuple[str, ...] = ()

    @property
    def cka(self) -> Float[np.ndarray, "layer_and_one layer_and_one"]:
        """Centred kernel alignment between what enters the first layer and what leaves every layer, over all prompts.

        Of the mean HSIC, see `layertracer.measures.cka_of`; NaN where no prompt has tokens enough.
        """
        return cka_of(self.hsic.mean(axis=0))


@without_gradients()
def profile_layers(  # noqa: PLR0913 - takes its settings by name, as `read_layers` does
    model: TracedModel,
    samples: Task | Sequence[Sample],
    *,
    target: TargetKind = "answer",
    target_tokens: TargetTokens = "first",
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
    audit: float = 0.1,
    seed: int = 0,
) -> LayerProfile:
    """How far each layer's readout is from the output, and how alike the layers hold the tokens, prompt by prompt.

    Laws: the KL divergence after the last layer is 0; a prompt's numbers do not depend on the prompts beside it.

    Args:
        model: From `load_model` or `wrap_model`.
        samples: Prompts.
        target: As for a trace of the same prompts: it decides where the readout is read.
        target_tokens: Likewise.
        chat: Whether prompts are put into the tokenizer's chat template.
        system: Text of a system's turn before each of them, in the chat template.
        template_arguments: What else the chat template is given.
        audit: Share of the prompts that are measured again, each alone, beside one of every length; 0 for none.
        seed: What draws those, and the tokens that are compared in long prompts.

    Raises:
        TaskError: If there is no sample, an answer is missing, or a prompt is too long.
        NonFiniteError: If the model's output is NaN for a prompt.
        OutOfMemoryError: If not even one prompt fits.
        SelfCheckError: If the model does not give the same twice.
        ModelError: If the model's own code raises anything else.
    """
    _, prompts = lay_out(
        model,
        samples,
        chat=chat,
        system=system,
        template_arguments=template_arguments,
        target=target,
        target_tokens=target_tokens,
    )
    share = check_share(audit)
    network = model.network
    with in_evaluation_mode(network.call.module), explaining_failures(model.name, "while its layers were profiled"):
        return _profile_twice(model, prompts, share=share, seed=seed)


def _profile_twice(model: TracedModel, prompts: Sequence[Prompt], *, share: float, seed: int) -> LayerProfile:
    """The profile, by the plain method where that of the ladder is not what a prompt alone gives."""
    methods: tuple[Method, ...] = ("ladder", "plain") if model.self_check.method == "ladder" else ("plain",)
    why = ""
    for method in methods:
        profiling = _Profiling(model=model, prompts=prompts, method=method, seed=seed)
        try:
            profiling.run()
            n_again = profiling.audit(share)
        except Disagreement as disagreement:
            why = str(disagreement)
            continue
        except Exception as error:
            is_final = isinstance(error, LayerTracerError) or is_out_of_memory(error) or is_of_callers_making(error)
            if is_final or method == "plain":
                raise
            why = f"rows could not go through the layers together ({first_line(error)})"
            continue
        notes = [f"Layers were profiled anew by the plain method, because {why}."] if why else []
        for note in notes:
            _LOG.warning("%s: %s", model.name, note)
        n_short = sum(len(prompt.ids) <= LEAST_TOKENS for prompt in prompts)
        if n_short:
            notes.append(f"{n_short} of {len(prompts)} prompts have too few tokens to compare layers by.")
        return LayerProfile(
            kl_nats=profiling.kl_nats, hsic=profiling.hsic, n_measured_again=n_again, notes=tuple(notes)
        )
    raise SelfCheckError(
        f"{model.name!r} does not give the same numbers twice on these prompts: {why}, although it was run as plainly "
        "as can be. It keeps something between calls, or draws at random: make the model stateless and deterministic, "
        "then profile it again."
    )


@dataclass(slots=True, kw_only=True)
class _Profiling:
    """The profile of a model's layers by one method, as far as it is there."""

    model: TracedModel
    prompts: Sequence[Prompt]
    method: Method
    seed: int
    kl_nats: Float[np.ndarray, "prompt layer"] = field(init=False)
    hsic: Float[np.ndarray, "prompt layer_and_one layer_and_one"] = field(init=False)

    def __post_init__(self) -> None:
        """Make room."""
        n_prompts, n_layers = len(self.prompts), self.model.anatomy.n_layers
        self.kl_nats = np.full((n_prompts, n_layers), np.nan)
        self.hsic = np.zeros((n_prompts, n_layers + 1, n_layers + 1))

    def run(self) -> None:
        """Profile all prompts."""
        model, room = self.model, default_budget_bytes(self.model.network)
        one_by_one = self.method == "plain" or model.self_check.row_by_row
        for bucket in bucket_prompts(self.prompts):
            plan = plan_pass(
                prompt_row_bytes(model, bucket[0], room),
                n_variants=0,
                n_prompts=1 if one_by_one else min(_MOST_PROMPTS, len(bucket)),
                budget_bytes=fast_bytes(model.network, room // 2),
            )
            for _ in run_batches(model.network, bucket, plan, lambda batch, _: self._take(batch)):
                pass

    def audit(self, share: float) -> int:
        """How many prompts were measured again, each alone: the last of every length, and as many as the share draws.

        Raises:
            Disagreement: If one differs by more than rounding explains.
        """
        looks, _ = choose_looks(self.prompts, share, seed=self.seed)
        generator = np.random.default_rng([self.seed, len(self.prompts), 1])
        for prompt in looks:
            self._measure_again(prompt, bypassing_after=int(generator.integers(self.model.anatomy.n_layers)))
        return len(looks)

    def _take(self, batch: Sequence[Prompt]) -> None:
        """Profile one batch."""
        network, ids = bind_batch(self.model.network, batch)
        where = [prompt.index for prompt in batch]
        observer = self._observer(ids)
        with keeping_loaded(network.outer_modules):
            logits = self._logits(network, ids, batch[0].read, observer)
            log_p = log_probs_of(next(logits))
            if bool(log_p.isnan().any()):
                refuse_non_finite(network, ids)
            output = DivergenceFrom(log_p)
            for layer, of_layer in enumerate(logits):
                self.kl_nats[where, layer] = _kl_nats(output, of_layer)
        self.hsic[where] = observer.per_prompt()

    def _logits(
        self, network: Network, ids: Tensor, read: Sequence[int], observer: LayerHsic
    ) -> Iterator[Float[Tensor, "prompt read d_vocab"]]:
        """Logits of the output, and then those read after every layer."""
        n_layers = network.anatomy.n_layers
        if self.method == "plain":
            with observing(network, [observer]):
                yield plain_logits(network, ids, read=read)
            for layer in range(n_layers):
                yield plain_readout(network, ids, read=read, layer=layer)
            return
        ladder = LadderPass(
            network=network,
            ids=ids,
            read=read,
            perturbers=(),
            variants=(),
            axes=self.model.axes,
            observers=[observer],
        )
        rows, tail = run_pass(ladder).lens_rows, Tail(network)
        for layer in (n_layers - 1, *range(n_layers)):
            yield _through(tail, rows[layer], d_vocab=network.anatomy.d_vocab)

    def _observer(self, ids: Tensor) -> LayerHsic:
        length = ids.shape[1]
        return LayerHsic(length=length, tokens=compared_tokens(length, seed=self.seed))

    def _measure_again(self, prompt: Prompt, *, bypassing_after: int) -> None:
        """Hold a prompt's numbers against those of it alone, once with all layers bypassed that follow a layer."""
        network, ids = bind_batch(self.model.network, [prompt])
        observer, n_layers = self._observer(ids), network.anatomy.n_layers
        logits, rows = watched_alone(network, ids, prompt.read, observers=[observer])
        output, tail = DivergenceFrom(log_probs_of(logits)), Tail(network)
        tolerance = MOST_READOUT * nats_tolerance(network)

        def check(layer: int, of_layer: Tensor) -> None:
            found, kept = float(_kl_nats(output, of_layer)[0]), float(self.kl_nats[prompt.index, layer])
            if not (abs(found - kept) <= tolerance * (1 + abs(found)) or found == kept):
                raise Disagreement(
                    f"sample {prompt.index} had a KL divergence of {kept:.4g} nats after layer {layer} beside others "
                    f"and of {found:.4g} when it was measured again alone"
                )

        if self.method != "plain":
            for layer in range(n_layers):
                check(layer, _through(tail, rows[:, :, 1 + layer], d_vocab=network.anatomy.d_vocab))
        for layer in {bypassing_after} if self.method != "plain" else range(n_layers):
            check(layer, plain_readout(network, ids, read=prompt.read, layer=layer))
        self._check_cka(prompt, observer.per_prompt()[0])

    def _check_cka(self, prompt: Prompt, alone: Float[np.ndarray, "layer_and_one layer_and_one"]) -> None:
        differences = np.abs(cka_of(alone) - cka_of(self.hsic[prompt.index]))
        worst = float(np.max(differences, where=~np.isnan(differences), initial=0.0))
        if worst > max(_CKA_TOLERANCE, _CKA_ROUNDINGS * eps_of(self.model.network)):
            raise Disagreement(
                f"sample {prompt.index} had a CKA between two layers that differs by {worst:.4g} when it was measured "
                "again alone"
            )


def _through(tail: Tail, rows: Float[Tensor, "prompt read *width"], *, d_vocab: int) -> Tensor:
    """Logits of rows, a few at a time where the vocabulary is large."""
    flat = rows.flatten(0, 1)
    size = max(1, _LOGITS_AT_A_TIME // d_vocab)
    logits = torch.cat([tail(flat[start : start + size]) for start in range(0, len(flat), size)])
    return logits.reshape(*rows.shape[:2], d_vocab)


def _kl_nats(output: DivergenceFrom, logits: Float[Tensor, "prompt read d_vocab"]) -> Float[np.ndarray, " prompt"]:
    """KL(output ‖ readout), the mean over positions."""
    return np.asarray(output.to(log_probs_of(logits)).mean(dim=1).cpu().numpy())
