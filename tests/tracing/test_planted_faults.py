"""The models with planted faults are what they say: sound on a short probe, and nothing at its default."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import layertracer as lt

from tests.support.models.planted_decoder import LAYERS, N_LAYERS
from tests.support.models.planted_fault_models import BEYOND, RARE, SURE
from tests.support.models.planted_faults import FAULTS, FaultCase


def _name(case: FaultCase) -> str:
    return case.name


def _logits(case: FaultCase, ids: tuple[int, ...]) -> Tensor:
    """Logits of the next token, of one prompt on a fresh module."""
    with torch.no_grad():
        output = case.build()(torch.tensor([ids]))
    logits: Tensor = (output["logits"] if isinstance(output, dict) else output)[0, -1]
    return logits


@pytest.mark.parametrize("case", FAULTS, ids=_name)
def test_model_is_as_a_user_would_bring_it(case: FaultCase) -> None:
    """Gradients on, evaluation mode, no parameter constant, logits spread, and the same again from a fresh module."""
    module = case.build()
    assert not module.training
    for path, parameter in module.named_parameters():
        assert parameter.requires_grad, path
        assert (parameter != parameter.flatten()[0]).any(), path
    short = (5, 9, 17, 31, 8)
    assert 1.2 < _logits(case, short).std() < 5
    torch.testing.assert_close(_logits(case, short), _logits(case, short), rtol=0, atol=0)


@pytest.mark.parametrize("case", FAULTS, ids=_name)
def test_proof_at_load_sees_nothing(case: FaultCase) -> None:
    """On short probes nothing is wrong: the ladder is taken, and the layers are those that the module has."""
    model = lt.wrap_model(case.build())
    if case.name == "batch_exits_early":  # seen by how it decides, not by what comes of it
        assert model.self_check.method == "plain"
        return
    assert model.self_check.method == "ladder"
    assert not model.self_check.row_by_row
    assert all(check.passed for check in model.self_check.checks)
    assert [layer.path for layer in model.anatomy.layers] == [f"{LAYERS}.{index}" for index in range(N_LAYERS)]


def test_kinds_are_many_and_differ() -> None:
    """At least sixteen kinds, each under a name of its own and with several prompts."""
    names = [case.name for case in FAULTS]
    assert len(set(names)) == len(names) >= 16
    assert all(len(case.prompts) >= 6 for case in FAULTS)


def test_prompts_are_what_the_faults_need() -> None:
    """Where a fault is one of length or of certain tokens, the prompts have them, and others beside."""
    for case in FAULTS:
        if f"more than {BEYOND} tokens" in case.needs:
            assert max(map(len, case.prompts)) > BEYOND, case.name
        if case.name.endswith("early"):
            assert 0 < sum(ids[-1] == SURE for ids in case.prompts) < len(case.prompts)
        if case.name.startswith("rare"):
            assert 0 < sum(ids[:2] == (RARE, RARE) for ids in case.prompts) < len(case.prompts)
