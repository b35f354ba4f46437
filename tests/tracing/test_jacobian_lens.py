"""Jacobian lenses: the mean Jacobian of the last stream, against autograd's own Jacobian of the plain model."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import layertracer as lt
from layertracer.models import without_gradients
from layertracer.tracing import fit_lens
from layertracer.tracing._lens_fitting.jacobian import FIRST_POSITION, prompt_jacobians

from tests.support.tiny import fresh


def plain_jacobian(layers: Any, run: Any, layer: int, read: range) -> Tensor:
    """Mean over p of Σ over p' of d last[p'] / d stream[p], by torch.autograd.functional.jacobian and hooks alone."""
    seen: dict[str, Tensor] = {}

    def stream_of(output: Any) -> Tensor:
        return output[0] if isinstance(output, tuple) else output

    def remember(_module: Any, args: Any, kwargs: Any, output: Any = None) -> None:
        seen["stream"] = (stream_of(output) if layer >= 0 else args[0] if args else kwargs["hidden_states"]).detach()

    place = layers[max(layer, 0)]
    if layer >= 0:
        handle = place.register_forward_hook(remember, with_kwargs=True)
    else:
        handle = place.register_forward_pre_hook(remember, with_kwargs=True)
    run()
    handle.remove()

    def summed(stream: Tensor) -> Tensor:
        last: list[Tensor] = []

        def put_in(_module: Any, args: Any, kwargs: Any) -> Any:
            return ((stream, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": stream})

        def put_out(_module: Any, _args: Any, output: Any) -> Any:
            return (stream, *output[1:]) if isinstance(output, tuple) else stream

        hooks = [
            place.register_forward_hook(put_out)
            if layer >= 0
            else place.register_forward_pre_hook(put_in, with_kwargs=True),
            layers[-1].register_forward_hook(lambda _m, _a, output: last.append(stream_of(output))),
        ]
        with torch.enable_grad():
            run()
        for hook in hooks:
            hook.remove()
        return last[0][0, list(read)].sum(dim=0)

    whole = torch.autograd.functional.jacobian(summed, seen["stream"])
    return whole[:, 0, list(read)].mean(dim=1)


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_the_jacobian_is_autograds_own(name: str) -> None:
    """On tiny models in float64, at every layer and the embeddings, over positions 16 to the last but one."""
    module: Any = fresh(name).double()
    model = lt.wrap_model(module, name=name)
    ids = torch.tensor(np.random.default_rng(1).integers(3, 101, (1, 26)))
    layers = module.transformer.h if hasattr(module, "transformer") else module.model.layers
    with without_gradients():
        found = prompt_jacobians(model.network, ids, first=FIRST_POSITION)
    for layer in range(-1, model.anatomy.n_layers - 1):
        expected = plain_jacobian(layers, lambda: module(ids, use_cache=False), layer, range(16, 25))
        torch.testing.assert_close(found[1 + layer].double(), expected, rtol=1e-5, atol=1e-6)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_jacobian_of_a_trained_miniature_is_autograds_own() -> None:
    """At one layer of a miniature, width 96, all directions in several batches."""
    model = lt.load_model("mini/attention")
    module: Any = model.module
    ids = torch.tensor(np.random.default_rng(2).integers(3, 1800, (1, 40)))
    with without_gradients():
        found = prompt_jacobians(model.network, ids, first=FIRST_POSITION)
    expected = plain_jacobian(module.model.layers, lambda: module(ids, use_cache=False), 4, range(16, 39))
    torch.testing.assert_close(found[5], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_a_row_is_read_as_the_jacobian_times_it_without_a_bias() -> None:
    """The lens is the mean over prompts of their Jacobians, transposed for rows, and says how many prompts it is of."""
    model = lt.wrap_model(fresh("llama"), name="llama")
    rows = np.random.default_rng(3).integers(3, 101, (6, 24)).tolist()
    lens = fit_lens(model, rows, kind="jacobian")
    assert lens.details["n_prompts"] == lens.details["n_passages"]["fit"] == 4
    with without_gradients():
        every = torch.stack(
            [prompt_jacobians(model.network, torch.tensor([row]), first=FIRST_POSITION) for row in rows]
        )
    distances = [
        float((every[list(chosen)].mean(dim=0) - lens.weights.mT).abs().max())
        for chosen in combinations(range(len(rows)), lens.details["n_prompts"])
    ]
    assert min(distances) < 1e-5
    assert not bool(lens.biases.any())
    layer = next(one for one in range(-1, model.anatomy.n_layers - 1) if one not in lens.fallback)
    row = torch.randn(1, model.anatomy.d_model)
    torch.testing.assert_close(lens.translate(row, layer)[0], lens.weights[1 + layer].mT @ row[0])
