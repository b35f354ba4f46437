"""A mutation test of the proof at load: faults are planted into LayerTracer's own private parts, or into a model.

Of each fault it is first shown that it matters: where nobody checks, numbers change or the pass breaks. Then
it is shown that it is caught at load: the model is traced by the plain method with a note, a site is not
offered, or the model is refused; and that what is traced all the same is right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import layertracer as lt
from layertracer.models import BatchAxis, Network, make_network
from layertracer.models._anatomy import wiring as wiring_module
from layertracer.tracing._batching import rows as _rows
from layertracer.tracing._model import TracedModel, prove
from layertracer.tracing._passes import ladder as _ladder
from layertracer.tracing._passes.ladder import LadderPass, LadderRows
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._sites import branch_output as _branch_output

from tests.support.models.faulty import (
    PROMPTS,
    WIDTH,
    Layer,
    Model,
    by_plain_hooks,
    gap,
    numbers,
    unchecked,
)

Planter = Callable[[pytest.MonkeyPatch], Network]
SITES = ("mixer_output", "mlp_output")


@pytest.fixture(scope="module")
def truth() -> tuple[np.ndarray, np.ndarray]:
    """What the model does, by plain hooks."""
    return by_plain_hooks(Model())


def spoils(network: Network, truth: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether the ladder, unproved, gives other numbers or none at all."""
    try:
        return gap(numbers(unchecked(network)), truth) > 1e-2
    except Exception:  # noqa: BLE001  whatever a fault makes of the pass
        return True


def test_without_a_fault_the_ladder_is_proved_and_right(truth: tuple[np.ndarray, np.ndarray]) -> None:
    """Nothing is caught where nothing is planted, and the ladder's numbers, unproved, are right."""
    model = lt.wrap_model(Model())
    assert model.self_check.method == "ladder", model.self_check.notes
    assert all(model.self_check[site].passed for site in SITES)
    assert gap(numbers(model), truth) < 1e-5
    assert gap(numbers(unchecked(model.network)), truth) < 1e-5


# ---------------------------------------------------------------- faults in the ladder


def _rewired(network: Network, change: Callable[[Any], Any]) -> Network:
    """The network with the wiring of every layer changed."""
    layers = tuple(replace(layer, wiring=change(layer.wiring)) for layer in network.anatomy.layers)
    return replace(network, anatomy=replace(network.anatomy, layers=layers))


def _network() -> Network:
    return make_network(Model(), name="planted")


def heads_taken_for_rows(monkeypatch: pytest.MonkeyPatch) -> Network:
    """A tensor of batch × heads is taken for one of as many rows."""
    real = wiring_module.batch_axis

    def one_per_row(*shapes: Any) -> BatchAxis | None:
        found = real(*shapes)
        return found and BatchAxis(found.axis, 1)

    monkeypatch.setattr(wiring_module, "batch_axis", one_per_row)
    return _network()


def positions_taken_for_rows(_: pytest.MonkeyPatch) -> Network:
    """The mask's axis of positions is taken for its batch."""
    return _rewired(
        _network(), lambda wiring: replace(wiring, inputs=(wiring.inputs[0], BatchAxis(1, 1), *wiring.inputs[2:]))
    )


def batch_axis_overlooked(_: pytest.MonkeyPatch) -> Network:
    """The mask is not known to have a batch axis, so that it does not grow."""
    return _rewired(_network(), lambda wiring: replace(wiring, inputs=(wiring.inputs[0], None, *wiring.inputs[2:])))


def mask_of_another_prompt(monkeypatch: pytest.MonkeyPatch) -> Network:
    """All rows get the first prompt's mask, as if prompts of one length had the same."""
    monkeypatch.setattr(_rows, "_all_rows_alike", lambda leaf, axis: leaf.ndim == 2 or leaf.shape[axis] == 1)
    return _network()


def second_output_of_the_clean_row(monkeypatch: pytest.MonkeyPatch) -> Network:
    """What a layer hands on beside the stream is the clean row's in the perturbed rows as well."""
    real = _ladder.expand_leaves

    def of_clean_rows(leaves: Any, axes: Any, *, n_clean: int, n_rows: int) -> list[Any]:
        values = real(leaves, axes, n_clean=n_clean, n_rows=n_rows)
        values[-1] = values[-1][:n_clean].repeat(n_rows // n_clean, 1, 1)
        return values

    monkeypatch.setattr(_ladder, "expand_leaves", of_clean_rows)
    return _network()


def perturbed_one_layer_late(monkeypatch: pytest.MonkeyPatch) -> Network:
    """What is perturbed after a layer counts as the layer's before, and the first layer's as the last one's."""
    real = LadderPass.run

    def late(self: LadderPass) -> LadderRows:
        rows = real(self)
        n_draws = len({draw for _, draw in rows.variants})
        return replace(rows, variants=[*rows.variants[-n_draws:], *rows.variants[:-n_draws]])

    monkeypatch.setattr(LadderPass, "run", late)
    return _network()


def divergences_of_another_prompt(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Perturbed rows come back in another order of prompts than the clean ones."""
    real = LadderPass.run

    def rolled(self: LadderPass) -> LadderRows:
        rows = real(self)
        return replace(rows, perturbed=rows.perturbed.roll(1, dims=1) if rows.variants else rows.perturbed)

    monkeypatch.setattr(LadderPass, "run", rolled)
    return _network()


def lens_rows_from_the_position_before(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Rungs are read one position too early."""
    real = _ladder.gather_rows
    monkeypatch.setattr(
        _ladder, "gather_rows", lambda rows, wiring, read, *, length: real(rows, wiring, [read[0] - 1], length=length)
    )
    return _network()


def lens_rows_one_layer_early(monkeypatch: pytest.MonkeyPatch) -> Network:
    """A rung is what enters its layer; only the last one is what leaves it."""
    real = LadderPass.run

    def early(self: LadderPass) -> LadderRows:
        rows = real(self)
        return replace(rows, lens_rows=[rows.embedding, *rows.lens_rows[:-2], rows.lens_rows[-1]])

    monkeypatch.setattr(LadderPass, "run", early)
    return _network()


def layers_swapped(_: pytest.MonkeyPatch) -> Network:
    """Two layers stand in each other's place, index and all."""
    network = _network()
    first, second, third, last = network.anatomy.layers
    layers = (first, replace(third, index=1), replace(second, index=2), last)
    return replace(network, anatomy=replace(network.anatomy, layers=layers))


def norm_twice(monkeypatch: pytest.MonkeyPatch) -> Network:
    """The tail norms what has been normed."""
    real = Tail.__call__
    network = _network()
    module: Any = network.module
    monkeypatch.setattr(Tail, "__call__", lambda self, rows: real(self, module.norm(rows)))
    return network


def softcap_missing(monkeypatch: pytest.MonkeyPatch) -> Network:
    """The tail is norm and unembedding, and the cap is forgotten."""
    network = _network()
    module: Any = network.module
    monkeypatch.setattr(Tail, "__call__", lambda _self, rows: module.unembed(module.norm(rows)))
    return network


LADDER_FAULTS = (
    heads_taken_for_rows,
    positions_taken_for_rows,
    batch_axis_overlooked,
    mask_of_another_prompt,
    second_output_of_the_clean_row,
    perturbed_one_layer_late,
    divergences_of_another_prompt,
    lens_rows_from_the_position_before,
    lens_rows_one_layer_early,
    layers_swapped,
    norm_twice,
    softcap_missing,
)


@pytest.mark.parametrize("fault", LADDER_FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_in_the_ladder_is_caught_at_load(
    fault: Planter, truth: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that spoils the ladder's numbers leaves the plain method, which says so and is right, or a refusal."""
    unchecked(_network())  # what is trusted is proved before the fault is planted
    network = fault(monkeypatch)
    assert spoils(network, truth), "the fault changes nothing, so that catching it would prove nothing"
    try:
        model = prove(network)
    except lt.LayerTracerError:
        return
    assert model.self_check.method == "plain"
    assert "ladder pass does not" in model.self_check.notes[0]
    assert gap(numbers(model), truth) < 1e-5


# ---------------------------------------------------------------- faults at the sites


def _with_additions(index: int, change: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Network:
    """The network with what is known of the additions of one layer changed."""
    network = _network()
    layers = list(network.anatomy.layers)
    additions = layers[index].additions
    layers[index] = replace(layers[index], additions=replace(additions, found=change(additions.found)))
    return replace(network, anatomy=replace(network.anatomy, layers=tuple(layers)))


def addition_overlooked(_: pytest.MonkeyPatch) -> Network:
    """What the MLP of a layer adds is not known, so that nothing of it is masked."""
    return _with_additions(2, lambda found: tuple(one for one in found if one.role != "mlp"))


def roles_exchanged(_: pytest.MonkeyPatch) -> Network:
    """What a layer's mixer adds counts as its MLP's, and the other way round."""
    other = {"mixer": "mlp", "mlp": "mixer"}
    return _with_additions(1, lambda found: tuple(replace(one, role=other[one.role]) for one in found))


def stream_taken_for_the_branch(_: pytest.MonkeyPatch) -> Network:
    """Of the two that are added, the stream is taken for what a part adds."""
    return _with_additions(0, lambda found: tuple(replace(one, operand=1 - one.operand) for one in found))


def addition_of_another_prompt(monkeypatch: pytest.MonkeyPatch) -> Network:
    """What the perturbed rows add is made of what another prompt adds."""
    real = _branch_output.from_rows_first
    monkeypatch.setattr(_branch_output, "from_rows_first", lambda rows, wiring: real(rows.roll(1, dims=0), wiring))
    return _network()


@pytest.mark.parametrize(
    "fault",
    [addition_overlooked, roles_exchanged, stream_taken_for_the_branch, addition_of_another_prompt],
    ids=lambda fault: fault.__name__,
)
def test_a_fault_at_a_site_is_caught_at_load(fault: Planter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what is masked is not what the part adds, the site is not offered."""
    sound = lt.wrap_model(Model())
    right = {site: numbers(sound, site)[1] for site in SITES}
    network = fault(monkeypatch)
    trusted = replace(unchecked(network), self_check=sound.self_check)
    spoilt = [site for site in SITES if _spoils_site(trusted, site, right[site])]
    assert spoilt, "the fault changes nothing, so that catching it would prove nothing"
    model = prove(network)
    for site in spoilt:
        with pytest.raises(lt.SiteError, match="proved"):
            numbers(model, site)


def _spoils_site(model: TracedModel, site: str, right: np.ndarray) -> bool:
    try:
        found = numbers(model, site)[1]
    except lt.LayerTracerError:
        return True
    return not np.abs(found - right).max() < 1e-3  # a layer without a number is spoilt too


# ---------------------------------------------------------------- faults of a model


class BatchStatistics(Layer):
    """A layer whose MLP is moved by the mean over the batch."""

    def forward(self, stream: Tensor, shown: Tensor, gate: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        """As the layer's, with a neighbour's influence."""
        stream, carry = super().forward(stream, shown, gate, carry)
        return stream + 0.5 * (stream.mean(dim=0, keepdim=True) - stream).tanh(), carry


class SharedCapacity(Layer):
    """A layer that serves some tokens only: those of all rows compete for its room, large ones first."""

    room = 1.0

    def forward(self, stream: Tensor, shown: Tensor, gate: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        """As the layer's; tokens that find no room pass by."""
        served, carry = super().forward(stream, shown, gate, carry)
        score = stream.square().sum(-1)
        room = max(1, int(self.room * score.numel()))
        admitted = score >= score.flatten().topk(room).values[-1]
        return torch.where(admitted[..., None], served, stream), carry


class KeepsItsMask(Layer):
    """A layer that keeps the first mask of every shape."""

    def forward(self, stream: Tensor, shown: Tensor, gate: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        """As the layer's, with the mask of an earlier call."""
        kept = self.__dict__.setdefault("kept", {})
        return super().forward(stream, kept.setdefault(shown.shape, shown), gate, carry)


class GoesOn(Layer):
    """A layer that begins where its last call ended."""

    def forward(self, stream: Tensor, shown: Tensor, gate: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        """As the layer's, with the last state of the call before."""
        state = self.__dict__.get("state", torch.zeros(WIDTH))
        stream, carry = super().forward(stream + state, shown, gate, carry)
        self.__dict__["state"] = stream[-1, -1].tanh().clone()
        return stream, carry


def _with_layer(layer: type[Layer]) -> Model:
    """The model with its third layer of another class and the same parameters."""
    module = Model()
    other = layer()
    other.load_state_dict(module.layers[2].state_dict())
    module.layers[2] = other
    return module


@pytest.mark.parametrize(
    ("layer", "room"),
    # With more room the clean prompts of a probe find it all the same, and only perturbed ones show that they compete.
    [(BatchStatistics, 1.0), *((SharedCapacity, room) for room in (0.5, 0.8, 0.9, 0.95, 0.99))],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_rows_that_see_one_another_run_one_at_a_time(
    layer: type[Layer], room: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What leaks from row to row is noticed, also where only perturbed rows leak; numbers are each prompt's own."""
    monkeypatch.setattr(SharedCapacity, "room", room)
    own = by_plain_hooks(_with_layer(layer))
    assert spoils(make_network(_with_layer(layer), name="leaks"), own)
    model = lt.wrap_model(_with_layer(layer))
    assert (model.self_check.method, model.self_check.row_by_row) == ("plain", True)
    assert gap(numbers(model), own) < 1e-5


@pytest.mark.parametrize("layer", [GoesOn, KeepsItsMask])
def test_state_kept_between_calls_is_refused(layer: type[Layer]) -> None:
    """A model whose answer depends on what it was asked before has no answer of its own."""
    first, second = (torch.tensor([ids]) for ids in PROMPTS[:2])
    module, used = _with_layer(layer), _with_layer(layer)
    with torch.no_grad():
        used(second)
        assert (used(first) - module(first)).abs().max() > 1e-2
    with pytest.raises(lt.SelfCheckError, match="between calls"):
        lt.wrap_model(_with_layer(layer))
