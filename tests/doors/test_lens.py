"""The door of lenses: rows that leave a layer are translated, and the model's own tail reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt
from layertracer._errors import NonFiniteError, UnknownNameError, UsageError
from layertracer.reports import summarize
from layertracer.tracing import LinearLens, TracedModel, gather_streams, register_lens

from tests.doors.test_observer import plainly
from tests.support.models import registry


class Shrinking:
    """Toy: everything is shrunk towards a fixed vector, the more the earlier the layer."""

    name = "toy_shrinking"
    meaning = "a toy that shrinks the stream"
    details: Mapping[str, Any] = {"made_by": "a test"}

    def __init__(self) -> None:
        self.asked: set[int] = set()

    def translate(self, rows: Tensor, layer: int) -> Tensor:
        """Rows as they would leave the last layer, in float64."""
        self.asked.add(layer)
        return shrunk(rows.double(), layer)


def shrunk(rows: Tensor, layer: int) -> Tensor:
    """What the toy makes of rows."""
    towards = torch.linspace(-3, 3, rows.shape[-1], dtype=rows.dtype)
    return rows / (3 + layer) + towards


@pytest.fixture(scope="module")
def model() -> TracedModel:
    """A trained miniature."""
    return lt.load_model("mini/attention")


def read_by_hand(model: TracedModel, ids: tuple[int, ...]) -> np.ndarray:
    """Log-probabilities [1 + layer, d_vocab] through the toy, by PyTorch's own hooks and the model's norm and head."""
    seen: list[Tensor] = []
    module = model.module
    layers = [layer.module for layer in model.anatomy.layers]

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"])[0, -1].clone())

    def after(_: nn.Module, __: Any, output: Any) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output)[0, -1].clone())

    handles = [layers[0].register_forward_pre_hook(before, with_kwargs=True)]
    handles += [layer.register_forward_hook(after) for layer in layers]
    with torch.no_grad():
        module(torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    rows = [shrunk(row, number - 1) for number, row in enumerate(seen[:-1])]
    with torch.no_grad():
        logits = module.lm_head(module.model.norm(torch.stack([*rows, seen[-1]])))
    return logits.double().log_softmax(dim=-1).numpy()


@pytest.mark.parametrize(
    "how",
    [
        {"share_prefix": False},
        {"share_prefix": True},
        {"perturbation": lt.Mask(draws=1, site="state")},
        {"plain": True},
    ],
    ids=str,
)
def test_a_toy_reads_what_hooks_and_the_models_own_head_give(model: TracedModel, how: dict[str, Any]) -> None:
    """Target, rank, entropy and top tokens of every layer; the last layer and the logit lens are as without it."""
    asked, lens = {"perturbation": lt.Mask(draws=1), **how}, Shrinking()
    traced = plainly(model) if asked.pop("plain", False) else model
    task = lt.load_task("antonym", n_shot=3, limit=3)
    trace, without = (lt.trace(traced, task, lens=one, **asked) for one in (lens, None))
    read = trace.lenses["toy_shrinking"]
    for row, prompt in enumerate(trace.prompts):
        expected = read_by_hand(model, prompt.prompt_ids)
        target = expected[:, prompt.target_ids[0]]
        np.testing.assert_allclose(read.target_log_prob[row], target[1:], atol=2e-4, rtol=1e-5)
        np.testing.assert_allclose(read.embedding_log_prob[row], target[0], atol=2e-4, rtol=1e-5)
        entropy = -(np.exp(expected) * expected).sum(axis=-1) / np.log(2)
        np.testing.assert_allclose(read.entropy_bits[row], entropy[1:], atol=1e-3)
        np.testing.assert_allclose(read.top_prob[row, :, 0], np.exp(expected.max(axis=-1))[1:], atol=1e-4)
    assert np.array_equal(read.target_log_prob[:, -1], trace.target_log_prob[:, -1])
    assert np.array_equal(read.target_rank[:, -1], trace.target_rank[:, -1])
    assert lens.asked == set(range(-1, model.anatomy.n_layers - 1))
    for name in ("target_log_prob", "target_rank", "js_bits", "top_ids"):
        assert np.array_equal(getattr(trace, name), getattr(without, name))
    assert trace.audit is not None
    assert not trace.audit.notes


def test_it_is_asked_for_by_name_and_kept(model: TracedModel, tmp_path: Path) -> None:
    """Registered, its name is enough; the run that is stored has all that it read, and where it came from."""
    task = lt.load_task("antonym", limit=3)
    with register_lens(Shrinking()):
        trace = lt.trace(model, task, lens=["logit", "toy_shrinking"])
    loaded = lt.load_run(trace.save(tmp_path / "run"))
    assert loaded == trace
    assert loaded.lenses["toy_shrinking"].details == {"made_by": "a test"}
    assert loaded.lenses["toy_shrinking"].task_particle == trace.lenses["toy_shrinking"].task_particle
    assert loaded.spec.lenses == ("toy_shrinking",)
    assert "toy_shrinking" in trace.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "toy_shrinking" in json.dumps(summarize(trace))
    with pytest.raises(UnknownNameError, match="toy_shrinking"):
        lt.trace(model, task, lens="toy_shrinking")


def test_whole_distributions_are_read_beside_those_of_the_logit_lens(model: TracedModel) -> None:
    """`read_layers`: every lens by its name, by both methods; the logit lens as without."""
    samples = [lt.Sample(prompt_ids=ids) for ids in ((5, 9, 12, 7), (8, 1, 2, 30), (4, 4, 17))]
    for traced in (model, plainly(model)):
        readout, without = (lt.read_layers(traced, samples, lens=one) for one in (Shrinking(), "logit"))
        read = readout.lenses["toy_shrinking"]
        assert torch.equal(readout.log_probs, without.log_probs)
        assert torch.allclose(read.log_probs[:, -1], readout.log_probs[:, -1], atol=1e-5)
        for row, sample in enumerate(samples):
            expected = read_by_hand(model, sample.prompt_ids)
            np.testing.assert_allclose(read.log_probs[row], expected[1:], atol=5e-4, rtol=1e-5)
            np.testing.assert_allclose(read.embedding_log_probs[row], expected[0], atol=5e-4, rtol=1e-5)


def test_several_answers_are_read_through_every_lens(model: TracedModel) -> None:
    """Continuations that begin otherwise are added for each lens: the identity reads what the logit lens reads."""
    sample = lt.Sample(prompt="hot -> cold\nbig ->", answers=(" small big", " cold hot", " small cold"))
    n_layers, width = model.anatomy.n_layers, model.anatomy.d_model
    lens = LinearLens(weights=torch.eye(width).repeat(n_layers, 1, 1), biases=torch.zeros(n_layers, width))
    trace = lt.trace(model, [sample], lens=lens, target_tokens="all")
    np.testing.assert_allclose(trace.lenses["linear"].target_log_prob, trace.target_log_prob, atol=1e-4, rtol=1e-5)
    assert np.array_equal(trace.lenses["linear"].target_rank, trace.target_rank)


class Returning:
    """A lens that returns whatever it is told to."""

    name, meaning, details = "toy_bad", "a toy", {}

    def __init__(self, makes: Any) -> None:
        self.translate = makes


def fails(*_: Any) -> None:
    """A mistake of one's own."""
    raise ValueError("my own mistake")


@pytest.mark.parametrize(
    ("makes", "error", "says"),
    [
        (fails, UsageError, r"raised ValueError: my own mistake after the embeddings \(.*That is code of its own"),
        (lambda rows, _: rows[:, :-1], UsageError, "as many rows of the same width"),
        (lambda rows, _: rows.long(), UsageError, "floating-point"),
        (lambda *_: None, UsageError, "made None"),
        (lambda rows, _: rows * torch.nan, NonFiniteError, "after the embeddings NaN or infinite"),
        (lambda rows, layer: rows / 0 if layer == 2 else rows, NonFiniteError, "after layer 2 NaN or infinite"),
    ],
)
def test_what_a_lens_may_not_return_is_refused(
    model: TracedModel, makes: Any, error: type[Exception], says: str
) -> None:
    """In traces and readouts, by an error that names the lens and what was got."""
    for run in (
        lambda lens: lt.trace(model, lt.load_task("antonym", limit=2), lens=lens),
        lambda lens: lt.read_layers(model, [lt.Sample(prompt_ids=(3, 4))], lens=lens),
    ):
        with pytest.raises(error, match=f"toy_bad.*{says}"):
            run(Returning(makes))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (3, "lens cannot be 3"),
        (Shrinking, "lens cannot be"),
        ([Shrinking(), Shrinking()], "Two lenses are called 'toy_shrinking'"),
    ],
)
def test_what_is_no_lens_is_refused(model: TracedModel, given: Any, says: str) -> None:
    """Before anything runs."""
    with pytest.raises(UsageError, match=says):
        lt.trace(model, lt.load_task("antonym", limit=2), lens=given)


def test_a_lens_of_another_model_is_refused(model: TracedModel) -> None:
    """A linear lens says for which sizes it is."""
    lens = LinearLens(weights=torch.eye(4).repeat(2, 1, 1), biases=torch.zeros(2, 4))
    with pytest.raises(UsageError, match="for a model of 2 layers and width 4"):
        lt.read_layers(model, [lt.Sample(prompt_ids=(3, 4))], lens=lens)


@pytest.mark.parametrize("n_layers", [2, 16])
def test_a_lens_of_a_model_of_other_depth_is_refused(model: TracedModel, n_layers: int) -> None:
    """Before the first pass, though the widths agree: each matrix is of one layer of one model."""
    width = model.anatomy.d_model
    lens = LinearLens(weights=torch.eye(width).repeat(n_layers, 1, 1), biases=torch.zeros(n_layers, width))
    said = f"for a model of {n_layers} layers and width {width}, and this one has {model.anatomy.n_layers} layers"
    with model.network.call.module.register_forward_pre_hook(lambda *_: pytest.fail("a pass was run")):
        for run in (
            lambda: lt.trace(model, lt.load_task("antonym", limit=2), lens=lens),
            lambda: lt.read_layers(model, [lt.Sample(prompt_ids=(3, 4))], lens=lens),
        ):
            with pytest.raises(UsageError, match=said):
                run()


def test_a_constant_goes_into_the_bias_alone(model: TracedModel) -> None:
    """A constant added to all streams but the last leaves the weights; what is read stays what it was."""
    ids = torch.from_numpy(np.random.default_rng(0).integers(1, 200, size=(6, 40)))
    streams = gather_streams(model.network, ids)
    shifted = streams + 5.0
    shifted[-1] = streams[-1]
    one, other = LinearLens.fitted(streams), LinearLens.fitted(shifted)
    assert torch.allclose(one.weights, other.weights, atol=1e-3)
    made = one.translate(streams[3], 2), other.translate(shifted[3], 2)
    assert torch.allclose(*made, atol=1e-2)
    assert one.details["n_positions"] == 240
    assert one.details["fingerprint"] != other.details["fingerprint"]
    with pytest.raises(UsageError, match="cannot be fitted"):
        LinearLens.fitted(streams[:1])


class OfItsNeighbours(Shrinking):
    """A lens that reads a row by those beside it, which none may."""

    name = "toy_neighbours"

    def translate(self, rows: Tensor, layer: int) -> Tensor:
        """Rows with their mean taken off."""
        del layer
        return rows - rows.mean(dim=0)


def test_the_audit_finds_a_lens_that_reads_rows_by_their_neighbours(model: TracedModel) -> None:
    """What a prompt alone does not give beside others is measured anew, one at a time, and the trace says why."""
    trace = lt.trace(
        model, lt.load_task("antonym", n_shot=1, limit=4), lens=OfItsNeighbours(), perturbation=lt.Mask(draws=1)
    )
    assert trace.method == "plain"
    assert any("by the lens 'toy_neighbours'" in warning for warning in trace.warnings)


def test_streams_of_several_vectors_are_refused() -> None:
    """Hyper-connections hold four vectors for a token: a lens translates one."""
    several = lt.wrap_model(registry.build("deepseek_v4"))
    with pytest.raises(UsageError, match=r"holds \[4, 32\] numbers for each token"):
        lt.read_layers(several, [lt.Sample(prompt_ids=(3, 4))], lens=Shrinking())


def test_no_lens_of_ones_own_is_the_logit_lens(model: TracedModel) -> None:
    """The name is taken; a lens of that name is refused, not left out, and so are details that cannot be stored."""
    lens = Shrinking()
    lens.name = "logit"
    with pytest.raises(UsageError, match="cannot be called 'logit'"):
        lt.trace(model, lt.load_task("antonym", limit=2), lens=lens)
    other = Shrinking()
    other.details = {"where": object()}
    with pytest.raises(UsageError, match="cannot be stored as JSON"):
        lt.trace(model, lt.load_task("antonym", limit=2), lens=other)
