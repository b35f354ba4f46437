"""Training of one miniature, which goes on where it stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from layertracer._errors import UsageError
from layertracer._files import write_whole

from training.build import build_untrained
from training.corpus import draw_batch
from training.families import Miniature
from training.kernels import computing_in_one_chunk, flushing_denormals
from training.optimise import Schedule, make_optimisers, set_rates

logger = logging.getLogger("layertracer")

_EVERY = 20
"""So many steps are averaged for a point of the loss curve."""
_SAVE_EVERY = 100
_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What training takes, the same for all miniatures.

    Attributes:
        n_steps: Number of steps.
        n_documents: Documents in a step.
        n_tokens: Tokens in a document.
    """

    n_steps: int = 1200
    n_documents: int = 64
    n_tokens: int = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPoint:
    """The mean loss of some steps.

    Attributes:
        step: Last of the steps.
        loss_nats: Mean over tokens that what precedes them determines.
        loss_open_nats: Mean over the others.
    """

    step: int
    loss_nats: float
    loss_open_nats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained miniature.

    Attributes:
        module: The module, in float32 and evaluation mode.
        losses: The loss curve.
        cpu_s: CPU seconds of all steps.
    """

    module: nn.Module
    losses: tuple[LossPoint, ...]
    cpu_s: float


@dataclass(slots=True)
class _Progress:
    """How far a training is: finished steps, the loss curve, losses that are not in it yet, CPU seconds."""

    step: int
    losses: list[LossPoint]
    pending: list[tuple[float, float]]
    cpu_s: float


def train(  # noqa: PLR0913 - what users call takes its settings by name
    miniature: Miniature,
    recipe: Recipe,
    *,
    state_file: Path | None = None,
    save_every: int = _SAVE_EVERY,
    on_step: Callable[[int], None] | None = None,
    device: str | torch.device = "cpu",
    compiles: bool = False,
) -> Trained:
    """Trains a miniature from its seed.

    Laws: equal miniatures and recipes give equal weights on equal machines; a training that was stopped and goes on
    from its file gives what it would have given without.

    Args:
        miniature: Which one.
        recipe: Steps and sizes of batches.
        state_file: Where to keep what is needed to go on; read if it is there.
        save_every: Number of steps after which that is written.
        on_step: Called with the number of finished steps after each.
        device: Where to train.
        compiles: Whether torch compiles the model first: a minute once, and steps take less time; needs a C++ compiler.

    Raises:
        UsageError: If the state file is of another recipe.
    """
    module = build_untrained(miniature).to(device).train()
    schedule = Schedule(n_steps=recipe.n_steps)
    optimisers = make_optimisers(module, schedule)
    progress = _restore(state_file, module, optimisers, recipe)
    run = torch.compile(module) if compiles else module
    with computing_in_one_chunk(), flushing_denormals():
        while progress.step < recipe.n_steps:
            started = time.process_time()
            set_rates(optimisers, schedule, progress.step)
            progress.pending.append(_take_step(run, optimisers, miniature, recipe, progress.step))
            progress.step += 1
            progress.cpu_s += time.process_time() - started
            if progress.step % _EVERY == 0 or progress.step == recipe.n_steps:
                _extend_curve(progress, miniature)
            if state_file is not None and progress.step % save_every == 0:
                _keep(state_file, module, optimisers, progress, recipe)
            if on_step is not None:
                on_step(progress.step)
    return Trained(module=module.eval(), losses=tuple(progress.losses), cpu_s=progress.cpu_s)


def _take_step(
    module: Any, optimisers: list[Any], miniature: Miniature, recipe: Recipe, step: int
) -> tuple[float, float]:
    """One step on documents of its own; the losses of determined and of other tokens."""
    batch = draw_batch(seed=miniature.seed, step=step, n_documents=recipe.n_documents, n_tokens=recipe.n_tokens + 1)
    device = next(module.parameters()).device
    ids, weights = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.weights).to(device)
    output = module(input_ids=ids[:, :-1], use_cache=False, **_auxiliary_arguments(module))
    losses = functional.cross_entropy(output.logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    loss = (losses * weights.flatten()).sum() / weights.sum()
    auxiliary = getattr(output, "aux_loss", None)
    if auxiliary is not None:
        loss = loss + module.config.router_aux_loss_coef * auxiliary
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), _LARGEST_GRADIENT)
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad()
    return _mean_by_weight(losses.detach(), weights.flatten())


def _auxiliary_arguments(module: Any) -> dict[str, bool]:
    """Asks for the loss that keeps experts in use, where there are experts."""
    return {"output_router_logits": True} if hasattr(module.config, "router_aux_loss_coef") else {}


def _mean_by_weight(losses: Tensor, weights: Tensor) -> tuple[float, float]:
    is_determined = weights == 1.0
    return float(losses[is_determined].mean()), float(losses[~is_determined].mean())


def _extend_curve(progress: _Progress, miniature: Miniature) -> None:
    """Adds the point of the last steps to the loss curve, and logs it."""
    determined, others = (sum(losses) / len(losses) for losses in zip(*progress.pending, strict=True))
    progress.losses.append(LossPoint(step=progress.step, loss_nats=determined, loss_open_nats=others))
    progress.pending = []
    logger.info("%s, step %d: %.3f nats, %.0f CPU s", miniature.name, progress.step, determined, progress.cpu_s)


def _keep(path: Path, module: nn.Module, optimisers: list[Any], progress: _Progress, recipe: Recipe) -> None:
    """Writes everything that is needed to go on."""
    state = {
        "recipe": asdict(recipe),
        "module": module.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "step": progress.step,
        "losses": [asdict(point) for point in progress.losses],
        "pending": progress.pending,
        "cpu_s": progress.cpu_s,
    }
    write_whole(path, lambda file: torch.save(state, file))


def _restore(path: Path | None, module: nn.Module, optimisers: list[Any], recipe: Recipe) -> _Progress:
    """Puts back what `_keep` wrote; the beginning where there is nothing."""
    if path is None or not path.is_file():
        return _Progress(step=0, losses=[], pending=[], cpu_s=0.0)
    state = torch.load(path, weights_only=True, map_location=next(module.parameters()).device)
    if state.get("recipe") != asdict(recipe):
        held = state.get("recipe", "unknown")
        raise UsageError(
            f"{path} holds an unfinished training of another recipe, {held}; asked for is {asdict(recipe)}. Name "
            "another folder for the states, or delete the file to begin anew."
        )
    module.load_state_dict(state["module"])
    for optimiser, kept in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(kept)
    losses = [LossPoint(**point) for point in state["losses"]]
    return _Progress(step=state["step"], losses=losses, pending=state["pending"], cpu_s=state["cpu_s"])
