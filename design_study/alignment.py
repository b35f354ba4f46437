"""The first stage: each fresh mixer learns, by itself, what the parent's attention adds on the parent's own inputs.

A mixer sees its own layer alone, so that the stage does not depend on the placement: it is done once for each parent
and seed, for all layers at a time, and every placement takes from it what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layertracer._files import write_whole

from design_study.plan import ALIGNMENT_SEED, SEARCH_SEED, Recipe
from design_study.students import Mixers, draw_mixers
from training import draw_batch
from training.kernels import computing_in_one_chunk, flushing_denormals
from training.optimise import Schedule, make_optimisers, set_rates

_N_WARMUP = 10
_N_JUDGED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Aligned:
    """Aligned mixers.

    Attributes:
        mixers: Their weights by layer.
        errors: For each layer, the mean square of what a mixer misses as a share of the variance of what attention
            adds, on rows that are neither trained on nor judged on.
    """

    mixers: Mixers
    errors: tuple[float, ...]


def align_mixers(parent: Any, seed: int, recipe: Recipe, *, state_file: Path | None = None) -> Aligned:
    """Fresh mixers for all layers, aligned with the parent's attention.

    Args:
        parent: The attention miniature.
        seed: Seed of fresh weights and of documents.
        recipe: Steps and documents.
        state_file: Where the mixers are kept; read if it is there.
    """
    if state_file is not None and state_file.is_file():
        kept = torch.load(state_file, weights_only=True)
        return Aligned(mixers=kept["mixers"], errors=tuple(kept["errors"]))
    mixers = draw_mixers(parent, seed)
    schedule = Schedule(n_steps=recipe.n_alignment_steps, n_warmup=_N_WARMUP)
    optimisers = make_optimisers(mixers, schedule)
    with computing_in_one_chunk(), flushing_denormals():
        for step in range(recipe.n_alignment_steps):
            set_rates(optimisers, schedule, step)
            inputs, outputs = _run_attention(parent, ALIGNMENT_SEED + seed, step, recipe.n_documents, recipe.n_tokens)
            # A sum over layers that share no weight: each mixer learns as if it were alone.
            torch.stack(_misses(mixers, inputs, outputs)).sum().backward()
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad()
        with torch.no_grad():
            inputs, outputs = _run_attention(parent, SEARCH_SEED, 0, _N_JUDGED, recipe.n_tokens)
            errors = [float(miss) for miss in _misses(mixers, inputs, outputs)]
    weights = {layer: mixer.state_dict() for layer, mixer in enumerate(mixers)}
    if state_file is not None:
        write_whole(state_file, lambda file: torch.save({"mixers": weights, "errors": errors}, file))
    return Aligned(mixers=weights, errors=tuple(errors))


def _misses(mixers: nn.ModuleList, inputs: list[Tensor], outputs: list[Tensor]) -> list[Tensor]:
    """For each layer, the mean square of the difference as a share of the variance of what attention adds."""
    return [
        (mixer(one) - other).square().mean() / (other - other.mean((0, 1))).square().mean()
        for mixer, one, other in zip(mixers, inputs, outputs, strict=True)
    ]


def _run_attention(
    parent: Any, seed: int, step: int, n_documents: int, n_tokens: int
) -> tuple[list[Tensor], list[Tensor]]:
    """What enters and what leaves the attention of each layer on some documents."""
    ids = torch.from_numpy(draw_batch(seed=seed, step=step, n_documents=n_documents, n_tokens=n_tokens).ids)
    with _listening(parent) as (inputs, outputs), torch.no_grad():
        parent.model(input_ids=ids, use_cache=False)
    return inputs, outputs


@contextmanager
def _listening(parent: Any) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def keep(module: nn.Module, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        del module, args
        inputs.append(kwargs["hidden_states"])
        outputs.append(result[0])

    handles = [layer.self_attn.register_forward_hook(keep, with_kwargs=True) for layer in parent.model.layers]
    try:
        yield inputs, outputs
    finally:
        for handle in handles:
            handle.remove()
