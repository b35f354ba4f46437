"""Proof of the plain method: at every layer, on prompts of two lengths, it gives what PyTorch's own hooks give.

It does on the probes all that a trace does, so that what fails in every trace fails at load.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from layertracer._errors import LayerTracerError, SelfCheckError, printable_cause
from layertracer._types import Check
from layertracer.models import Network, is_out_of_memory
from layertracer.tracing._distributions.js_divergence import js_divergence
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._failures import is_of_callers_making
from layertracer.tracing._passes.plain import plain_logits, plain_perturbed, plain_readout
from layertracer.tracing._proofs.checks import judge, largest_difference, worst_of
from layertracer.tracing._proofs.plain_hooks import hooked_perturbed, hooked_readouts
from layertracer.tracing._proofs.probes import half_masked

_LENGTHS = (7, 12)


class _Errors(NamedTuple):
    """What is measured on one prompt."""

    plain_readout: float
    plain_lens: float
    plain_identity: float
    plain_mask: float


def prove_plain(network: Network) -> tuple[Check, ...]:
    """The checks of the plain method, all of them passed.

    Args:
        network: The model.

    Raises:
        SelfCheckError: If one failed, or the model's code raises when it is read so.
    """
    try:
        by_length = [_measure(network, length=length, seed=seed) for seed, length in enumerate(_LENGTHS, start=1)]
    except Exception as error:
        if isinstance(error, LayerTracerError) or is_out_of_memory(error) or is_of_callers_making(error):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SelfCheckError(
            f"{network.name!r} cannot be read: the model runs by itself, but not with one layer's stream exchanged "
            f"({reason}). Its layers must take the stream and return it at every length; let what else they hand on "
            "not depend on how many rows and positions there were before, then load it again."
        ) from printable_cause(error)
    worst = _Errors(*map(worst_of, zip(*by_length, strict=True)))
    checks = tuple(judge(network, name, error) for name, error in worst._asdict().items())
    failed = [check for check in checks if not check.passed]
    if failed:
        found = ", ".join(f"{check.name}: {check.error:.2g} {check.unit}" for check in failed)
        raise SelfCheckError(
            f"{network.name!r} cannot be read rightly: not even one hooked forward at a time agrees with the model "
            f"itself ({found}). Two runs on the same tokens may differ (randomness, state kept between calls): make "
            "the model deterministic and stateless, then load it again."
        )
    return checks


def _measure(network: Network, *, length: int, seed: int) -> _Errors:
    """The errors on one prompt."""
    network, ids = network.probe(batch=1, length=length, seed=seed)
    read, n_layers = [length - 1], network.anatomy.n_layers
    own = log_probs_of(plain_logits(network, ids, read=read))
    readouts = {
        layer: log_probs_of(plain_readout(network, ids, read=read, layer=layer)) for layer in range(-1, n_layers)
    }
    hooked = {
        layer: log_probs_of(hooked_readouts(network, ids, read=read, layers=[layer])) for layer in range(-1, n_layers)
    }
    perturber = half_masked(network, "block_output")

    def perturbed(run: Callable[..., Tensor], layer: int, draw: int) -> Tensor:
        log_probs = log_probs_of(run(network, ids, read=read, perturber=perturber, layer=layer, draw=draw))
        return js_divergence(log_probs, own)

    layers = range(n_layers)
    return _Errors(
        plain_readout=largest_difference(readouts[n_layers - 1], own),
        plain_lens=worst_of(largest_difference(readouts[layer], hooked[layer]) for layer in readouts),
        plain_identity=worst_of(float(perturbed(plain_perturbed, layer, 0).max()) for layer in layers),
        plain_mask=worst_of(
            largest_difference(perturbed(plain_perturbed, layer, 1), perturbed(hooked_perturbed, layer, 1))
            for layer in layers
        ),
    )
