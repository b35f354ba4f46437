"""What a trace measures of itself again: what is chosen, what is said, and what turns it off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import layertracer as lt
from layertracer.reports import render_text, summarize
from layertracer.tracing._passes.plain import PlainEdits, plain_logits
from layertracer.tracing._passes.row_groups import Edit
from layertracer.tracing._perturbers.protocol import make_perturber
from layertracer.tracing._proofs.rounding import rounding_moves

from tests.support.budgets import allowing
from tests.support.models.families import build_tiny
from tests.support.models.planted_decoder import D_MODEL, N_LAYERS, Attention, Decoder, KeysAndValues, Layer, drawn
from tests.support.models.planted_faults import FAULTS, FaultCase, prompt
from tests.support.oracles.faults import right_js, right_lens

PROMPTS = tuple(prompt(length, seed) for seed, length in enumerate((8, 8, 20, 20, 20, 33)))
SAMPLES = [lt.Sample(prompt_ids=ids, answer_id=7) for ids in PROMPTS]


class Plain(Decoder):
    """The sound decoder."""

    def make_layer(self, index: int) -> Layer:
        """A layer of it."""
        return Layer(index, mixer=Attention)


@pytest.fixture(scope="module")
def model() -> lt.TracedModel:
    """A sound model."""
    return lt.wrap_model(drawn(Plain()))


def test_every_length_is_looked_at(model: lt.TracedModel) -> None:
    """Lens rows and perturbed rows of every length are compared, and a sound model agrees with itself."""
    trace = lt.trace(model, SAMPLES, perturbation=lt.Mask(fraction=0.5, draws=2))
    audit = trace.audit
    assert audit is not None
    assert trace.method == "ladder"
    assert audit.notes == ()
    assert audit.n_forwards >= 3 * 3
    assert audit.n_cells >= 3 * (1 + N_LAYERS) + 3
    assert audit.worst_nats is not None
    assert audit.worst_nats < 1e-4
    assert audit.worst_bits is not None
    assert audit.worst_bits < 1e-5


def test_a_readout_counts_its_looks() -> None:
    """The audit of a readout counts the forwards that it took, and a number for every row that they gave."""
    module = drawn(Plain())
    n_calls = 0

    def count(*_: object) -> None:
        nonlocal n_calls
        n_calls += 1

    traced = lt.wrap_model(module)
    module.layers[0].mixer.register_forward_hook(count)  # replays of the tail pass over what is inside a layer
    lt.read_layers(traced, SAMPLES, audit=0)
    without, n_calls = n_calls, 0
    audit = lt.read_layers(traced, SAMPLES).audit
    assert audit is not None
    assert audit.n_forwards == n_calls - without
    n_prompts = audit.n_forwards // 2
    assert audit.n_cells == n_prompts * (N_LAYERS + 2)


def test_equal_seeds_look_at_the_same_cells(model: lt.TracedModel) -> None:
    """The same question is audited alike, whatever the memory."""
    mask = lt.Mask(fraction=0.5, draws=2)
    one, other = (lt.trace(model, SAMPLES, perturbation=mask, memory=memory).audit for memory in ("64MiB", "128MiB"))
    assert one is not None
    assert other is not None
    assert (one.n_cells, one.n_forwards, one.n_drawn) == (other.n_cells, other.n_forwards, other.n_drawn)


def test_a_larger_share_draws_more_and_bounds_more(model: lt.TracedModel) -> None:
    """The bound is three over what the seed drew, and is stated where more than three were drawn."""
    mask = lt.Mask(fraction=0.5, draws=2)
    small, large = (lt.trace(model, SAMPLES, perturbation=mask, audit=share).audit for share in (0.01, 1.0))
    assert small is not None
    assert large is not None
    assert small.n_drawn < large.n_drawn
    assert small.bound is None
    assert large.bound == pytest.approx(3 / large.n_drawn)


def test_without_an_audit_the_result_says_so(model: lt.TracedModel, tmp_path: Path) -> None:
    """audit=0 compares nothing; record, stored run, terminal and JSON say it."""
    trace = lt.trace(model, SAMPLES[:2], perturbation=lt.Mask(fraction=0.5, draws=2), audit=0)
    assert trace.audit is not None
    assert (trace.audit.n_cells, trace.audit.worst_nats) == (0, None)
    assert "turned off" in trace.audit.notes[0]
    assert "Audit turned off" in render_text(trace, width=200, color=False)
    assert summarize(trace)["audit"]["share"] == 0
    assert lt.load_run(trace.save(tmp_path / "run")) == trace
    assert "turned off" in lt.read_layers(model, SAMPLES[:2], audit=0).audit.notes[0]


def test_an_interrupted_trace_states_no_bound(model: lt.TracedModel) -> None:
    """What was drawn and not come to says nothing: an interrupted trace counts no drawn forward."""

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        lt.trace(model, SAMPLES, perturbation=lt.Mask(fraction=0.5, draws=2), audit=1.0, progress=stop)
    record = caught.value.record
    assert 0 < record.n_prompts < len(SAMPLES)
    assert record.audit.n_cells > 0
    assert (record.audit.n_drawn, record.audit.bound) == (0, None)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), True])
def test_what_is_no_share_is_refused(model: lt.TracedModel, share: float) -> None:
    """A share is a number from 0 to 1."""
    with pytest.raises(lt.UsageError, match="audit must be a share"):
        lt.trace(model, SAMPLES[:1], audit=share)


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_no_fault_of_a_readout_is_silent(case: FaultCase) -> None:
    """Readouts of the planted faults are those of the model with its later layers bypassed, or refused."""
    if case.name == "in_place_read_later":
        pytest.skip("it depends on whether a bypassed layer hands on a tensor or a copy of it")
    samples = [lt.Sample(prompt_ids=ids) for ids in case.prompts]
    try:
        readout = lt.read_layers(lt.wrap_model(case.build()), samples)
    except lt.LayerTracerError:
        return
    answers = (3,) * len(samples)
    right = right_lens(case, answers)
    assert np.abs(readout.log_probs[:, :, 3].exp().numpy() - right).max() < 1e-3


class CrowdedMixer(Attention):
    """Attention that adds less in calls of more than 300 tokens."""

    def forward(self, stream: Tensor, angles: Tensor, cache: KeysAndValues | None = None) -> Tensor:
        """What it adds."""
        added = super().forward(stream, angles, cache)
        return added * 0.3 if stream.shape[0] * stream.shape[1] > 300 else added


def test_fills_are_those_of_prompts_alone() -> None:
    """What masked dimensions are filled with does not depend on how many prompts are run to find it."""

    class Crowded(Plain):
        def make_layer(self, index: int) -> Layer:
            return Layer(index, mixer=CrowdedMixer if index == 1 else Attention)

    prompts = tuple(prompt(20, seed) for seed in range(24))
    samples = [lt.Sample(prompt_ids=ids, answer_id=7) for ids in prompts]
    keep = np.random.default_rng(1).random((N_LAYERS, 1, D_MODEL)) < 0.5
    model = lt.wrap_model(drawn(Crowded()))
    memory = allowing(model, samples, "1MiB")
    trace = lt.trace(model, samples, perturbation=lt.Mask.explicit(keep, fill="mean"), memory=memory)
    case = FaultCase(
        name="crowded", build=lambda: drawn(Crowded()), prompts=prompts, n_draws=1, needs="calls of many tokens"
    )
    right = right_js(case, 0, keep, None, fill=_means(case))
    np.testing.assert_allclose(trace.js_bits[0], right, atol=1e-4)


@torch.no_grad()
def _means(case: FaultCase) -> Tensor:
    """Mean of each dimension after each layer [layer, width], over all positions of all prompts, one at a time."""
    module, seen = case.build(), [[] for _ in range(N_LAYERS)]
    for index, layer in enumerate(module.layers):
        layer.register_forward_hook(lambda *call, index=index: seen[index].append(call[2][0]))
    for ids in case.prompts:
        module(torch.tensor([ids]))
    return torch.stack([torch.cat(rows).mean(dim=0) for rows in seen])


def test_half_precision_hides_no_batch() -> None:
    """In bfloat16 what is more than the model's own rounding is followed up; a sound model is not."""
    sound, faulty = (build_tiny("llama").to(torch.bfloat16) for _ in range(2))
    # A little more in calls of many rows: as much as a few roundings of the type.
    faulty.model.layers[1].mlp.register_forward_hook(
        lambda _, inputs, output: output * 1.5 if inputs[0].shape[0] > 6 else output
    )
    samples = [lt.Sample(prompt_ids=prompt(20, seed), answer_id=7) for seed in range(12)]
    mask = lt.Mask(fraction=0.5, draws=2)
    assert lt.trace(lt.wrap_model(sound), samples, perturbation=mask).method == "ladder"
    assert lt.trace(lt.wrap_model(faulty), samples, perturbation=mask).method == "plain"


@pytest.mark.parametrize("site", ["mixer_output", "mlp_output"])
@pytest.mark.parametrize("layer", [0, 1])
def test_embeddings_are_rounded_otherwise_beside_any_watched_layer(site: str, layer: int) -> None:
    """What rounding explains is found at sites inside any layer, the first too, and moves the output by a rounding."""
    model = lt.wrap_model(build_tiny("llama"))
    network, ids = model.network, torch.tensor([[5, 7, 11, 13, 2]])
    mask = lt.Mask(site=site, draws=1)
    perturber = make_perturber(mask, n_layers=model.anatomy.n_layers, width=model.anatomy.d_model, device=model.device)
    edits = PlainEdits(perturbers=[perturber], edits=[Edit(layer)])

    def run() -> Tensor:
        with torch.no_grad(), edits.made_in(network.anatomy.layers):
            return plain_logits(network, ids, read=[4])

    usual = run()
    moved = [float((run() - usual).abs().max()) for _ in rounding_moves(network)]
    assert len(moved) > 1
    assert all(0 < one < 1e-3 for one in moved)
