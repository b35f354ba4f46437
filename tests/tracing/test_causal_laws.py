"""Laws of causal tracing: which numbers must be the same as which others, whatever the model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from layertracer.tracing import CausalOptions, CausalPrompt, CausalReadings, run_causal

from tests.support.tiny import tiny

NATS = 1e-4


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
