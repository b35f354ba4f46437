"""Laws of causal tracing: which numbers must be the same as which others, whatever the model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from layertracer.tracing import CausalOptions, CausalPrompt, CausalReadings, run_causal
from layertracer.tracing._observers.protocol import observing
from layertracer.tracing._passes.row_groups import Edit
from layertracer.tracing._passes.variants import run_variants
from layertracer.tracing._patching.patch import DonorValues, Patch

from tests.support.tiny import tiny

NATS = 1e-4
FURTHER = ("mamba", "gemma3_text")


def make_prompts(name: str, lengths: Sequence[int] = (9, 12, 9), *, seed: int = 0) -> list[CausalPrompt]:
    """Prompts whose tokens from 2 to 4 are exchanged."""
    anatomy, generator = tiny(name).anatomy, np.random.default_rng(seed)
    n_tokens = min(anatomy.d_vocab, anatomy.n_input_tokens)
    prompts = []
    for index, length in enumerate(lengths):
        ids = generator.integers(3, n_tokens, length)
        corrupted = ids.copy()
        corrupted[2:5] = (ids[2:5] - 3 + generator.integers(1, n_tokens - 4, 3)) % (n_tokens - 3) + 3
        answers = tuple(generator.choice(n_tokens, 2, replace=False).tolist())
        prompts.append(
            CausalPrompt(
                index=index,
                ids=tuple(ids.tolist()),
                corrupted_ids=tuple(corrupted.tolist()),
                span=(2, 5),
                answers=answers,
                contrast_answers=(int(generator.integers(n_tokens)),),
            )
        )
    return prompts


def run(name: str, prompts: Sequence[CausalPrompt], **options: object) -> CausalReadings:
    """Cells of all prompts, whatever the corruption does to them."""
    return run_causal(tiny(name), prompts, CausalOptions(**{"draws": 2, **options}), min_total_effect=0)


@pytest.mark.parametrize("corrupt", ["swap", "noise"])
def test_the_last_layer_at_the_last_position_is_the_clean_run(corrupt: str) -> None:
    """What leaves the last layer at the last position decides what is said: put in, it restores the clean run."""
    prompts = make_prompts("llama")
    found = run("llama", prompts, corrupt=corrupt)
    for number, prompt in enumerate(prompts):
        restored = found.restored_prob[number, -1, len(prompt.ids) - 1]
        assert restored == pytest.approx(np.exp(found.clean_log_prob[number]), rel=1e-5)


def test_a_swap_for_the_same_prompt_changes_nothing() -> None:
    """Where both runs are the same, every cell is that run."""
    prompts = [replace(prompt, corrupted_ids=prompt.ids) for prompt in make_prompts("llama")]
    found = run("llama", prompts, corrupt="swap", site="mlp_output")
    clean = np.exp(found.clean_log_prob)[:, None, None]
    assert np.nanmax(np.abs(found.restored_prob / clean - 1)) < 1e-5


def test_all_layers_at_the_only_corrupted_position_are_the_clean_run() -> None:
    """Where the last token alone is corrupted, a window over all layers there restores the clean run."""
    prompts = [
        replace(one, span=(8, 9), corrupted_ids=(*one.ids[:8], one.ids[8] % 50 + 4))
        for one in make_prompts("llama", (9, 9))
    ]
    for site in ("block_output", "mixer_output", "mlp_output"):
        found = run("llama", prompts, corrupt="swap", site=site, window=8)
        restored, clean = found.restored_prob[:, 2, 8], np.exp(found.clean_log_prob)
        if site == "block_output":
            np.testing.assert_allclose(restored, clean, rtol=1e-4)
        else:  # what the embeddings of the last token add is still the other one's
            assert np.abs(restored - clean).max() > 1e-6


def test_every_position_and_layer_at_once_is_the_clean_run() -> None:
    """With all that leaves all layers put in, at every position, the corrupted run says what the clean run says."""
    network, (prompt,) = tiny("gpt2").network, make_prompts("gpt2", (9,))
    clean, corrupted = (torch.tensor([ids]) for ids in (prompt.ids, prompt.corrupted_ids))
    donor = DonorValues(site="block_output", first=0, length=9)
    with torch.no_grad(), observing(network, [donor]):
        said = network.call.logits(clean)
    patch = Patch(
        site="block_output",
        values={position: donor.at(position) for position in range(9)},
        length=9,
        wiring=network.anatomy.layers[0].wiring,
    )
    edits = [Edit(layer) for layer in range(network.anatomy.n_layers)]
    with torch.no_grad():
        found = run_variants(
            network, corrupted, read=range(9), perturbers=[patch], variants=[edits], axes=tiny("gpt2").axes
        )
    torch.testing.assert_close(found.variants[0], said, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", *(pytest.param(name, marks=pytest.mark.slow) for name in FURTHER)])
def test_batches_and_order_change_nothing(name: str) -> None:
    """Prompts alone, in another order or in passes of little memory give the same numbers, noise included."""
    prompts = make_prompts(name, (7, 9, 7))
    whole = run(name, prompts, corrupt="noise", site="mixer_output", window=2)
    turned = run(name, prompts[::-1], corrupt="noise", site="mixer_output", window=2)
    little = run(name, prompts, corrupt="noise", site="mixer_output", window=2, memory="200kB")
    for other in (turned.restored_prob[::-1], little.restored_prob):
        np.testing.assert_allclose(other, whole.restored_prob, atol=1e-6, rtol=0)
    np.testing.assert_allclose(turned.corrupted_log_prob[::-1], whole.corrupted_log_prob, atol=NATS, rtol=0)
    assert turned.noise_std == pytest.approx(whole.noise_std)


def test_directions_are_each_other_with_both_runs_exchanged() -> None:
    """Clean values in the corrupted run are corrupted values in the clean run of the exchanged prompts."""
    prompts = make_prompts("gpt2")
    exchanged = [replace(one, ids=one.corrupted_ids or (), corrupted_ids=one.ids) for one in prompts]
    one = run("gpt2", prompts, corrupt="swap", direction="denoise", window=3)
    other = run("gpt2", exchanged, corrupt="swap", direction="noise", window=3)
    np.testing.assert_allclose(one.restored_prob, other.restored_prob, atol=1e-6, rtol=0)
    np.testing.assert_allclose(one.restored_difference, other.restored_difference, atol=NATS, rtol=0)
    np.testing.assert_allclose(one.corrupted_log_prob[:, 0], other.clean_log_prob, atol=NATS, rtol=0)


def test_windows_wider_than_the_stack_are_one() -> None:
    """Where a window reaches over all layers from everywhere, all layers say the same."""
    found = run("llama", make_prompts("llama"), corrupt="swap", site="mlp_output", window=8)
    part = found.restored_prob[0, :, 2:9]
    assert (part == part[:1]).all()


def test_noise_is_of_prompt_and_draw_alone() -> None:
    """A seed draws other noise for each draw and each prompt, and another seed other noise."""
    same = [replace(one, index=index) for index, one in enumerate(make_prompts("llama", (9,)) * 2)]
    found, again, other = (run("llama", same, corrupt="noise", seed=seed) for seed in (0, 0, 1))
    assert len(np.unique(found.corrupted_log_prob.round(6))) == 4
    np.testing.assert_array_equal(found.corrupted_log_prob, again.corrupted_log_prob)
    assert (np.abs(found.corrupted_log_prob - other.corrupted_log_prob) > 1e-6).all()
