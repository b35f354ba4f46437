"""Tuned lenses: affine translators from the identity on, fitted to the final output by its KL divergence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._lens_fitting.kl_gradient import kl_and_gradient
from layertracer.tracing._lens_fitting.lens_bench import LensBench
from layertracer.tracing._lens_fitting.quality import kl_by_row
from layertracer.tracing._lenses.affine import AffineLens
from layertracer.tracing._readings import Progress

_RATE, _BIAS_RATE, _MOMENTUM, _SCALING, _DECAY, _EPS = 0.1, 0.03, 0.9, 0.99, 1e-3, 1e-8
"""AdamW's. Of matrices the rate is over the width: every step moves every entry, and a token meets a whole column of
them. Rates fall to 0 in a straight line. SGD with Nesterov's momentum, as in the paper, was as good at width 96, and at
width 576 worse than the identity for the first dozens of steps."""
_SHRINKAGE, _RIDGE = 0.1, 1e-6
"""How far covariances are drawn towards their diagonals, as a few thousand tokens say little of those between hundreds
of dimensions, and what keeps dead dimensions from being blown up."""
_N_LOOKS = 8
"""How often the held-out text is looked at."""
_PATIENCE = 2
"""So many looks in a row in which no layer becomes better, and it stops."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TunedFit:
    """A tuned lens as it was fitted.

    Attributes:
        lens: The translators, each from the step at which it read the held-out text best.
        steps: That step by layer, the embeddings first; 0 where no step was better than the identity.
        n_steps: Steps that were taken.
    """

    lens: AffineLens
    steps: tuple[int, ...]
    n_steps: int


def fit_tuned(  # noqa: PLR0913 - settings by name
    bench: LensBench,
    fit: Float[Tensor, "lens_row token width"],
    choose: Float[Tensor, "lens_row held_out width"],
    *,
    n_steps: int,
    n_batch: int,
    seed: int,
    on_progress: Callable[[Progress], None] | None = None,
) -> TunedFit:
    """Translators x + x A + b of every layer but the last, from A = 0 and b = 0 on, fitted together.

    Each step draws some tokens and, for all layers at once, follows the gradient of KL(final ‖ lens) through the
    model's own tail. The translators are written in whitened coordinates of each layer's stream (its mean taken
    off, its covariance, drawn towards the diagonal, made one) and in standard deviations of the last stream, so
    that a few dimensions hundreds of times larger than the others do not decide how far a step may go.

    Args:
        bench: The model.
        fit: Streams to fit on.
        choose: Streams to choose the step by, layer by layer.
        n_steps: The most steps.
        n_batch: Tokens of a step.
        seed: Draws the tokens.
        on_progress: Told how far it is.

    Source:
        Belrose et al. (2023), "Eliciting latent predictions from transformers with the tuned lens", arXiv 2303.08112;
        there by SGD on many more tokens and in the stream's own coordinates.
    """
    translators = _Translators.identity(fit, device=bench.model.device)
    best = translators.lens()
    best_kl = kl_by_row(bench, choose, best)
    steps, n_without, step = np.zeros(len(best_kl), dtype=int), 0, 0
    generator = torch.Generator().manual_seed(seed)
    every = max(1, n_steps // _N_LOOKS)
    while step < n_steps and n_without < _PATIENCE:
        drawn = torch.randint(fit.shape[1], (n_batch,), generator=generator)
        gradients = translators.gradients(bench, fit[:, drawn].to(bench.model.device))
        translators.step(*gradients, left=1 - step / n_steps)
        step += 1
        if on_progress is not None:
            on_progress(Progress(step, n_steps, "fitting"))
        if step % every == 0 or step == n_steps:
            now = translators.lens()
            kl = kl_by_row(bench, choose, now)
            better = np.flatnonzero(kl < best_kl)
            best_kl[better], steps[better] = kl[better], step
            best = _put_together(best, now, better.tolist())
            n_without = 0 if len(better) else n_without + 1
    return TunedFit(lens=best, steps=tuple(steps.tolist()), n_steps=step)


def _put_together(best: AffineLens, now: AffineLens, better: Sequence[int]) -> AffineLens:
    """The best translators so far, where those of now are better than they."""
    weights, biases = best.weights.clone(), best.biases.clone()
    weights[better], biases[better] = now.weights[better], now.biases[better]
    return AffineLens(kind="tuned", weights=weights, biases=biases)


@dataclass(slots=True, kw_only=True)
class _Translators:
    """Affine translators of all layers but the last, in whitened coordinates, and what AdamW keeps of them."""

    means: Float[Tensor, "layer width"]
    whitening: Float[Tensor, "layer width width"]
    scale: Float[Tensor, " width"]
    weights: Float[Tensor, "layer width width"] = field(init=False)
    biases: Float[Tensor, "layer width"] = field(init=False)
    _moments: tuple[tuple[Tensor, Tensor], ...] = field(init=False)
    _n_steps: int = 0

    def __post_init__(self) -> None:
        """Begin with the identity."""
        self.weights, self.biases = torch.zeros_like(self.whitening), torch.zeros_like(self.means)
        own = (self.weights, self.biases)
        self._moments = tuple((torch.zeros_like(one), torch.zeros_like(one)) for one in own)

    @classmethod
    def identity(cls, streams: Float[Tensor, "lens_row token width"], *, device: torch.device) -> _Translators:
        """The translators that change nothing."""
        whitenings = [_whitening(rows) for rows in streams[:-1]]
        return cls(
            means=streams[:-1].float().mean(dim=1).to(device),
            whitening=torch.stack(whitenings).to(device),
            scale=streams[-1].float().std(dim=0).to(device),
        )

    def gradients(self, bench: LensBench, rows: Float[Tensor, "lens_row token width"]) -> tuple[Tensor, Tensor]:
        """Gradients of the mean KL(final ‖ lens) over some tokens, with respect to weights and biases."""
        log_p = log_probs_of(bench.tail(rows[-1]))
        entering = rows[:-1].float()
        white = (entering - self.means[:, None]) @ self.whitening
        made = entering + (white @ self.weights + self.biases[:, None]) * self.scale
        n_layers, n_tokens, _ = made.shape
        _, gradient = kl_and_gradient(bench, made.flatten(0, 1).to(rows.dtype), log_p.repeat(n_layers, 1))
        by_layer = gradient.float().unflatten(0, (n_layers, n_tokens)) * self.scale / n_tokens
        return white.mT @ by_layer, by_layer.sum(dim=1)

    def step(self, *gradients: Tensor, left: float) -> None:
        """One step of AdamW. Its decay draws the translators towards the identity.

        Args:
            *gradients: Of weights and biases.
            left: What of the way is left, from 1 to 0, with which the rates fall.
        """
        self._n_steps += 1
        momentum, scaling = 1 - _MOMENTUM**self._n_steps, 1 - _SCALING**self._n_steps
        rates = (left * _RATE / self.scale.shape[0], left * _BIAS_RATE)
        own = zip((self.weights, self.biases), gradients, self._moments, rates, strict=True)
        for values, gradient, (first, second), rate in own:
            first.lerp_(gradient, 1 - _MOMENTUM)
            second.lerp_(gradient.square(), 1 - _SCALING)
            values.mul_(1 - rate * _DECAY)
            values.addcdiv_(first / momentum, (second / scaling).sqrt_().add_(_EPS), value=-rate)

    def lens(self) -> AffineLens:
        """The translators in the coordinates of the streams."""
        weights = self.whitening @ (self.weights * self.scale)
        biases = self.biases * self.scale - (self.means[:, None] @ weights).squeeze(1)
        return AffineLens(kind="tuned", weights=weights, biases=biases)


def _whitening(rows: Float[Tensor, "token width"]) -> Float[Tensor, "width width"]:
    """What rows less their mean are multiplied with, from the right, to have a covariance of about one."""
    wide = rows.double()
    centred = wide - wide.mean(dim=0)
    covariance = centred.mT @ centred / len(centred)
    diagonal = covariance.diagonal()
    shrunk = (1 - _SHRINKAGE) * covariance + torch.diag(
        _SHRINKAGE * diagonal + _RIDGE * diagonal.mean() + torch.finfo(torch.float32).tiny
    )
    whitening: Tensor = torch.linalg.inv(torch.linalg.cholesky(shrunk)).mT.float().contiguous()
    return whitening
