"""Faults that the proof at load cannot see: none of them gives a silently wrong number.

What is right comes from plain forward hooks on a fresh module, one prompt at a time, with divergences in float64; it
shares no code with the tool.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import layertracer as lt
from layertracer import LayerTracerError

from tests.support.models.planted_decoder import D_MODEL, N_LAYERS
from tests.support.models.planted_faults import FAULTS, FaultCase
from tests.support.oracles.faults import right_js, right_lens, right_log_probs

_WRONG_PROB, _WRONG_BITS = 1e-3, 1e-3
"""Errors of a probability and of a divergence beyond any rounding of these small models."""
_ALIASED = "in_place_read_later"
"""Has no readout of its own in the middle: it depends on whether a bypassed layer hands on a tensor or a copy of it."""
_OF_THE_LAST_LAYER = ("mlp_pools_positions", "chosen_keys")
"""Wrong only where the last layer does not run at every position, which it always does."""
_AT_ALL_SITES = ("rows_beyond_forty", "room_first_come", "tail_scaled_by_length", "chosen_keys", "cache_forgets")
_SITES = {"block_output": None, "mixer_output": "mixer", "mlp_output": "mlp"}


@pytest.mark.parametrize(
    ("case", "site"),
    # Inside the layers, faults that lie in the rows and in what was read before.
    [(case, site) for site in _SITES for case in FAULTS if site == "block_output" or case.name in _AT_ALL_SITES],
    ids=lambda one: one if isinstance(one, str) else one.name,
)
def test_no_fault_is_silent(case: FaultCase, site: str) -> None:
    """Where a model does otherwise in a batch, at a length or after a prefix, its trace is right, or refused."""
    keep = _keep(case, site)
    own = right_log_probs(case)
    answers, samples = _most_probable(case)
    mask = lt.Mask.explicit(keep, site=site)
    try:
        trace = lt.trace(
            lt.wrap_model(case.build()), samples, perturbation=mask, share_prefix=case.share_prefix or None
        )
    except LayerTracerError:
        return  # refused, with a message
    right_prob = np.array([np.exp(row[answer]) for row, answer in zip(own, answers, strict=True)])
    assert np.abs(trace.target_prob[:, -1] - right_prob).max() < _WRONG_PROB
    if case.name != _ALIASED:
        assert np.abs(trace.target_prob - right_lens(case, answers)).max() < _WRONG_PROB
    # Of what is perturbed every copy of some prompts: all of them would take minutes.
    for prompt in (0, len(case.prompts) - 1):
        right = right_at_site(case, prompt, site)
        wrong = np.abs(trace.js_bits[prompt] - right)
        assert np.nanmax(wrong) < _WRONG_BITS, (prompt, float(np.nanmax(wrong)), trace.audit, trace.warnings)


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_fault_shows_without_the_audit_or_is_found_at_load(case: FaultCase) -> None:
    """Each fault is one: without the audit its trace is wrong, or the proof at load already keeps it from being so."""
    model = _wrapped(case)
    if model is None or model.self_check.method == "plain":
        return
    keep = _keep(case, "block_output")
    answers, samples = _most_probable(case)
    mask = lt.Mask.explicit(keep, site="block_output")
    trace = lt.trace(model, samples, perturbation=mask, audit=0, share_prefix=case.share_prefix or None)
    worst = np.abs(trace.target_prob - right_lens(case, answers)).max()
    for prompt in range(len(case.prompts)):
        if worst > _WRONG_PROB:
            break
        worst = max(worst, np.nanmax(np.abs(trace.js_bits[prompt] - right_at_site(case, prompt, "block_output"))))
    # Rows that could not go through the layers together; parts that were left out of positions in earlier versions.
    assert worst > _WRONG_PROB or trace.method == "plain" or case.name in _OF_THE_LAST_LAYER
    assert trace.audit is not None
    assert trace.audit.n_cells == 0


def _most_probable(case: FaultCase) -> tuple[tuple[int, ...], list[lt.Sample]]:
    """The most probable token after each prompt, and samples with these as their answers."""
    answers = tuple(int(row.argmax()) for row in right_log_probs(case))
    pairs = zip(case.prompts, answers, strict=True)
    return answers, [lt.Sample(prompt_ids=ids, answer_id=answer) for ids, answer in pairs]


def _wrapped(case: FaultCase) -> Any:
    try:
        return lt.wrap_model(case.build())
    except LayerTracerError:
        return None


def _keep(case: FaultCase, site: str) -> np.ndarray:
    """Masks [layer, draw, width] that keep some 60 % of the dimensions."""
    return np.random.default_rng([2, len(site)]).random((N_LAYERS, case.n_draws, D_MODEL)) < 0.6


@cache
def right_at_site(case: FaultCase, prompt: int, site: str) -> np.ndarray:
    """Divergences with the masks of these tests."""
    return right_js(case, prompt, _keep(case, site), _SITES[site])
