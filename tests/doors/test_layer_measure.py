"""The door of layer measures: a function of what enters and what leaves, with its name, unit and meaning."""

from __future__ import annotations

import json
import math
import types
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
from layertracer.reports import summarize
from layertracer.tracing import TracedModel, register_layer_measure
from layertracer.tracing._observers.angular_distance import angular_distance
from layertracer.tracing._observers.block_influence import BLOCK_INFLUENCE, block_influence
from layertracer.tracing._observers.position_means import PositionMeans, Positions
from layertracer.tracing._observers.protocol import CleanCall

from tests.doors.test_observer import plainly
from tests.support.models import registry

GROWTH = PositionMeans(
    info=MeasureInfo(
        name="toy_growth", unit="ratio", meaning="length of the stream that leaves over that which enters"
    ),
    of=lambda positions: positions.leaving.norm(dim=-1) / positions.entering.norm(dim=-1),
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
    assert "Toy growth" in trace.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "toy_growth" in json.dumps(summarize(trace))
    assert set(lt.trace(model, lt.load_task("antonym", limit=2)).measures) == {"block_influence", "angular_distance"}


@given(st.integers(0, 2**32 - 1), st.floats(-7, 0.5))
def test_small_turns_keep_their_digits(seed: int, exponent: float) -> None:
    """By an angle of 1e-7 to 3, in float32 vectors: 1 − cos to a millionth of its size from 1e-4 on."""
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
    positions = Positions(entering=rows[:1], leaving=rows[1:])
    found = float(angular_distance(positions)) * math.pi
    assert found == pytest.approx(true, abs=1e-7)
    influence = float(block_influence(positions))
    assert influence == pytest.approx(2 * math.sin(true / 2) ** 2, rel=1e-6 if true > 1e-4 else None, abs=1e-14)
    assert 0 <= influence <= 2
    assert 0 <= found <= math.pi + 1e-6


def test_vectors_of_length_zero_count_as_at_a_right_angle() -> None:
    """Where one of the two is 0 there is a number all the same; opposite vectors are a half-turn apart."""
    one, zero = torch.ones(1, 1, 4), torch.zeros(1, 1, 4)
    pairs = [
        Positions(entering=e, leaving=v)
        for e, v in ((one, 3 * one), (one, zero), (zero, one), (zero, zero), (one, -one))
    ]
    assert [float(block_influence(pair)) for pair in pairs] == [0, 1, 1, 1, 2]
    assert [float(angular_distance(pair)) for pair in pairs] == [0, 0.5, 0.5, 0.5, 1]


def test_several_vectors_for_a_token_count_as_one() -> None:
    """A stream of more than three axes, in 16 bits and with a position in front, against float64 arithmetic."""
    wiring = types.SimpleNamespace(n_leading=1)
    call = CleanCall(
        layer=types.SimpleNamespace(index=0, wiring=wiring),
        entering=torch.randn(2, 6, 4, 3, generator=torch.Generator().manual_seed(0)).bfloat16(),
    )
    leaving = (call.entering.float() + 0.1).bfloat16()
    measure = BLOCK_INFLUENCE.fresh()
    measure.see(call, leaving)
    one, other = (rows[:, 1:].flatten(2).double().numpy() for rows in (call.entering, leaving))
    cos = (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)
    np.testing.assert_allclose(measure.per_prompt()[0].numpy(), (1 - cos).mean(axis=1), rtol=1e-9)


def test_streams_that_hold_several_vectors_for_a_token() -> None:
    """Hyper-connections: the four of a token are one long vector, in the trace as by hooks."""
    model = lt.wrap_model(registry.build("deepseek_v4"))
    ids = (5, 9, 12, 7, 30, 2)
    trace = lt.trace(
        model, [lt.Sample(prompt_ids=ids, answer_id=3)], perturbation=lt.Mask(draws=1, site="block_output")
    )
    seen = streams(model, input_ids=torch.tensor([ids]))
    assert seen[0][0].ndim == 3
    expected = [oracle(*(rows.reshape(len(ids), -1) for rows in pair)) for pair in seen]
    for name in ("block_influence", "angular_distance"):
        found = trace.measures[name].values[0]
        np.testing.assert_allclose(found, [one[name] for one in expected], atol=1e-6, rtol=1e-4)


def test_the_decoder_behind_an_encoder() -> None:
    """An encoder-decoder model: the decoder's layers, over the tokens that the decoder has read."""
    model = lt.wrap_model(registry.build("t5", encoder_decoder=True))
    source, decoded = (7, 23, 91, 4, 66), (5, 9, 12)
    trace = lt.trace(
        model,
        [lt.Sample(prompt_ids=source, decoder_ids=decoded, answer_id=17)],
        perturbation=lt.Mask(draws=1, site="block_output"),
    )
    seen = streams(model, input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([decoded]))
    expected = [oracle(*pair)["block_influence"] for pair in seen]
    np.testing.assert_allclose(trace.measures["block_influence"].values[0], expected, atol=1e-6, rtol=1e-4)


def test_one_that_depends_on_who_runs_beside_is_found_by_the_audit() -> None:
    """A measure that is another for a prompt in a batch than alone is measured anew, and the trace says so."""
    beside = PositionMeans(
        info=MeasureInfo(name="toy_beside", unit="ratio", meaning="how many prompts run together"),
        of=lambda positions: torch.full(positions.leaving.shape[:-1], float(len(positions.leaving))),
    )
    with register_layer_measure(beside):
        trace = lt.trace(
            lt.load_model("mini/attention"), lt.load_task("antonym", limit=3), perturbation=lt.Mask(draws=1)
        )
    assert trace.audit is not None
    assert any("toy_beside" in note for note in trace.audit.notes)
    np.testing.assert_array_equal(trace.measures["toy_beside"].values, 1.0)


def fails(*_: Any, **__: Any) -> Any:
    """A mistake of one's own."""
    raise ValueError("my own mistake")


class Failing:
    """A measure of one's own class, in which one thing goes wrong."""

    info = MeasureInfo(name="toy_wrong", unit="ratio", meaning="nothing")
    name, site = "toy_wrong", "block_output"

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong
        makes = {"fresh": lambda: Failing(wrong), "see": _nothing, "add": _nothing, "per_prompt": dict}
        for part, does in makes.items():
            setattr(self, part, fails if part == wrong else does)


def _nothing(*_: Any, **__: Any) -> None:
    """Take nothing in."""


PREFIXED = [lt.Sample(prompt_ids=(*range(5, 35), last), answer_id=3) for last in range(40, 44)]


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        (PositionMeans(info=Failing.info, of=fails), "at layer 0"),
        (Failing("see"), "at layer 0"),
        (Failing("fresh"), "when a fresh one was made"),
        (Failing("per_prompt"), "when its numbers were asked for"),
    ],
    ids=["of", "see", "fresh", "per_prompt"],
)
def test_what_a_measure_raises_is_told_as_its_own(model: TracedModel, measure: Any, said: str) -> None:
    """Neither the model's fault nor the tool's, whichever of its parts goes wrong."""
    said = f"The layer measure 'toy_wrong' raised ValueError: my own mistake {said}.*That is code of its own"
    with register_layer_measure(measure), pytest.raises(UsageError, match=said):
        lt.trace(model, PREFIXED, perturbation=lt.Mask(draws=1), share_prefix=True, audit=0)


def test_what_fails_behind_a_prefix_alone_is_measured_without(model: TracedModel) -> None:
    """A measure that cannot take in what a prefix showed is traced without one; the trace says whose fault it is."""
    with register_layer_measure(Failing("add")):
        trace = lt.trace(model, PREFIXED, perturbation=lt.Mask(draws=1), share_prefix=True, audit=0)
    said = "The layer measure 'toy_wrong' raised ValueError: my own mistake when it took in what a prefix showed"
    assert [note for note in trace.warnings if said in note]
