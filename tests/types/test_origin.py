"""Whose code raised an exception: told from its traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import layertracer as lt
from layertracer._types import find_origin
from layertracer.models import hooking


def raised_by(call: Callable[[], Any]) -> BaseException:
    """What a call raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    pytest.fail("nothing was raised")


class Broken(nn.Module):
    """A model whose own code raises, inside an operator of PyTorch."""

    def forward(self, ids: Tensor) -> Tensor:
        """Nothing that fits."""
        return ids @ torch.ones(2, 3)


def in_our_hook(_module: nn.Module, _args: Any, _kwargs: Any, _output: Any) -> None:
    """What a hook of LayerTracer's does wrong."""
    lt.Mask().keep_array(n_layers=0, width=10)


def test_a_models_own_code_is_not_ours() -> None:
    """What a module's forward raises, however deep in PyTorch, is the model's, with its file and line."""
    origin = find_origin(raised_by(lambda: Broken()(torch.ones(1))))
    assert not origin.is_ours
    assert "test_origin.py, line " in origin.where


def test_a_module_of_pytorch_that_is_run_is_the_models() -> None:
    """A layer of PyTorch called from LayerTracer's code on wrong values is a part of a model."""
    layer = nn.Linear(2, 3)
    with hooking([layer]):
        error = raised_by(lambda: nn.Sequential(layer)(torch.ones(1, 5)))
    assert not find_origin(error).is_ours


@pytest.mark.parametrize(
    "call", [lambda: lt.Mask().keep_array(n_layers=0, width=10), lambda: lt.Mask(fraction=2.0)], ids=["NumPy", "own"]
)
def test_what_our_code_raises_is_ours(call: Callable[[], Any]) -> None:
    """An exception in LayerTracer's own lines, or in a library that they call, is LayerTracer's."""
    origin = find_origin(raised_by(call))
    assert origin.is_ours
    assert origin.where.startswith("layertracer/")


def test_a_hook_of_ours_inside_a_model_is_ours() -> None:
    """Where our hook fails while a model runs, the model around it is not to blame."""
    layer = nn.Linear(2, 2)
    with hooking([layer], after=in_our_hook):
        error = raised_by(lambda: layer(torch.ones(1, 2)))
    assert find_origin(error).is_ours


def test_what_nobody_raised_has_no_place() -> None:
    """An exception without a traceback is nobody else's."""
    assert find_origin(ValueError("x")).where == "nowhere in Python"
