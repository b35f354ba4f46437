"""Cells of causal tracing against a plain loop of hooked forwards, on models in float64 with their gradients on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest
from torch import nn

import layertracer as lt
from layertracer.tracing import CausalOptions, CausalPrompt, run_causal

from tests.architectures.read_by_hand.table import TABLE
from tests.support.models.families import BY_NAME, Family, build_family
from tests.support.oracles.patching import PlainPatching, draw_noise, spread_of
from tests.support.oracles.plain_hooks import Branches
from tests.support.tiny import fresh

TOLERANCE = 1e-5
LONG = Family(
    name="llama",
    settings={**BY_NAME["llama"].settings, "max_position_embeddings": 256, "num_hidden_layers": 3},
)


def make_prompts(n_tokens: int, *, lengths: Sequence[int] = (11, 14, 11), seed: int = 0) -> list[CausalPrompt]:
    """Prompts that are corrupted at two or three of their first tokens, each from a position of its own."""
    generator = np.random.default_rng(seed)
    prompts = []
    for index, length in enumerate(lengths):
        first, end = 1 + index, 4 + index // 2
        ids, other = (generator.integers(3, n_tokens, length) for _ in range(2))
        corrupted = np.concatenate([ids[:first], other[first:end], ids[end:]])
        corrupted[first] = (ids[first] - 2) % (n_tokens - 3) + 3
        prompts.append(
            CausalPrompt(
                index=10 * index + 3,
                ids=tuple(ids.tolist()),
                corrupted_ids=tuple(corrupted.tolist()),
                span=(first, end),
                answers=(int(ids[0]), int(other[0]), int(ids[0])),
                contrast_answers=(int(other[1]),) if index else (),
            )
        )
    return prompts


class Place(NamedTuple):
    """Where a family's layers and branches are, as read by hand."""

    layers: str
    branches: Branches


def place_of(name: str) -> Place:
    """Of a quick family, or of one of the registry."""
    read = BY_NAME[name].read if name in BY_NAME else TABLE[name]
    return Place(read.layers, {"mixer_output": read.mixer_branch, "mlp_output": read.mlp_branch})


def hold_against_loop(
    module: nn.Module,
    family: Place,
    prompts: Sequence[CausalPrompt],
    *,
    stride: int = 1,
    log_tolerance: float = 4 * TOLERANCE,
    **options: Any,
) -> str:
    """All cells, or every so many, by both; which method was taken."""
    module = module.double()
    if hasattr(module, "set_experts_implementation"):
        module.set_experts_implementation("eager")  # the grouped product takes no float64
    asked = CausalOptions(**{"draws": 2, "audit": 0.0, "seed": 5, "noise_scale": 2.0, **options})
    found = run_causal(lt.wrap_model(module), prompts, asked, min_total_effect=0)
    embedding: Any = (
        module.get_input_embeddings() if hasattr(module, "get_input_embeddings") else module.transformer["wte"]
    )
    plain = PlainPatching(
        module=module,
        layers=list(module.get_submodule(family.layers)),
        embedding=embedding,
        branches=family.branches,
        site=asked.site,
        window=asked.window,
    )
    std = asked.noise_scale * spread_of(embedding, [prompt.ids[slice(*prompt.span)] for prompt in prompts])
    if asked.corrupt == "noise":
        assert found.noise_std == pytest.approx(std, rel=1e-6)
    for number, prompt in enumerate(prompts):
        clean, corrupted, cells = loop(plain, prompt, asked, std=std, width=embedding.weight.shape[1], stride=stride)
        assert np.abs(found.clean_log_prob[number] - clean[0]) < TOLERANCE
        np.testing.assert_allclose(found.corrupted_log_prob[number], corrupted[:, 0], atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(found.corrupted_contrast_log_prob[number], corrupted[:, 1], atol=TOLERANCE, rtol=0)
        asked_of = ~np.isnan(cells[0, :, :, 0])
        assert np.isnan(found.restored_prob[number, :, : prompt.first]).all()
        assert np.isnan(found.restored_prob[number, :, len(prompt.ids) :]).all()
        own = found.restored_prob[number, :, : len(prompt.ids)]
        if stride == 1:
            assert (~np.isnan(own) == asked_of).all()
        np.testing.assert_allclose(own[asked_of], np.exp(cells[..., 0]).mean(0)[asked_of], atol=TOLERANCE, rtol=0)
        difference = (cells[..., 0] - cells[..., 1]).mean(0)
        of_found = found.restored_difference[number, :, : len(prompt.ids)]
        np.testing.assert_allclose(of_found[asked_of], difference[asked_of], atol=log_tolerance, rtol=0)
    assert found.finished.all()
    return found.method


def loop(
    plain: PlainPatching, prompt: CausalPrompt, asked: CausalOptions, *, std: float, width: int, stride: int
) -> tuple[Any, Any, Any]:
    """Clean [2], corrupted [draw, 2] and cells [draw, layer, position, 2]: of the answer and of its contrast."""
    length, answers = len(prompt.ids), (prompt.answers, prompt.contrast_answers)
    cells = np.full((asked.n_draws, len(plain.layers), length, 2), np.nan)
    corrupted = np.full((asked.n_draws, 2), np.nan)
    clean = np.array([plain.log_prob(prompt.ids, one) if one else np.nan for one in answers])
    for draw in range(asked.n_draws):
        noise = draw_noise(
            std, seed=asked.seed, index=prompt.index, draw=draw, span=prompt.span, length=length, width=width
        )
        other = (prompt.corrupted_ids, None) if asked.corrupt == "swap" else (prompt.ids, noise)
        runs = [(prompt.ids, None), other]
        (base, base_noise), (donor, donor_noise) = reversed(runs) if asked.direction == "denoise" else runs
        values = plain.copy(donor, noise=donor_noise)
        for which, tokens in enumerate(answers):
            if not tokens:
                continue
            corrupted[draw, which] = plain.log_prob(other[0], tokens, noise=other[1])
            for layer, position in list(product(range(len(plain.layers)), range(prompt.first, length)))[::stride]:
                cells[draw, layer, position, which] = plain.cell(
                    base, tokens, values, layer=layer, position=position, noise=base_noise
                )
    if not prompt.contrast_answers:
        cells[..., 1] = np.nan
    return clean, corrupted, cells


IN_FLOAT32 = {"zamba2": 1e-3}
"""Log-probabilities of models that compute parts of their layers in float32 whatever their type is."""

CASES = [
    ("llama", "block_output", "noise", "denoise", 1),
    ("llama", "mixer_output", "swap", "noise", 3),
    ("gpt2", "mlp_output", "noise", "noise", 3),
    ("jamba", "mixer_output", "noise", "denoise", 4),
    ("gemma2", "block_output", "swap", "denoise", 3),
    ("qwen3_moe", "mlp_output", "swap", "denoise", 1),
    ("nanogpt", "mixer_output", "noise", "denoise", 1),
]
FURTHER = [
    ("llama", "mlp_output", "swap", "denoise", 4),
    ("gpt2", "block_output", "swap", "denoise", 4),
    ("mamba", "block_output", "noise", "denoise", 1),
    ("mamba", "mixer_output", "swap", "denoise", 3),
    ("jamba", "block_output", "swap", "noise", 1),
    ("gemma2", "block_output", "noise", "noise", 3),
    ("gemma2", "mixer_output", "swap", "denoise", 1),
    ("qwen3_moe", "block_output", "noise", "denoise", 3),
    ("qwen3_next", "mixer_output", "swap", "denoise", 1),
    ("gpt_neox", "mlp_output", "noise", "denoise", 3),
    ("rwkv", "block_output", "noise", "denoise", 1),
    ("zamba2", "block_output", "noise", "denoise", 2),
    ("falcon_h1", "mixer_output", "noise", "denoise", 2),
    ("gemma3_text", "block_output", "noise", "denoise", 1),
]


@pytest.mark.parametrize(
    ("name", "site", "corrupt", "direction", "window"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in FURTHER)],
)
def test_cells_are_those_of_a_plain_loop(name: str, site: str, corrupt: str, direction: str, window: int) -> None:
    """Every cell is what a hooked forward of its own says: both corruptions and directions, sites, windows."""
    method = hold_against_loop(
        fresh(name),
        place_of(name),
        make_prompts(101),
        log_tolerance=IN_FLOAT32.get(name, 4 * TOLERANCE),
        site=site,
        corrupt=corrupt,
        direction=direction,
        window=window,
    )
    assert method == "ladder"


@pytest.mark.parametrize(("site", "corrupt"), [("block_output", "noise"), ("mlp_output", "swap")])
def test_cells_of_long_prompts(site: str, corrupt: str) -> None:
    """The same on prompts of up to 200 tokens, some of whose cells are compared."""
    module = build_family(LONG).double()
    prompts = make_prompts(LONG.d_vocab, lengths=(200, 63))
    hold_against_loop(module, place_of("llama"), prompts, stride=71, site=site, corrupt=corrupt, draws=1)
