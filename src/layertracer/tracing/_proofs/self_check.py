"""Self-check at load: on a short probe, what LayerTracer reads equals what the model does.

If the ladder fails a check, the model is traced by the plain method and says so. If its prompts see
one another in a batch, they run one at a time. If even that fails, the model is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from layertracer._errors import AnatomyError, NonFiniteError, SelfCheckError
from layertracer._types import Check, SelfCheck, Site
from layertracer.models import (
    Network,
    flatten,
    hooking,
    is_out_of_memory,
    keeping_loaded,
    observe_calls,
    replacing_forward,
    why_not_compilable,
)
from layertracer.tracing._distributions.js_divergence import js_divergence
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._failures import is_of_callers_making
from layertracer.tracing._passes.argument_axes import ArgumentAxes
from layertracer.tracing._passes.ladder import run_ladder
from layertracer.tracing._passes.plain import plain_logits, plain_perturbed, plain_readout
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._proofs.branch_sites import check_sites
from layertracer.tracing._proofs.checks import judge, largest_difference, tolerance_of, worst_of
from layertracer.tracing._proofs.early_exits import decides_between_layers
from layertracer.tracing._proofs.plain_hooks import hooked_readouts
from layertracer.tracing._proofs.plain_method import prove_plain
from layertracer.tracing._proofs.probes import half_masked, one_of_each_kind
from layertracer.tracing._sites.protocol import layers_with

_LOG = logging.getLogger("layertracer")
_N_PROMPTS, _LENGTH, _LENGTH_BETWEEN = 2, 7, 3
_FAR_LARGER = 32.0
_INSTEAD = "it is traced by the plain method, one prompt at a time."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    """A short batch, what the model says about it, and masks to try on it."""

    network: Network
    axes: ArgumentAxes
    ids: Tensor
    own: Tensor

    @property
    def last(self) -> list[int]:
        """The position that is read."""
        return [self.ids.shape[1] - 1]

    @property
    def layers(self) -> list[int]:
        """Layers to try: the first, one in the middle, the last, and one of every kind."""
        layers = self.network.anatomy.layers
        return sorted({0, len(layers) // 2, len(layers) - 1, *one_of_each_kind(self.network)})


def check_network(network: Network, axes: ArgumentAxes) -> SelfCheck:
    """The checks of a model, and the method that they allow.

    Raises:
        NonFiniteError: If its logits are not finite; names the first layer where that shows.
        SelfCheckError: If its layers run in another order than its anatomy says, it keeps something between calls, or
            not even the plain method agrees with the model itself.
    """
    with keeping_loaded(network.outer_modules):
        return _check_network(network, axes)


def _check_network(network: Network, axes: ArgumentAxes) -> SelfCheck:
    network, ids = network.probe(batch=_N_PROMPTS, length=_LENGTH, seed=1)
    everywhere = _in_order(network, lambda: log_probs_of(plain_logits(network, ids, read=range(_LENGTH))))
    own = everywhere[:, -1]
    if bool(own.isnan().any()):
        refuse_non_finite(network, ids)
    _refuse_second_stream(network, ids, own)
    probe = _Probe(network=network, axes=axes, ids=ids, own=own)
    batch = judge(network, "batch", _batch_error(probe, everywhere[-1]))
    if not batch.passed:
        note = (
            f"Prompts of one batch see one another (a prompt alone differs by {batch.error:.2g} nats), so that they "
            "run one at a time, by the plain method."
        )
        return _plain_only(network, (batch,), notes=(note,))
    _refuse_memory(probe)
    if decides_between_layers(network, ids):
        note = (
            "It decides between its layers by what the stream holds, as models that exit early do; rows of a ladder "
            f"would decide together, and {_INSTEAD}"
        )
        return _plain_only(network, (batch,), notes=(note,))
    try:
        checks = (batch, *_ladder_checks(probe))
    except Exception as error:  # whatever a model's code raises means that the ladder is not for it
        if is_out_of_memory(error) or is_of_callers_making(error):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        note = f"The ladder pass does not run on this model ({reason}); {_INSTEAD}"
        return _plain_only(network, (batch,), notes=(note,))
    failed = [check for check in checks if not check.passed]
    if failed:
        found = ", ".join(f"{check.name}: {check.error:.2g} {check.unit}" for check in failed)
        note = f"The ladder pass does not agree with the model ({found}); {_INSTEAD}"
        return _plain_only(network, checks, notes=(note,))
    sites, notes = check_sites(network, ids, masking_error=partial(_masking_error, probe))
    return SelfCheck(checks=(*checks, *sites), method="ladder", notes=notes)


def why_not_compiled(network: Network, axes: ArgumentAxes) -> str | None:
    """Why a network's compiled layers are not used; None where the ladder over them agrees with the model."""
    if reason := why_not_compilable(network):
        return reason
    network, ids = network.probe(batch=_N_PROMPTS, length=_LENGTH, seed=1)
    own = log_probs_of(plain_logits(network, ids, read=[_LENGTH - 1]))[:, 0]
    try:
        checks = _ladder_checks(_Probe(network=network, axes=axes, ids=ids, own=own))
    except Exception as error:  # no compiler, or code that it does not take
        if is_out_of_memory(error) or is_of_callers_making(error):
            raise
        return f"they do not compile ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
    failed = [f"{check.name}: {check.error:.2g} {check.unit}" for check in checks if not check.passed]
    return f"compiled, they do not agree with the model ({', '.join(failed)})" if failed else None


def _plain_only(network: Network, checks: tuple[Check, ...], *, notes: tuple[str, ...]) -> SelfCheck:
    """The verdict for a model whose ladder failed: the plain method, if that agrees with the model on single prompts.

    Prompts then run one at a time. Rows that do not see one another while nothing is perturbed may do so when something
    is (where experts have room for a number of tokens, say), and no probe shows that they never will.
    """
    own_checks = prove_plain(network)
    for note in notes:
        _LOG.warning("%s: %s", network.name, note)
    return SelfCheck(checks=(*checks, *own_checks), method="plain", row_by_row=True, notes=notes)


def refuse_non_finite(network: Network, ids: Tensor) -> None:
    """Raise for logits that are not finite, naming the first layer where that shows."""
    names = ["the embeddings", *(f"layer {layer.index} ({layer.path})" for layer in network.anatomy.layers)]
    for name, lens_row in zip(names, _streams(network, ids), strict=False):
        if not bool(torch.isfinite(lens_row).all()):
            raise NonFiniteError(
                f"The output of {network.name!r} is not finite: NaN or infinity first appears after {name}. Check "
                f"the weights there, or load the model with dtype='float32' (it runs in {network.dtype})."
            )
    raise NonFiniteError(
        f"The output of {network.name!r} is not finite, although every layer's output is: NaN or infinity appears in "
        "the final norm or the unembedding. Check the weights there."
    )


def _streams(network: Network, ids: Tensor) -> list[Tensor]:
    """What enters the first layer and what leaves each."""
    layers = network.anatomy.layers
    calls = observe_calls([layer.module for layer in layers], lambda: network.call(ids))
    entering = calls[0].inputs.values[layers[0].wiring.stream_in]
    leaving = [
        call.outputs.values[layer.wiring.stream_out]
        for call, layer in zip(calls, layers, strict=False)
        if call.outputs is not None
    ]
    return [entering, *leaving]


def _in_order(network: Network, run: Callable[[], Tensor]) -> Tensor:
    """What `run` returns, if the layers run in the order of the anatomy meanwhile.

    Raises:
        SelfCheckError: If they do not.
    """
    output: list[Tensor] = []
    modules = [layer.module for layer in network.anatomy.layers]
    calls = observe_calls(modules, lambda: output.append(run()))
    if [call.module for call in calls] != modules:
        raise SelfCheckError(
            f"{network.name!r} cannot be read: the layers that were found do not run once each, in the order found. "
            "Make its forward call its layers in the same order at every length, then load it again."
        )
    return output[0]


def _refuse_second_stream(network: Network, ids: Tensor, own: Tensor) -> None:
    """Raise for a model whose tail reads two tensors of the stream's shape that leave its last layer.

    Raises:
        AnatomyError: If what stands beside the stream, turned round, changes the output.
    """
    layer = network.anatomy.layers[-1]
    shapes: list[list[int]] = []

    def turn(_: Any, __: Any, ___: Any, output: Any) -> Any:
        leaves = flatten(output)
        stream = leaves.values[layer.wiring.stream_out]
        values = list(leaves.values)
        for index, leaf in leaves.tensors():
            is_beside = leaf.shape == stream.shape and leaf.is_floating_point() and not _shares_memory(leaf, stream)
            if is_beside:
                shapes.append(list(leaf.shape))
                values[index] = leaf.flip(-1)
        return leaves.rebuilt(values) if shapes else output

    def is_own() -> bool:
        found = log_probs_of(plain_logits(network, ids, read=[_LENGTH - 1]))[:, 0]
        return largest_difference(found, own) <= tolerance_of(network, "nats")

    with hooking([layer.module], after=turn):
        is_same = is_own()
    # A model that gives something else each time is refused for that.
    if shapes and not is_same and is_own():
        raise AnatomyError(
            f"{network.name!r} hands two streams from layer to layer, {1 + len(shapes)} tensors of shape {shapes[0]}, "
            "and its output is read from all of them, as in blocks that return (branch, residual) and in reversible "
            "ones: what leaves a layer is no one stream. Where they are only added up behind the last layer, let every "
            "layer return the sum, with None (or zeros) in place of the other, `return hidden + residual, None`, and "
            "load it again. Other models of two streams cannot be traced."
        )


def _shares_memory(one: Tensor, other: Tensor) -> bool:
    return one is other or (not one.is_meta and one.data_ptr() == other.data_ptr())


def _refuse_memory(probe: _Probe) -> None:
    """Raise for a model that remembers an earlier call: the same prompts in the other order must give the same.

    Raises:
        SelfCheckError: If they do not.
    """
    network, source = probe.network, probe.network.call.source
    turned = network if source is None else network.reading(source.flip(0))
    error = largest_difference(
        log_probs_of(plain_logits(turned, probe.ids.flip(0), read=probe.last))[:, 0].flip(0), probe.own
    )
    if not error <= tolerance_of(network, "nats"):
        raise SelfCheckError(
            f"{network.name!r} cannot be read: two prompts in the other order give something else (by {error:.2g} "
            "nats), although a prompt alone gives what it gives in a batch. It keeps something between calls, such as "
            "a mask or a state of its first prompt: make it stateless, then load it again."
        )


def _batch_error(probe: _Probe, own: Tensor) -> float:
    """How far the last prompt alone, and beside a neighbour far larger or smaller, is from what it gives in a batch.

    At all of its positions, [position, d_vocab]: what is taken from an early one need not reach the last.

    Where rows compete (for the room of experts, say), a neighbour of its own size need not change anything.
    """
    alone = log_probs_of(plain_logits(probe.network.row(-1), probe.ids[-1:], read=range(_LENGTH)))[0]
    return worst_of([largest_difference(alone, own), largest_difference(_beside_others(probe), own)])


def _beside_others(probe: _Probe) -> Tensor:
    """The last prompt's log-probabilities between two neighbours whose streams are scaled before the first layer."""
    layer = probe.network.anatomy.layers[0]
    forward, wiring = layer.module.forward, layer.wiring
    source = probe.network.call.source
    network = probe.network if source is None else probe.network.reading(source[[0, -1, 0]])

    def scaled(*args: Any, **kwargs: Any) -> Any:
        leaves = flatten((args, kwargs))
        stream = leaves.values[wiring.stream_in].clone()
        stream.narrow(wiring.batch_axis, 0, 1).mul_(_FAR_LARGER)
        stream.narrow(wiring.batch_axis, 2, 1).div_(_FAR_LARGER)
        args, kwargs = leaves.replaced(wiring.stream_in, stream)
        return forward(*args, **kwargs)

    with replacing_forward(layer.module, scaled):
        return log_probs_of(plain_logits(network, probe.ids[[0, -1, 0]], read=range(_LENGTH)))[1]


def _ladder_checks(probe: _Probe) -> tuple[Check, ...]:
    network = probe.network
    lens, js = _ladder_readings(probe, "block_output", probe.layers, draws=(0, 1))
    return (
        judge(network, "readout", largest_difference(lens[probe.layers[-1]], probe.own)),
        judge(network, "lens", _lens_difference(probe, lens)),
        judge(network, "identity", worst_of(float(js[layer, 0].max()) for layer in probe.layers)),
        judge(network, "ladder", _plain_difference(probe, "block_output", probe.layers, js)),
    )


def _lens_difference(probe: _Probe, lens: dict[int, Tensor]) -> float:
    """Largest difference of the ladder's readouts, at every layer and from the embeddings, from those by hooks.

    The hooked readouts of the first prompt are rows of one batch, as rows do not see one another; a layer that
    disagrees is measured again by the plain method, each prompt alone, which has the last word.
    """
    network, ids, layers = probe.network.row(0), probe.ids[:1], sorted(lens)
    hooked = log_probs_of(hooked_readouts(network, ids, read=probe.last, layers=layers))
    differences = []
    for layer, row in zip(layers, hooked, strict=True):
        difference = largest_difference(lens[layer][:1], row)
        if not difference <= tolerance_of(network, "nats"):
            difference = worst_of(_alone_difference(probe, layer, lens[layer], row) for row in range(_N_PROMPTS))
        differences.append(difference)
    return worst_of(differences)


def _alone_difference(probe: _Probe, layer: int, lens: Tensor, row: int) -> float:
    """How far one prompt's readout after a layer is from the plain method's."""
    network, ids = probe.network.row(row), probe.ids[row].unsqueeze(0)
    plain = log_probs_of(plain_readout(network, ids, read=probe.last, layer=layer))[:, 0]
    return largest_difference(lens[row].unsqueeze(0), plain)


def _ladder_readings(
    probe: _Probe, site: Site, layers: Sequence[int], *, draws: Sequence[int]
) -> tuple[dict[int, Tensor], dict[tuple[int, int], Tensor]]:
    """The ladder's log-probabilities from the embeddings (-1) and after every layer, and its JS, at one site."""
    network = probe.network
    rows = run_ladder(
        network,
        probe.ids,
        read=probe.last,
        perturber=half_masked(network, site),
        variants=dict.fromkeys(layers, draws),
        axes=probe.axes,
    )
    # Another prompt in between: what a layer kept of the probe, for the tail to find, must not pass for the tail's own.
    between, ids = network.probe(batch=1, length=_LENGTH_BETWEEN, seed=2)
    between.call(ids)
    at_tail = torch.cat([torch.stack([rows.embedding, *rows.lens_rows]), rows.perturbed])[:, :, 0]
    log_probs = log_probs_of(Tail(network)(at_tail.flatten(0, 1))).unflatten(0, at_tail.shape[:2])
    n_lenses = 1 + network.anatomy.n_layers
    lens = dict(zip(range(-1, n_lenses - 1), log_probs, strict=False))
    js = {
        variant: js_divergence(perturbed, log_probs[n_lenses - 1])
        for variant, perturbed in zip(rows.variants, log_probs[n_lenses:], strict=True)
    }
    return lens, js


def _plain_difference(probe: _Probe, site: Site, layers: Sequence[int], js: dict[tuple[int, int], Tensor]) -> float:
    """Largest difference of the ladder's JS from the plain method's, which runs the prompts in turn, each alone.

    Alone, because rows that see one another give the same in a batch by either method.
    """
    perturber = half_masked(probe.network, site)
    differences = []
    for layer, row in zip(layers, cycle(range(_N_PROMPTS)), strict=False):
        network, ids = probe.network.row(row), probe.ids[row].unsqueeze(0)
        perturbed = plain_perturbed(network, ids, read=probe.last, perturber=perturber, layer=layer, draw=1)
        plain = js_divergence(log_probs_of(perturbed)[:, 0], probe.own[row].unsqueeze(0))
        differences.append(largest_difference(js[layer, 1][row].unsqueeze(0), plain))
    return worst_of(differences)


def _masking_error(probe: _Probe, site: Site) -> float:
    """How far the ladder's JS at a site is from the plain method's, for a layer of every kind that has the site."""
    layers = one_of_each_kind(probe.network, layers_with(site, probe.network))
    return _plain_difference(probe, site, layers, _ladder_readings(probe, site, layers, draws=(1,))[1])
