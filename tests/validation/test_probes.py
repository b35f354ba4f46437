"""Probes: their fit against its own optimum, what they find where it was put, and controls at chance."""

from __future__ import annotations

import numpy as np
import pytest

import layertracer as lt
from layertracer.validation import probe_layers
from layertracer.validation._importance.logistic import fit_probes, separating_dimensions
from layertracer.validation._importance.probes import probe_streams

from tests.support.models.planted import N_TOKENS, planted_answer
from tests.support.tiny import tiny


def test_the_fit_is_at_its_minimum() -> None:
    """The gradient of mean cross-entropy plus the penalty is 0 where the probe is, written out by hand."""
    rng = np.random.default_rng(0)
    rows, labels, ridge = rng.standard_normal((40, 12)) * 3 + 1, rng.integers(0, 3, 40), 0.05
    probes = fit_probes(rows, np.stack([labels, 2 - labels], axis=1), n_labels=3, ridges=[ridge, 1.0])
    weights, bias = probes.weights[:, 0], probes.bias[0]
    scaled = (rows - rows.mean(0)) / (rows.std(0) * np.sqrt(12))
    exps = np.exp(scaled @ weights + bias)
    off = exps / exps.sum(1, keepdims=True) - np.eye(3)[labels]
    np.testing.assert_allclose(scaled.T @ off / 40 + ridge * weights, 0, atol=1e-3)
    np.testing.assert_allclose(off.mean(0), 0, atol=1e-3)


def test_labels_that_are_there_are_read_where_they_are() -> None:
    """A label written into two dimensions of one row is read there by both kinds, and nowhere else."""
    rng = np.random.default_rng(1)
    labels = [number % 3 for number in range(90)]
    streams = rng.standard_normal((90, 3, 40))
    streams[:, 1, 7:9] += 4 * np.array([[1, 0], [0, 1], [-1, -1]])[labels]
    found = {(one.kind, one.layer): one for one in probe_streams(streams, labels, words=range(90), k=2)}
    for kind in ("linear", "k_sparse"):
        assert found[kind, 0].accuracy > 0.75
        assert found[kind, 0].selectivity > 0.4
        assert found[kind, 0].interval.low > found[kind, 0].chance
        for elsewhere in (-1, 1):
            assert found[kind, elsewhere].accuracy < 0.55
    assert set(separating_dimensions(streams[:, 1], np.array(labels), 2).tolist()) == {7, 8}


def test_controls_are_at_chance() -> None:
    """Over 200 simulated sets, arbitrary labels of words that are held out are read no better than by guessing."""
    rng = np.random.default_rng(2)
    labels = [number % 2 for number in range(24)]
    accuracies, selectivities = [], []
    for seed in range(200):
        streams = rng.standard_normal((24, 1, 4)) + np.array(labels)[:, None, None]
        (found,) = probe_streams(streams, labels, words=range(24), kinds=["linear"], seed=seed)
        accuracies.append(found.control_accuracy)
        selectivities.append(found.selectivity)
    standard_error = np.std(accuracies) / np.sqrt(200)
    assert abs(np.mean(accuracies) - 0.5) < 3 * standard_error
    assert np.mean(selectivities) > 0.2


def test_words_are_held_out_whole() -> None:
    """Prompts of one word never stand on both sides: what tells words apart tells nothing of a held-out one."""
    rng = np.random.default_rng(4)
    words = [number // 6 for number in range(96)]
    labels = [word % 2 for word in words]
    of_word = rng.standard_normal((16, 64)) * 5
    streams = (of_word[words] + 0.01 * rng.standard_normal((96, 64)))[:, None]
    found = [probe_streams(streams, labels, words=words, kinds=["linear"], seed=seed)[0] for seed in range(10)]
    assert np.mean([one.accuracy for one in found]) < 0.75
    assert all(one.interval.high - one.interval.low > 0.4 for one in found)  # six words, not thirty-six prompts


def test_the_planted_answer_is_read_from_its_layer_on() -> None:
    """In the planted model the answer stands at the last position from the layer on that writes it, and not before."""
    model, rng = tiny("planted"), np.random.default_rng(0)
    drawn = [tuple(int(token) for token in (first, *rng.integers(1, N_TOKENS, 4), 5)) for first in (2, 5, 9) * 14]
    samples = [lt.Sample(prompt_ids=ids, answer_id=planted_answer(ids)) for ids in drawn]
    found = {one.layer: one for one in probe_layers(model, samples, kinds=["linear"])}
    answer_layer = model.module.answer_layer
    assert list(found) == list(range(-1, 6))
    assert all(found[layer].accuracy == 1.0 for layer in range(answer_layer, 6))
    assert all(found[layer].selectivity > 0.3 for layer in range(answer_layer, 6))
    assert found[-1].interval.low < 0.5


def test_labels_without_words_are_refused() -> None:
    """Where no two labels have four words each, nothing is probed, and the error says what is needed."""
    samples = [lt.Sample(prompt_ids=(5, 9, number), answer_id=number) for number in range(10)]
    with pytest.raises(lt.TaskError, match="two labels of 4 words"):
        probe_layers(tiny("llama"), samples)
    with pytest.raises(lt.UsageError, match="one for each prompt"):
        probe_layers(tiny("llama"), samples, labels=[1, 2])
    with pytest.raises(lt.UsageError, match="k at least 1"):
        probe_layers(tiny("llama"), samples, labels=[0, 1] * 5, k=0)
