"""The oracles are themselves held to laws, so that a wrong table cannot agree with a wrong tool."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.models.families import BRANCHES, BY_NAME, Family, build_tiny
from tests.support.oracles.plain_hooks import (
    js_bits,
    masking,
    plain_embedding_readout,
    plain_js,
    plain_log_probs,
    plain_readouts,
)

PROMPT = (3, 17, 54, 92, 8, 41, 66, 23, 71, 5, 38)
NAMES = tuple(BY_NAME)
INNER_INPUTS = {("rwkv", 0): "pre_ln"}
"""Layers that transform the stream before their branches read it, by the module that does so."""


@pytest.mark.parametrize("name", NAMES)
def test_masking_all_of_every_branch_makes_a_layer_the_identity(name: str) -> None:
    """Where mixer and MLP add nothing, the layer returns what it received: the table names the right modules."""
    family, module = BY_NAME[name], build_tiny(name)
    nothing = torch.zeros(family.d_model)
    for layer, block in enumerate(module.get_submodule(family.layers)):
        with ExitStack() as stack:
            for site in family.sites[1:]:
                stack.enter_context(masking(block, nothing, branch=BRANCHES[name][site]))
            received, returned = _pass_through(module, block, INNER_INPUTS.get((name, layer)))
        assert torch.equal(received, returned), f"layer {layer}"


@pytest.mark.parametrize("name", [name for name in NAMES if len(BY_NAME[name].sites) == 3])
@pytest.mark.parametrize("site", ["mixer_output", "mlp_output"])
def test_a_mask_on_one_branch_touches_only_the_masked_dimensions(name: str, site: str) -> None:
    """With the other branch silent, masked dimensions pass unchanged and all others as without the mask."""
    family, module = BY_NAME[name], build_tiny(name)
    other = "mlp_output" if site == "mixer_output" else "mixer_output"
    keep = (torch.arange(family.d_model) % 3 != 0).float()
    for layer, block in enumerate(module.get_submodule(family.layers)):
        inner = INNER_INPUTS.get((name, layer))
        with masking(block, torch.zeros(family.d_model), branch=BRANCHES[name][other]):
            received, whole = _pass_through(module, block, inner)
            with masking(block, keep, branch=BRANCHES[name][site]):
                _, masked = _pass_through(module, block, inner)
        kept = keep.bool()
        assert torch.allclose(masked[..., ~kept], received[..., ~kept], atol=1e-6)
        assert torch.allclose(masked[..., kept], whole[..., kept], atol=1e-5)
        assert not torch.allclose(masked, whole, atol=1e-2), f"layer {layer}: the branch adds next to nothing"


@pytest.mark.parametrize("name", NAMES)
def test_the_last_readout_is_the_model_itself(name: str) -> None:
    """No later layer is left to silence, so the last readout is the model's own distribution; the first ones differ."""
    family, module = BY_NAME[name], build_tiny(name)
    readouts = plain_readouts(module, family.layers, PROMPT)
    assert readouts.shape == (family.n_layers, family.d_vocab)
    assert np.array_equal(readouts[-1], plain_log_probs(module, PROMPT))
    embedding = plain_embedding_readout(module, family.layers, PROMPT)
    curve = [embedding, *readouts]
    assert min(js_bits(before, after) for before, after in itertools.pairwise(curve)) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_masks_matter_at_every_layer_and_site(name: str) -> None:
    """A mask that keeps everything gives 0, one that drops a third gives a divergence that can be measured."""
    family, module = BY_NAME[name], build_tiny(name)
    keep = np.ones((family.n_layers, 2, family.d_model), dtype=bool)
    keep[:, 1, ::3] = False
    for site in family.sites:
        bits = plain_js(module, family.layers, PROMPT, keep=keep, branches=BRANCHES[name], site=site)
        assert np.all(np.abs(bits[0]) < 1e-9)  # torch leaves its fused path where there are hooks
        assert np.all(bits[1] > 1e-4), f"{site}: {bits[1]}"
        assert np.all(bits[1] <= 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_no_parameter_is_at_its_default(name: str) -> None:
    """Every parameter varies: none is all ones, all zeros or any other constant."""
    for parameter_name, parameter in build_tiny(name).named_parameters():
        assert parameter.float().std() > 0.03, parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_models_are_tiny_and_their_logits_spread(name: str) -> None:
    """Fewer than 0.8 million parameters, logits of a standard deviation around 2.5, softcaps at work."""
    family, module = BY_NAME[name], build_tiny(name)
    assert sum(parameter.numel() for parameter in module.parameters()) < 800_000
    log_probs = plain_log_probs(module, PROMPT)
    assert 1.5 < log_probs.std() < 4.0
    assert len(module.get_submodule(family.layers)) == family.n_layers


@pytest.mark.parametrize("name", ["mistral", "qwen2", "gemma2", "gemma3_text"])
def test_sliding_windows_matter(name: str) -> None:
    """A token beyond the window of a sliding layer cannot move that layer's last position; a nearer one can."""
    family, module = BY_NAME[name], build_tiny(name)
    for layer, kind in enumerate(family.mixers):
        block = module.get_submodule(family.layers)[layer]
        far, near = (_moves_last_position(module, block, position) for position in (2, 8))
        assert near
        assert far == (kind == "attention"), f"layer {layer} ({kind})"


@pytest.mark.parametrize(("name", "cap"), [("gemma2", 5.0), ("gemma3_text", 5.0)])
def test_softcaps_are_active(name: str, cap: float) -> None:
    """The largest logits are near the cap, so that a readout without it would be far off."""
    module = build_tiny(name)
    with torch.no_grad():
        logits = module(torch.tensor([PROMPT]), use_cache=False).logits
    assert 0.7 * cap < logits.abs().max() < cap


def _pass_through(module: nn.Module, block: nn.Module, inner: str | None) -> tuple[Tensor, Tensor]:
    """What a layer receives (after the module `inner`, if any) and returns on the way of a prompt."""
    seen: dict[str, Tensor] = {}

    def outer(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        seen["received"] = args[0] if args else kwargs["hidden_states"]
        seen["returned"] = output[0] if isinstance(output, tuple) else output

    handle = block.register_forward_hook(outer, with_kwargs=True)
    plain_log_probs(module, PROMPT)
    handle.remove()
    received = seen["received"] if inner is None else block.get_submodule(inner)(seen["received"])
    return received, seen["returned"]


def _moves_last_position(module: nn.Module, block: nn.Module, position: int) -> bool:
    """Whether the layer's output at the last position depends on its input at an earlier one."""
    outputs = []
    for shift in (0.0, 3.0):

        def nudge(_: nn.Module, args: tuple[Any, ...], shift: float = shift) -> tuple[Any, ...]:
            stream = args[0].clone()
            stream[:, position, ::2] += shift
            return (stream, *args[1:])

        handles = [
            block.register_forward_pre_hook(nudge),
            block.register_forward_hook(lambda *call: outputs.append(call[-1])),
        ]
        plain_log_probs(module, PROMPT)
        for handle in handles:
            handle.remove()
    first, second = (output[0] if isinstance(output, tuple) else output for output in outputs)
    return not torch.equal(first[:, -1], second[:, -1])


def test_every_family_has_its_table() -> None:
    """A family without branches written down would be tested at one site only, unnoticed."""
    families: list[Family] = list(BY_NAME.values())
    assert {family.name for family in families} <= set(BRANCHES)
    assert all(BRANCHES[family.name][site] for family in families for site in family.sites[1:])
