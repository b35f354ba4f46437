"""A second lens: what leaves a layer is first translated, by least squares, into what leaves the last one.

The logit lens reads every layer with the model's own tail, which was trained for the last layer alone. What an early
layer knows in another basis it does not see. The linear lens reads what a matrix can make of a layer: stream `i` of a
token becomes `W[i] x + b[i]`, fitted over documents that no training saw, and goes through the tail as the last does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from layertracer._files import write_whole
from layertracer.api import Trace
from layertracer.runs import PromptRecord
from layertracer.tracing import TracedModel

from training import FULL, draw_batch

_SEED = 1000
"""Seed of the documents; those of trainings are 0, 1 and 2."""
_N_BATCHES = 4
N_POSITIONS = _N_BATCHES * FULL.n_documents * FULL.n_tokens
"""So many positions a lens is fitted on."""
_RIDGE = 1e-4
"""Added to the second moments, as a share of their mean, so that dead dimensions do no harm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearLens:
    """Translations of streams into the last one.

    Attributes:
        weights: One matrix a stream, the embeddings first and the last layer's, the identity, last.
        biases: What is added.
    """

    weights: Float[Tensor, "stream width width"]
    biases: Float[Tensor, "stream width"]

    def translate(self, streams: Float[Tensor, "stream position width"]) -> Float[Tensor, "stream position width"]:
        """Every stream as the last one would be."""
        return torch.baddbmm(self.biases[:, None], streams, self.weights)


def logit_lens(model: TracedModel) -> LinearLens:
    """The lens that translates nothing."""
    n_streams, width = model.anatomy.n_layers + 1, model.anatomy.d_model
    return LinearLens(weights=torch.eye(width).repeat(n_streams, 1, 1), biases=torch.zeros(n_streams, width))


def fit_linear_lens(model: TracedModel) -> LinearLens:
    """Fits a miniature's lens on documents of its corpus.

    Source:
        Din et al. (2023), "Jump to conclusions: short-cutting transformers with linear transformations",
        arXiv 2303.09435; here with a bias.
    """
    seen = []
    for step in range(_N_BATCHES):
        batch = draw_batch(seed=_SEED, step=step, n_documents=FULL.n_documents, n_tokens=FULL.n_tokens)
        with _streams(model) as streams, torch.no_grad():
            model.module(input_ids=torch.from_numpy(batch.ids), use_cache=False)
        seen.append(torch.stack([stream.flatten(0, 1) for stream in streams]))
    inputs = torch.cat(seen, dim=1).double()
    means = inputs.mean(dim=1)
    centred = inputs - means[:, None]
    moments = centred.mT @ centred
    ridge = _RIDGE * moments.diagonal(dim1=1, dim2=2).mean(dim=1)
    eye = torch.eye(inputs.shape[-1], dtype=inputs.dtype)
    weights = torch.linalg.solve(moments + ridge[:, None, None] * eye, centred.mT @ centred[-1])
    weights[-1] = eye  # the last stream is read as it is
    biases = means[-1] - (means[:, None] @ weights).squeeze(1)
    return LinearLens(weights=weights.float(), biases=biases.float())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetReading:
    """What a lens says of the targets.

    Attributes:
        log_prob: After the embeddings and after every layer, nats.
        rank: 1 where the target is the top token.
    """

    log_prob: Float[np.ndarray, "prompt stream"]
    rank: Int[np.ndarray, "prompt stream"]

    def save(self, path: Path) -> None:
        """Writes the arrays."""
        write_whole(path, lambda file: np.savez(file, log_prob=self.log_prob, rank=self.rank))

    @classmethod
    def load(cls, path: Path) -> TargetReading:
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            return cls(log_prob=arrays["log_prob"], rank=arrays["rank"])

    def put_into(self, trace: Trace) -> Trace:
        """The trace as another lens reads the target; what it knows of other tokens is still the logit lens'."""
        return dataclasses.replace(
            trace,
            target_log_prob=self.log_prob[:, 1:],
            embedding_log_prob=self.log_prob[:, 0],
            target_rank=self.rank[:, 1:],
        )


def read_targets(lens: LinearLens, model: TracedModel, prompts: Sequence[PromptRecord]) -> TargetReading:
    """The targets of a trace's prompts, one token each, through a lens."""
    log_probs, ranks = zip(*(_read_prompt(lens, model, prompt) for prompt in prompts), strict=True)
    return TargetReading(log_prob=np.stack(log_probs), rank=np.stack(ranks))


def _read_prompt(
    lens: LinearLens, model: TracedModel, prompt: PromptRecord
) -> tuple[Float[np.ndarray, " stream"], Int[np.ndarray, " stream"]]:
    """One pass of as many copies of the prompt as there are streams; behind the last layer, each goes on as another."""
    (target,) = prompt.target_ids
    n_streams = model.anatomy.n_layers + 1
    ids = torch.tensor([prompt.prompt_ids]).expand(n_streams, -1)
    with _streams(model, lens), torch.no_grad():
        logits = model.module(input_ids=ids, use_cache=False).logits[:, -1].double()
    log_probs = logits.log_softmax(dim=-1)[:, target]
    ranks = 1 + (logits > logits[:, target, None]).sum(dim=-1)
    return log_probs.float().numpy(), ranks.int().numpy()


@contextmanager
def _streams(model: TracedModel, lens: LinearLens | None = None) -> Iterator[Sequence[Tensor]]:
    """Collects what enters the first layer and what leaves every layer; a lens replaces what leaves the last one."""
    modules = [layer.module for layer in model.anatomy.layers]
    seen: list[Tensor] = []

    def enter(_: Any, args: Any, kwargs: Any) -> None:
        seen.append(args[0] if args else kwargs["hidden_states"])

    def leave(module: Any, _: Any, output: Any) -> Any:
        stream = output[0] if isinstance(output, tuple) else output
        seen.append(stream)
        if lens is None or module is not modules[-1]:
            return None
        own_rows = torch.stack([one[row] for row, one in enumerate(seen)])
        replaced = lens.translate(own_rows).to(stream.dtype)
        return (replaced, *output[1:]) if isinstance(output, tuple) else replaced

    handles = [modules[0].register_forward_pre_hook(enter, with_kwargs=True)]
    handles += [module.register_forward_hook(leave) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
