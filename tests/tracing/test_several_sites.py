"""Several perturbations in one trace: each gives what it gives in a trace of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import layertracer as lt
from layertracer._types import Perturbation

from tests.support.budgets import allowing
from tests.support.models.families import build_tiny
from tests.support.models.hybrids import Hybrid

SITES = ("mixer_output", "mlp_output", "block_output")


@cache
def wrapped(name: str) -> lt.TracedModel:
    """A tiny model."""
    if name == "hybrid":
        torch.manual_seed(3)
        return lt.wrap_model(Hybrid(), name=name)
    return lt.wrap_model(build_tiny(name), name=name)


def samples(*, n_shared: int = 20) -> list[lt.Sample]:
    """Prompts with a beginning in common, and one of another length."""
    ids = np.random.default_rng(3).integers(1, 40, size=(5, n_shared + 5))
    ids[:, :n_shared] = ids[0, :n_shared]
    rows = [tuple(row) for row in ids.tolist()]
    return [lt.Sample(prompt_ids=row, answer_id=7) for row in (*rows, rows[0][3:12])]


def assert_as_alone(model: lt.TracedModel, perturbations: Sequence[Perturbation], **options: Any) -> lt.Trace:
    """One trace of several perturbations has the numbers of one trace of each."""
    together = lt.trace(model, samples(), perturbation=list(perturbations), **options)
    assert [dict(one.perturbation) for one in together.effects.values()] == [one.to_dict() for one in perturbations]
    for effect, one in zip(together.effects.values(), perturbations, strict=True):
        alone = lt.trace(model, samples(), perturbation=one, **options)
        for name, values in alone.effects[str(one.site)].rows.items():
            np.testing.assert_allclose(effect.rows[name], values, atol=2e-5 if name != "js_bits" else 1e-6)
        np.testing.assert_array_equal(effect.dominant_dimension, alone.dominant_dimension)
        np.testing.assert_allclose(effect.dominant_ratio, alone.dominant_ratio, rtol=1e-5)
        np.testing.assert_array_equal(effect.dominant_hit, alone.dominant_hit)
        np.testing.assert_allclose(together.target_log_prob, alone.target_log_prob, atol=2e-5)
    return together


# Models that add mixer and MLP in turn, both in one sum, after norms, and in some layers only.
@pytest.mark.parametrize("name", ["llama", "falcon", "bloom", "gemma2", "hybrid"])
@pytest.mark.parametrize("share_prefix", [True, False])
def test_each_site_gives_what_it_gives_alone(name: str, share_prefix: bool) -> None:
    """Rows that come in before and after a layer, and others, ride through one ladder without seeing one another."""
    masks = [lt.Mask(site=site, draws=2, fraction=0.5) for site in SITES]
    trace = assert_as_alone(wrapped(name), masks, share_prefix=share_prefix)
    assert trace.js_bits.shape[1] == 2


def test_a_recurrent_model_beside_itself() -> None:
    """A Mamba without attention, its memories included: every perturbation as alone."""
    masks = [lt.Mask(site=site, draws=2) for site in ("mixer_output", "block_output", "state")]
    assert_as_alone(wrapped("mamba"), [*masks, lt.Noise(site="block_output", draws=2)])


def test_memories_and_layers_in_one_trace() -> None:
    """The pass over the layers' caches runs beside the ladder, on the same batches, behind the same prefixes."""
    masks = [lt.Mask(site=site, draws=2) for site in ("state", "mixer_output")]
    for share_prefix in (True, False):
        assert_as_alone(wrapped("llama"), [*masks, lt.Noise(site="state", draws=3)], share_prefix=share_prefix)


def test_perturbations_of_every_kind_in_one_trace() -> None:
    """Masks, noise and skips, filled in their own ways, two of them at one site."""
    mixed = [
        lt.Mask(site="mixer_output", draws=2, fill="mean"),
        lt.Mask(site="mlp_output", draws=2, fill="resample", seed=4),
        lt.Noise(site="mixer_output", draws=2),
        lt.Skip(),
        lt.Mask(site="mlp_output", draws=4),
    ]
    model, asked = wrapped("llama"), samples()
    together = lt.trace(model, asked, perturbation=mixed)
    assert list(together.effects) == ["mixer_output", "mlp_output", "mixer_output#2", "block_output", "mlp_output#2"]
    for effect, one in zip(together.effects.values(), mixed, strict=True):
        np.testing.assert_allclose(effect.js_bits, lt.trace(model, asked, perturbation=one).js_bits, atol=1e-6)


@pytest.mark.parametrize("share_prefix", [True, False])
def test_the_last_position_beside_all_positions(share_prefix: bool) -> None:
    """What perturbs the last position alone leaves the others as they are, whatever else is perturbed there."""
    both = [lt.Mask(site="mixer_output", draws=2), lt.Mask(site="mlp_output", draws=2, positions="last")]
    assert_as_alone(wrapped("llama"), both, share_prefix=share_prefix)
    assert_as_alone(
        wrapped("llama"),
        [lt.Mask(site=site, draws=2, positions="last") for site in ("mixer_output", "block_output")],
        share_prefix=share_prefix,
    )


@pytest.mark.parametrize("share_prefix", [True, False])
def test_passes_cut_by_memory_give_the_same(share_prefix: bool) -> None:
    """However few rows go into a pass, also behind a prefix, each perturbation has all of its draws."""
    model = wrapped("llama")
    masks = [lt.Mask(site=site, draws=5) for site in (*SITES, "state")]
    whole, cut = (
        lt.trace(
            model,
            samples(),
            perturbation=masks,
            memory=allowing(model, samples(), live),
            share_prefix=share_prefix,
        )
        for live in ("1GB", "900kB")
    )
    assert cut.plan["live_bytes"] <= 900_000 < whole.plan["live_bytes"]
    assert cut.plan["n_passes"] > whole.plan["n_passes"]
    for key, effect in whole.effects.items():
        np.testing.assert_allclose(cut.effects[key].js_bits, effect.js_bits, atol=5e-6)


def test_the_audit_looks_at_every_perturbation() -> None:
    """A fault in one of several is found, however few cells are measured again."""
    masks = [lt.Mask(site=site, draws=2) for site in (*SITES, "state")]
    single = lt.trace(wrapped("llama"), samples(), perturbation=masks[0], audit=1e-9)
    several = lt.trace(wrapped("llama"), samples(), perturbation=masks, audit=1e-9)
    assert single.audit is not None
    assert several.audit is not None
    assert several.audit.n_cells >= single.audit.n_cells + 3


def test_a_site_asked_for_by_name_is_not_left_out() -> None:
    """Of several, one that the model has not is an error where it was named, and a note where all were asked for."""
    model = wrapped("nanogpt")
    asked = [lt.Mask(site="block_output", draws=2), lt.Mask(site="state", draws=2)]
    with pytest.raises(lt.SiteError, match="state"):
        lt.trace(model, samples(), perturbation=asked)
    trace = lt.trace(model, samples(), perturbation="all")
    assert list(trace.effects) == ["mixer_output", "block_output", "mlp_output"]
    assert any("The site 'state' is left out" in warning for warning in trace.warnings)


def test_the_plain_method_does_all_of_them() -> None:
    """A model that is traced one forward at a time has every effect, too."""
    model = wrapped("llama")
    plain = replace(model, self_check=replace(model.self_check, method="plain", row_by_row=True))
    masks = [lt.Mask(site=site, draws=2, fraction=0.5) for site in SITES]
    by_ladder, by_plain = (lt.trace(one, samples(), perturbation=masks) for one in (model, plain))
    assert by_plain.method == "plain"
    for key, effect in by_ladder.effects.items():
        np.testing.assert_allclose(by_plain.effects[key].js_bits, effect.js_bits, atol=1e-6)
        assert np.array_equal(by_plain.effects[key].dominant_dimension, effect.dominant_dimension)


def test_no_perturbation_is_none() -> None:
    """A trace is of at least one."""
    with pytest.raises(lt.UsageError, match="at least one"):
        lt.trace(wrapped("llama"), samples(), perturbation=[])
