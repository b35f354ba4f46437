"""However a block spells its additions to the stream, a site is right or refused, never silently something else.

The oracle is the block itself: it carries masks of its own, which multiply what each branch adds, wherever that is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt

from tests.support.models.plain_modules import CausalSelfAttention, FeedForward
from tests.support.oracles.plain_hooks import js_bits, plain_log_probs

D_MODEL, N_LAYERS = 32, 3
PROMPTS = ((5, 9, 33, 71, 2, 68), (8, 44, 12, 90), (27, 61, 3, 56, 19, 77))
Add = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""How the first branch of a block is joined to the stream: (block, stream, what the branch gives)."""


def _add_in_place(_: nn.Module, stream: Tensor, added: Tensor) -> Tensor:
    stream = stream.clone()
    stream += added
    return stream


def _add_to_the_branch_in_place(_: nn.Module, stream: Tensor, added: Tensor) -> Tensor:
    return added.add_(stream)


def _flattened(_: nn.Module, stream: Tensor, added: Tensor) -> Tensor:
    width = stream.shape[-1]
    return (stream.reshape(-1, width) + added.reshape(-1, width)).view(stream.shape)


OFFERED: dict[str, Add] = {
    "sum": lambda _, stream, added: stream + added,
    "sum the other way round": lambda _, stream, added: added + stream,
    "torch.add": lambda _, stream, added: torch.add(stream, added),
    "in place": _add_in_place,
    "in place of the branch": _add_to_the_branch_in_place,
    "scaled": lambda _, stream, added: stream + 0.5 * added,
    "scaled by alpha": lambda _, stream, added: torch.add(stream, added, alpha=0.5),
    "scaled by dimension": lambda block, stream, added: stream + block.scale * added,
    "normed": lambda block, stream, added: stream + block.norm(added),
    "after dropout": lambda _, stream, added: stream + nn.functional.dropout(added, 0.1, training=False),
    "through float64": lambda _, stream, added: (stream.double() + added.double()).float(),
    "flattened": _flattened,
    "stream scaled": lambda _, stream, added: 0.8 * stream + added,
    "stream scaled by dimension": lambda block, stream, added: block.norm.weight * stream + added,
    "highway": lambda block, stream, added: block.scale.sigmoid() * added + (1 - block.scale.sigmoid()) * stream,
}
RIGHT_OR_REFUSED: dict[str, Add] = OFFERED | {
    "subtraction": lambda _, stream, added: stream - (-added),
    "lerp": lambda _, stream, added: torch.lerp(stream, added, 0.3),
    "addcmul": lambda block, stream, added: torch.addcmul(stream, block.scale.expand_as(added), added),
    "stacked": lambda _, stream, added: torch.stack([stream, added]).sum(0),
    "fused with a matrix": lambda _, stream, added: torch.baddbmm(
        stream, added, torch.eye(D_MODEL).expand(stream.shape[0], -1, -1)
    ),
    "both at once": lambda _, stream, added: stream + added + 0.0 * added,
}


class SpelledBlock(nn.Module):
    """A block that joins its attention to the stream in a given way, and can mask what either branch adds."""

    def __init__(self, add: Add) -> None:
        super().__init__()
        self.add = add
        self.norm_1, self.norm_2, self.norm = nn.LayerNorm(D_MODEL), nn.LayerNorm(D_MODEL), nn.LayerNorm(D_MODEL)
        self.norm.bias = None  # so that masking before the norm's scale and after it is told apart by the oracle below
        self.scale = nn.Parameter(torch.ones(D_MODEL))
        self.mixing = CausalSelfAttention(D_MODEL, 4)
        self.thinking = FeedForward(D_MODEL)
        self.keep: dict[str, Tensor] = {}

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after the block."""
        mixed = self.mixing(self.norm_1(stream))
        joined = self.add(self, stream, mixed)
        if "mixer_output" in self.keep:
            silent = self.add(self, stream, torch.zeros_like(mixed))
            joined = silent + self.keep["mixer_output"] * (joined - silent)
        thought = self.thinking(self.norm_2(joined))
        total = self.add(self, joined, thought)
        if "mlp_output" in self.keep:
            silent = self.add(self, joined, torch.zeros_like(thought))
            total = silent + self.keep["mlp_output"] * (total - silent)
        return total * self.keep["block_output"] if "block_output" in self.keep else total


class SpelledModel(nn.Module):
    """A language model of such blocks."""

    @torch.no_grad()
    def __init__(self, add: Add) -> None:
        super().__init__()
        self.embed = nn.Embedding(101, D_MODEL)
        self.blocks = nn.ModuleList([SpelledBlock(add) for _ in range(N_LAYERS)])
        self.norm = nn.LayerNorm(D_MODEL)
        self.head = nn.Linear(D_MODEL, 101)
        self.eval()
        generator = torch.Generator().manual_seed(1)
        for parameter in self.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(
                parameter + 0.3 * noise if parameter.ndim == 1 else 1.5 * noise / parameter.shape[-1] ** 0.5
            )

    def forward(self, ids: Tensor) -> Tensor:
        """Logits."""
        stream = self.embed(ids)
        for block in self.blocks:
            stream = block(stream)
        return self.head(self.norm(stream))


@pytest.mark.parametrize("spelling", RIGHT_OR_REFUSED)
@pytest.mark.parametrize("site", ["block_output", "mixer_output", "mlp_output"])
def test_a_site_is_right_or_refused(spelling: str, site: str) -> None:
    """Masks hit what the branch adds, or the site is refused by name; usual spellings are not refused."""
    module = SpelledModel(RIGHT_OR_REFUSED[spelling])
    model = lt.wrap_model(module, name=spelling)
    keep = np.random.default_rng(2).random((N_LAYERS, 2, D_MODEL)) > 0.3
    bits = _divergences_or_refusal(model, lt.Mask.explicit(keep, site=site))
    if isinstance(bits, lt.SiteError):
        assert site in str(bits)
        assert site != "block_output"
        assert spelling not in OFFERED, str(bits)
        return
    for row, prompt in enumerate(PROMPTS):
        expected = [
            [_divergence(module, prompt, site, layer, mask) for layer, mask in enumerate(draw)]
            for draw in keep.swapaxes(0, 1)
        ]
        np.testing.assert_allclose(bits[row], expected, atol=1e-5, rtol=0)


def _divergence(module: SpelledModel, prompt: tuple[int, ...], site: str, layer: int, keep: np.ndarray) -> float:
    clean = plain_log_probs(module, prompt)
    module.blocks[layer].keep[site] = torch.as_tensor(keep).float()
    try:
        return js_bits(clean, plain_log_probs(module, prompt))
    finally:
        module.blocks[layer].keep.clear()


class NormedTogether(SpelledModel):
    """A model whose blocks norm the sum of both branches before they add it."""

    def __init__(self) -> None:
        super().__init__(OFFERED["sum"])
        for block in self.blocks:
            block.forward = lambda stream, block=block: (
                stream + block.norm(block.mixing(block.norm_1(stream)) + block.thinking(block.norm_2(stream)))
            )


class AddedTogether(SpelledModel):
    """A model whose blocks add both branches to one another first."""

    def __init__(self) -> None:
        super().__init__(OFFERED["sum"])
        for block in self.blocks:
            block.forward = lambda stream, block=block: (
                stream + (block.mixing(block.norm_1(stream)) + block.thinking(block.norm_2(stream)))
            )


@pytest.mark.parametrize("site", ["mixer_output", "mlp_output"])
def test_branches_that_are_changed_together_are_refused(site: str) -> None:
    """A sum of both branches is taken apart where it is added as it is; where it is normed first, it is refused."""
    assert lt.wrap_model(AddedTogether(), name="added").self_check[site].passed
    refused = lt.wrap_model(NormedTogether(), name="normed").self_check
    assert not refused[site].passed
    assert any(site in note and "changed together" in note for note in refused.notes)


class Alternating(SpelledModel):
    """A hybrid in which every other layer has no MLP."""

    def __init__(self) -> None:
        super().__init__(OFFERED["sum"])
        for block in self.blocks[1::2]:
            block.forward = lambda stream, block=block: stream + block.mixing(block.norm_1(stream))


def test_layers_that_lack_a_branch_are_told_apart() -> None:
    """Where some layers have an MLP and others none, those without hold NaN and no others."""
    model = lt.wrap_model(Alternating(), name="alternating")
    assert [layer.mlp for layer in model.anatomy.layers] == ["dense", "none", "dense"]
    bits = _divergences_or_refusal(model, lt.Mask(site="mlp_output", fraction=0.5, draws=2))
    assert not isinstance(bits, lt.SiteError)
    assert np.isnan(bits).all(axis=(0, 1)).tolist() == [False, True, False]
    assert np.isnan(bits).any(axis=(0, 1)).tolist() == [False, True, False]


def _divergences_or_refusal(model: lt.TracedModel, mask: lt.Mask) -> np.ndarray | lt.SiteError:
    samples = [lt.Sample(prompt_ids=prompt, answer_id=4) for prompt in PROMPTS]
    try:
        return lt.trace(model, samples, perturbation=mask).js_bits
    except lt.SiteError as refusal:
        return refusal
