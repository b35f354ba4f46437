"""The door of layer measures: a function of what enters and what leaves, with its name, unit and meaning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import layertracer as lt
from layertracer._errors import UsageError
from layertracer._types import MeasureInfo
from layertracer.tracing import TracedModel, register_layer_measure
from layertracer.tracing._observers.angular_distance import angular_distance
from layertracer.tracing._observers.block_influence import block_influence
from layertracer.tracing._observers.position_means import PositionMeans

from tests.doors.test_observer import plainly

GROWTH = PositionMeans(
    info=MeasureInfo(
        name="toy_growth", unit="ratio", meaning="length of the stream that leaves over that which enters"
    ),
    of=lambda entering, leaving: leaving.norm(dim=-1) / entering.norm(dim=-1),
)


@pytest.fixture(scope="module", params=["mini/attention", "mini/hybrid"])
def model(request: pytest.FixtureRequest) -> TracedModel:
    """A trained miniature."""
    return lt.load_model(request.param)


def streams(model: TracedModel, **inputs: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """What enters and leaves each layer for one prompt, [position, width] in float64, by PyTorch's own hooks."""
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        entering = args[0] if args else kwargs["hidden_states"]
        leaving = output[0] if isinstance(output, tuple) else output
        seen.append((entering[0].double().numpy().copy(), leaving[0].double().numpy().copy()))

    handles = [layer.module.register_forward_hook(note, with_kwargs=True) for layer in model.anatomy.layers]
    with torch.no_grad():
        model.module(**inputs, use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


def oracle(entering: np.ndarray, leaving: np.ndarray) -> dict[str, float]:
    """Each measure straight from its definition."""
    lengths = np.linalg.norm(entering, axis=-1), np.linalg.norm(leaving, axis=-1)
    cos = (entering * leaving).sum(axis=-1) / (lengths[0] * lengths[1])
    return {
        "block_influence": float((1 - cos).mean()),
        "angular_distance": float((np.arccos(np.clip(cos, -1, 1)) / math.pi).mean()),
        "toy_growth": float((lengths[1] / lengths[0]).mean()),
    }


@pytest.mark.parametrize(
    "how",
    [
        {"share_prefix": True},
        {"share_prefix": False},
        {"perturbation": lt.Mask(draws=1, site="state")},
        {"target_tokens": "all"},
        {"plain": True},
    ],
    ids=str,
)
def test_they_are_what_hooks_and_the_definitions_give(model: TracedModel, how: dict[str, Any]) -> None:
    """1 − cos, arccos(cos)/π and a toy, mean over all tokens of each prompt, however it is run: within 1e-6."""
    asked = {"perturbation": lt.Mask(draws=1), **how}
    traced = plainly(model) if asked.pop("plain", False) else model
    with register_layer_measure(GROWTH):
        trace = lt.trace(traced, lt.load_task("antonym", n_shot=3, limit=3), **asked)
    for row, prompt in enumerate(trace.prompts):
        ids = prompt.prompt_ids + prompt.target_ids[:-1]
        expected = [oracle(*seen) for seen in streams(model, input_ids=torch.tensor([ids]))]
        for name in expected[0]:
            found = trace.measures[name].values[row]
            np.testing.assert_allclose(found, [one[name] for one in expected], atol=2e-6, rtol=2e-5, err_msg=name)


def test_a_measure_is_kept_and_shown(tmp_path: Path) -> None:
    """A toy registered by a test is in the run that is stored, in its report, and gone when it is undone."""
    model = lt.load_model("mini/attention")
    with register_layer_measure(GROWTH):
        trace = lt.trace(model, lt.load_task("antonym", limit=2), perturbation=lt.Mask(draws=1))
        with pytest.raises(UsageError, match="registered already"):
            register_layer_measure(GROWTH)
    loaded = lt.load_run(trace.save(tmp_path / "run"))
    assert loaded == trace
    assert loaded.measures["toy_growth"].unit == "ratio"
    assert set(lt.trace(model, lt.load_task("antonym", limit=2)).measures) == {"block_influence", "angular_distance"}


@given(st.integers(0, 2**32 - 1), st.floats(-7, 0.5))
def test_small_turns_keep_their_digits(seed: int, exponent: float) -> None:
    """By an angle of 1e-7 to 3, in float32 vectors: to 1e-3 of its size from 1e-4 on, where the vectors allow it."""
    generator = np.random.default_rng(seed)
    one = generator.standard_normal(64)
    beside = generator.standard_normal(64)
    beside -= one * (one @ beside) / (one @ one)
    angle = min(10**exponent, 3.0)
    other = math.cos(angle) * one / np.linalg.norm(one) + math.sin(angle) * beside / np.linalg.norm(beside)
    rows = torch.from_numpy(np.stack([one, 1e3 * other])).float()[:, None]
    first, second = rows.double().numpy()[:, 0]
    true = 2 * math.atan2(
        np.linalg.norm(first / np.linalg.norm(first) - second / np.linalg.norm(second)),
        np.linalg.norm(first / np.linalg.norm(first) + second / np.linalg.norm(second)),
    )
    found = float(angular_distance(*rows)) * math.pi
    assert found == pytest.approx(true, abs=1e-6)
    influence = float(block_influence(*rows))
    assert influence == pytest.approx(2 * math.sin(true / 2) ** 2, rel=1e-3 if true > 1e-4 else None, abs=1e-12)
    assert 0 <= influence <= 2
    assert 0 <= found <= math.pi + 1e-6


def test_vectors_of_length_zero_have_numbers() -> None:
    """Where one of two is 0 they count as at a right angle, where both are as equal."""
    one, zero = torch.ones(1, 4), torch.zeros(1, 4)
    assert [float(block_influence(*pair)) for pair in ((one, one), (one, zero), (zero, one), (zero, zero))] == [
        0,
        1,
        1,
        0,
    ]
    assert [float(angular_distance(*pair)) for pair in ((one, zero), (zero, one), (zero, zero))] == [0.5, 0.5, 0]
    assert float(angular_distance(one, -one)) == pytest.approx(1)
