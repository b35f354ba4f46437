"""The proof of the sites refuses what is planted wrongly: an addition passed over, or taken for another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch

from layertracer.models import Addition, Network, make_network
from layertracer.tracing._passes.argument_axes import ArgumentAxes
from layertracer.tracing._proofs.self_check import check_network

from tests.architectures.test_additions import OFFERED, SpelledModel

Found = tuple[Addition, ...]


class PostNormModel(SpelledModel):
    """Blocks that norm the stream after each addition."""

    def __init__(self) -> None:
        super().__init__(OFFERED["sum"])
        for block in self.blocks:
            block.forward = lambda stream, block=block: _post_norm(block, stream)


def _post_norm(block: torch.nn.Module, stream: torch.Tensor) -> torch.Tensor:
    stream = block.norm_1(stream + block.mixing(stream))
    return block.norm_2(stream + block.thinking(stream))


@cache
def network(kind: str) -> Network:
    """A model of the kind, understood."""
    return make_network(PostNormModel() if kind == "post-norm" else SpelledModel(OFFERED["sum"]), name=kind)


FAULTS: dict[str, Callable[[Found], Found]] = {
    "the mixer's addition passed over": lambda found: tuple(one for one in found if one.role != "mixer"),
    "the MLP's addition passed over": lambda found: tuple(one for one in found if one.role != "mlp"),
    "the stream taken for the branch": lambda found: tuple(replace(one, operand=1 - one.operand) for one in found),
    "the roles exchanged": lambda found: tuple(
        replace(one, role="mlp" if one.role == "mixer" else "mixer") for one in found
    ),
    "the mixer taken for neither": lambda found: tuple(
        replace(one, role="mlp") if one.role == "mixer" else one for one in found
    ),
}


@pytest.mark.parametrize("kind", ["pre-norm", "post-norm"])
def test_what_was_found_is_proved(kind: str) -> None:
    """Without a fault both sites are offered, with and without norms after the additions."""
    check = check_network(network(kind), ArgumentAxes(network(kind)))
    assert check["mixer_output"].passed
    assert check["mlp_output"].passed


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["pre-norm", "post-norm"])
def test_a_planted_fault_is_caught(kind: str, fault: str) -> None:
    """Where what was found is wrong in the second layer, its sites are not offered."""
    own = network(kind)
    layers = list(own.anatomy.layers)
    additions = layers[1].additions
    layers[1] = replace(layers[1], additions=replace(additions, found=FAULTS[fault](additions.found)))
    faulty = replace(own, anatomy=replace(own.anatomy, layers=tuple(layers)))
    check = check_network(faulty, ArgumentAxes(faulty))
    assert not check["mixer_output"].passed
    assert not check["mlp_output"].passed
