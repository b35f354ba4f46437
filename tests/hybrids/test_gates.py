"""Gates: switching by the particle against plain hooks, and what is said where nothing is gained."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from contextlib import ExitStack

import numpy as np
import pytest
from torch import Tensor, nn

import layertracer as lt
from layertracer.hybrids._gates.measure import measure_gates
from layertracer.hybrids._gates.switching import measure_switching
from layertracer.runs import TraceRecord
from layertracer.tracing import TracedModel, make_substituter

from tests.support.oracles.plain_hooks import Numbers, editing, plain_log_probs
from tests.support.records.sample_records import make_record
from tests.support.tiny import tiny

PARTICLES = (1, 2, 2, 0, None, 3)
PROMPTS = tuple(tuple(np.random.default_rng(seed).integers(1, 100, 9 + seed).tolist()) for seed in range(6))


def kl_without(module: nn.Module, ids: tuple[int, ...], layers: Collection[int]) -> float:
    """KL of the model without the mixers of some layers, by plain hooks, from its definition."""

    def nothing(_: object, output: Tensor) -> Tensor:
        return output * 0

    own: Numbers = plain_log_probs(module, ids)
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(editing(module.get_submodule(f"model.layers.{layer}.self_attn"), nothing))
        other = plain_log_probs(module, ids)
    return float((np.exp(own) * (own - other)).sum())


def record_with(particles: tuple[int | None, ...], prompts: tuple[tuple[int, ...], ...], n_layers: int) -> TraceRecord:
    """A trace in which the target rises at those layers."""
    record = make_record(len(prompts), n_layers, 1, 0)
    rises = np.array([n_layers if one is None else one for one in particles])[:, None]
    prob = np.where(np.arange(n_layers) >= rises, 0.8, 1e-4)
    return dataclasses.replace(
        record,
        prompts=tuple(
            dataclasses.replace(one, prompt_ids=ids) for one, ids in zip(record.prompts, prompts, strict=True)
        ),
        target_log_prob=np.log(prob),
        embedding_log_prob=np.full(len(prompts), np.log(1e-4)),
    )


@pytest.fixture(scope="module")
def model() -> TracedModel:
    """A tiny Llama of four layers."""
    return tiny("llama")


def test_switching_is_that_of_plain_hooks(model: TracedModel) -> None:
    """Mixers are taken out below each prompt's own particle, and from it on, as one hook on each layer does."""
    record = record_with(PARTICLES, PROMPTS, 4)
    found = measure_switching(record, make_substituter(model, lt.NoMixer()), n_draws=3)
    assert not isinstance(found, str)
    kept = found.kept
    assert kept.prompts == (0, 1, 2, 3, 5)
    assert kept.random_after is not None
    for place, prompt in enumerate(kept.prompts):
        ids, particle = PROMPTS[prompt], PARTICLES[prompt]
        assert particle is not None
        assert (kept.layers_before[place], kept.layers_after[place]) == (particle, 4 - particle)
        assert kept.before[place] == pytest.approx(kl_without(model.module, ids, range(particle)), rel=1e-3, abs=1e-6)
        assert kept.after[place] == pytest.approx(kl_without(model.module, ids, range(particle, 4)), rel=1e-3)
    assert (kept.before[3], kept.random[3]) == (0.0, 0.0)  # its particle is the first layer: nothing lies below
    assert kept.after[3] == pytest.approx(kept.random_after[3])  # all four layers are all there are
    assert "1 of 6 took no part" in kept.note


def test_random_layers_are_as_many(model: TracedModel) -> None:
    """What switching is held against are means over placements of as many layers, of all that there are."""
    record = record_with((1,) * 6, PROMPTS, 4)
    found = measure_switching(record, make_substituter(model, lt.NoMixer()), n_draws=24)
    assert not isinstance(found, str)
    for place, ids in enumerate(PROMPTS):
        alone = [kl_without(model.module, ids, [layer]) for layer in range(4)]
        assert min(alone) <= found.kept.random[place] <= max(alone)
        assert found.kept.random[place] == pytest.approx(np.mean(alone), rel=0.5)


def test_a_gate_is_held_against_the_particles_of_others(model: TracedModel) -> None:
    """Each prompt is split at the other prompts' particles too; one particle that all have gains nothing."""
    particles, substituter = (1, 2, 3, 1, 2, 3), make_substituter(model, lt.NoMixer())
    found = measure_switching(record_with(particles, PROMPTS, 4), substituter)
    assert not isinstance(found, str)
    for row, ids in enumerate(PROMPTS):
        others = [layer for number, layer in enumerate(particles) if number != row]
        below = np.mean([kl_without(model.module, ids, range(layer)) for layer in others])
        above = np.mean([kl_without(model.module, ids, range(layer, 4)) for layer in others])
        np.testing.assert_allclose(found.others[:, row], [below, above], rtol=1e-3)
    same = measure_switching(record_with((2,) * 6, PROMPTS, 4), substituter)
    assert not isinstance(same, str)
    np.testing.assert_allclose(same.others[0], same.kept.before)
    assert not same.gains


def test_many_prompts_are_drawn(model: TracedModel) -> None:
    """Of 40 prompts 32 are switched, drawn by the seed, and the note counts them."""
    prompts = tuple(tuple(np.random.default_rng(seed).integers(1, 100, 6).tolist()) for seed in range(40))
    record = record_with((1, 2) * 20, prompts, 4)
    found = [
        measure_switching(record, make_substituter(model, lt.NoMixer()), n_draws=1, seed=seed) for seed in (0, 0, 1)
    ]
    drawn = [one.kept.prompts for one in found if not isinstance(one, str)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0] or ())) == 32
    assert not isinstance(found[0], str)
    assert "32 prompts were switched." in found[0].kept.note


def test_a_window_that_reaches_over_all_prompts_proves_nothing(model: TracedModel) -> None:
    """Prompts of at most 14 tokens are not switched to a window of 16, and the note says how long they are."""
    gates = measure_gates(model, record_with(PARTICLES, PROMPTS, 4), make_substituter(model, lt.Window(16)))
    assert gates.switching is None
    assert "a window of 16 tokens reaches over all prompts (up to 14 tokens)" in gates.note


def test_prompts_without_a_particle_are_not_switched(model: TracedModel) -> None:
    """Where no prompt has a particle there is nothing to switch at."""
    record = record_with((None,) * 6, PROMPTS, 4)
    gates = measure_gates(model, record, make_substituter(model, lt.NoMixer()))
    assert gates.switching is None
    assert "No prompt has a particle to switch at." in gates.note


def test_few_prompts_say_undecided(model: TracedModel) -> None:
    """Three prompts do not say whether one side costs less, and nothing counts as gained."""
    record = record_with((1, 2, 3), PROMPTS[:3], 4)
    gates = measure_gates(model, record, make_substituter(model, lt.NoMixer()))
    assert gates.switching is not None
    assert "undecided: 3 prompts to compare by, and 8 are needed" in gates.switching.note
    assert gates.is_worth_it is False
    assert gates.note.startswith("No gain is sure.")


def test_a_gate_that_gains_is_said_to() -> None:
    """Prompts that are right and sure after the first of eight layers are worth leaving, at a cheap readout."""
    model = lt.load_model("mini/attention")
    record = make_record(200, 8, 1, 0)
    prompts = tuple(dataclasses.replace(one, prompt_ids=PROMPTS[0]) for one in record.prompts)
    top_ids, top_prob = np.full_like(record.top_ids, 5), np.full_like(record.top_prob, 0.95)
    gates = measure_gates(model, dataclasses.replace(record, prompts=prompts, top_ids=top_ids, top_prob=top_prob))
    assert gates.is_worth_it is True
    assert gates.note.startswith("Something is gained.")
    assert "agrees in 100%" in gates.note
    assert "Agreement is not speed" in gates.note


def test_a_trace_of_another_model_is_refused(model: TracedModel) -> None:
    """A trace of another depth, or without a finished prompt, is none to measure gates on."""
    with pytest.raises(lt.UsageError, match="got 3 prompts and 6 layers"):
        measure_gates(model, make_record(3, 6, 1, 0))
    with pytest.raises(lt.UsageError, match="got 0 prompts"):
        measure_gates(model, make_record(0, 4, 1, 0))
