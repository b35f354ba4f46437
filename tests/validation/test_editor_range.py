"""The range of an editor: found where it was put, undecided where it cannot be known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import layertracer as lt
from layertracer._types import Audit
from layertracer.evidence import CausalRecord, RoleEffects
from layertracer.validation import editor_range


def causal(effects: np.ndarray, *, site: str = "mlp_output") -> CausalRecord:
    """A causal trace in which patches at the subject's last token have these effects [prompt, layer]."""
    n_prompts, n_layers = effects.shape
    restored = np.full((n_prompts, n_layers, 6), np.nan, dtype=np.float32)
    restored[:, :, 2:] = 0.1
    restored[:, :, 3] = 0.1 + effects
    none = np.zeros((1, n_layers))
    roles = RoleEffects(roles=("last",), mean=none, low=none, high=none, n_prompts=np.array([n_prompts]))
    return CausalRecord(
        model={},
        corrupt="noise",
        direction="denoise",
        site=site,
        window=1,
        n_draws=1,
        noise_scale=3.0,
        noise_std=0.1,
        seed=0,
        clean_prob=np.full(n_prompts, 0.9, dtype=np.float32),
        corrupted_prob=np.full(n_prompts, 0.1, dtype=np.float32),
        restored_prob=restored,
        logit_difference=None,
        subject_spans=np.tile(np.array([2, 4], dtype=np.int64), (n_prompts, 1)),
        lengths=np.full(n_prompts, 6, dtype=np.int64),
        token_texts=(),
        excluded=(),
        by_role=roles,
        recovery_by_role=roles,
        total_effect_interval=None,
        audit=Audit(share=0.0, n_cells=0, n_forwards=0, worst_nats=None),
        method="ladder",
        provenance={},
        spec={},
    )


def peaked(n_prompts: int, *, noise: float = 0.02) -> np.ndarray:
    """Effects with a peak at layer 4 that falls to half of it at layers 3 and 6, by hand."""
    mean = np.array([0.0, 0.05, 0.1, 0.3, 0.5, 0.45, 0.28, 0.1, 0.4, 0.0])
    return mean + noise * np.random.default_rng(0).standard_normal((n_prompts, 10))


def test_the_range_is_what_is_near_the_peak() -> None:
    """Layers one after another about the peak with half of its effect; one beyond a gap does not belong to it."""
    found = editor_range(causal(peaked(60)))
    assert (found.first, found.peak, found.last, found.n_prompts) == (3, 4, 6, 60)
    assert found.first_interval is not None
    assert found.first_interval.low <= 3 <= found.first_interval.high
    assert "layers 3 to 6" in found.sentence
    assert "60 prompts" in found.sentence


@pytest.mark.parametrize(
    ("effects", "reason"),
    [
        (peaked(3), "too few"),
        (np.random.default_rng(1).standard_normal((40, 10)), "undecided"),
        (-0.1 + 0.01 * np.random.default_rng(2).standard_normal((40, 10)), "cannot be told from 0"),
    ],
)
def test_what_cannot_be_known_is_undecided(effects: np.ndarray, reason: str) -> None:
    """Too few prompts, noise, or effects that are none give no range, and the sentence says why."""
    found = editor_range(causal(effects))
    assert (found.first, found.last, found.peak) == (None, None, None)
    assert reason in found.sentence
    assert "undecided" in found.sentence


def test_prompts_that_were_left_out_do_not_count() -> None:
    """NaN rows of excluded samples are no prompts."""
    effects = peaked(60)
    effects[::2] = np.nan
    assert editor_range(causal(effects)).n_prompts == 30


def test_another_site_is_refused() -> None:
    """The range is one of MLPs."""
    with pytest.raises(lt.UsageError, match="site='mlp_output'"):
        editor_range(causal(peaked(60), site="block_output"))


def test_copies_of_prompts_are_no_prompts() -> None:
    """Prompts that are taken anew together are one: copies of a few make nothing surer."""
    few = peaked(4)
    copied = replace(causal(np.repeat(few, 20, axis=0)), spec={"units": [row // 20 for row in range(80)]})
    found = editor_range(copied)
    assert found.first is None
    assert "80 prompts are of 4 different ones" in found.sentence


def test_a_layer_without_an_mlp_is_not_in_it() -> None:
    """Where a layer has no MLP it has no effect: the others are taken as they are."""
    effects = peaked(60)
    effects[:, 8] = np.nan
    found = editor_range(causal(effects))
    assert (found.first, found.peak, found.last, found.n_prompts) == (3, 4, 6, 60)
