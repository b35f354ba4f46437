"""The linear lens: least squares, read through the model's own tail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import layertracer as lt
from layertracer.tracing import LinearLens, TracedModel

from study.lenses import N_POSITIONS, TargetReading, fit_linear_lens, read_targets
from training import FULL, build_untrained, draw_batch, find_miniature, make_tokenizer, write_samples


def _load(name: str) -> TracedModel:
    return lt.wrap_model(build_untrained(find_miniature(name)).eval(), tokenizer=make_tokenizer(), name=name)


@pytest.fixture(scope="module")
def hybrid() -> TracedModel:
    """A hybrid with random weights, whose layers all change the stream."""
    return _load("hybrid")


def _identity(model: TracedModel, *, biases: float = 0.0) -> LinearLens:
    """The lens that translates nothing, or shifts everything."""
    n_layers, width = model.anatomy.n_layers, model.anatomy.d_model
    return LinearLens(weights=torch.eye(width).repeat(n_layers, 1, 1), biases=torch.full((n_layers, width), biases))


@pytest.mark.parametrize("name", ["hybrid", "mamba2", "mamba2-hybrid"])
def test_logit_lens_is_that_of_the_trace(name: str) -> None:
    """Read with no translation, the targets are those that the trace stored."""
    model = _load(name)
    trace = lt.trace(model, write_samples("recall", n=3), perturbation=lt.Mask(draws=1))
    reading = read_targets(_identity(model), model, trace.prompts)
    assert reading.log_prob[:, 1:] == pytest.approx(trace.target_log_prob, abs=1e-4)
    assert reading.log_prob[:, 0] == pytest.approx(trace.embedding_log_prob, abs=1e-4)
    assert np.array_equal(reading.rank[:, 1:], trace.target_rank)


def test_lens_is_the_least_squares_solution(hybrid: TracedModel) -> None:
    """Against NumPy's least squares over the hidden states that Transformers returns, on the same documents."""
    lens = fit_linear_lens(hybrid)
    inputs, outputs = [], []
    for step in range(N_POSITIONS // (FULL.n_documents * FULL.n_tokens)):
        batch = draw_batch(seed=1000, step=step, n_documents=FULL.n_documents, n_tokens=FULL.n_tokens)
        last: list[torch.Tensor] = []
        handle = hybrid.anatomy.layers[-1].module.register_forward_hook(lambda *call, seen=last: seen.append(call[2]))
        with torch.no_grad():
            output = hybrid.module(torch.from_numpy(batch.ids), use_cache=False, output_hidden_states=True)
        handle.remove()
        inputs.append(output.hidden_states[3].flatten(0, 1).double().numpy())
        outputs.append(last[0].flatten(0, 1).double().numpy())
    design = np.hstack([np.vstack(inputs), np.ones((N_POSITIONS, 1))])
    solution, *_ = np.linalg.lstsq(design, np.vstack(outputs), rcond=None)
    translated = lens.translate(torch.from_numpy(np.vstack(inputs)).float(), 2)
    assert translated.numpy() == pytest.approx(design @ solution, abs=1e-2)
    explained = 1 - np.var(np.vstack(outputs) - translated.numpy()) / np.var(np.vstack(outputs))
    assert explained == pytest.approx(1 - np.var(np.vstack(outputs) - design @ solution) / np.var(outputs), abs=1e-4)


def test_last_stream_is_read_as_it_is(hybrid: TracedModel) -> None:
    """Whatever the lens, after the last layer it says what the model says."""
    trace = lt.trace(hybrid, write_samples("recall", n=3), perturbation=lt.Mask(draws=1))
    reading = read_targets(fit_linear_lens(hybrid), hybrid, trace.prompts)
    assert reading.log_prob[:, -1] == pytest.approx(trace.target_log_prob[:, -1], abs=1e-4)
    assert reading.log_prob[:, 1] != pytest.approx(trace.target_log_prob[:, 0], abs=1e-2)


def test_readings_are_kept_and_put_into_traces(hybrid: TracedModel, tmp_path: Path) -> None:
    """A stored reading is the same, and a trace with it differs in what was read alone."""
    trace = lt.trace(hybrid, write_samples("recall", n=3), perturbation=lt.Mask(draws=1))
    reading = read_targets(_identity(hybrid, biases=1.0), hybrid, trace.prompts)
    reading.save(tmp_path / "reading.npz")
    read = TargetReading.load(tmp_path / "reading.npz").put_into(trace)
    assert np.array_equal(read.target_log_prob, reading.log_prob[:, 1:])
    assert np.array_equal(read.js_bits, trace.js_bits)
    assert not np.array_equal(read.target_log_prob, trace.target_log_prob)
