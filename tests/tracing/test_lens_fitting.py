"""Lenses fitted to a model: gradients, least squares, reports, the split of the text, and what stays as it was."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from torch import Tensor, nn

import layertracer as lt
from layertracer._errors import PromptTooLongError, TaskError, UsageError
from layertracer.models import without_gradients
from layertracer.tracing import AffineLens, fit_lens, measure_lens_quality
from layertracer.tracing._lens_fitting.kl_gradient import kl_and_gradient
from layertracer.tracing._lens_fitting.lens_bench import lens_bench
from layertracer.tracing._lens_fitting.text_split import PassageSizes, split_text
from layertracer.tracing._lens_fitting.tuned import _Translators

from tests.support.tiny import fresh, tiny
from tests.support.tokenizers import word_tokenizer

FAMILIES = ["gemma2", "gpt2"]


def rows_of_ids(n_rows: int, length: int, *, seed: int = 0, low: int = 3, high: int = 101) -> list[list[int]]:
    """Random token ids."""
    return np.random.default_rng(seed).integers(low, high, (n_rows, length)).tolist()


def plain_streams(module: Any, ids: Tensor) -> tuple[Tensor, ...]:
    """What enters the first layer and leaves all but the last, by transformers' own output."""
    with torch.no_grad():
        hidden: tuple[Tensor, ...] = module(ids, output_hidden_states=True, use_cache=False).hidden_states
    return hidden[:-1]


def plain_tail(module: Any, rows: Tensor) -> Tensor:
    """The final norm, the unembedding and the softcap, written out."""
    norm = module.transformer.ln_f if hasattr(module, "transformer") else module.model.norm
    logits: Tensor = module.lm_head(norm(rows))
    cap = getattr(module.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_at_the_identity_is_autograds_on_the_plain_formula(family: str) -> None:
    """D KL(final ‖ tail(x + x A + b)) by A and b at A = 0, b = 0, with a softcap and without.

    In float64, but for the norms of gemma2, which transformers works out in float32.
    """
    module: Any = fresh(family).double()
    model = lt.wrap_model(module, name=family)
    ids = torch.tensor(rows_of_ids(1, 40))
    streams = plain_streams(module, ids)
    with torch.no_grad():
        log_p = module(ids).logits[0].log_softmax(dim=-1)
    width = model.anatomy.d_model
    for x in (stream[0] for stream in streams):
        weight, bias = torch.zeros(width, width, dtype=x.dtype), torch.zeros(width, dtype=x.dtype)
        weight.requires_grad_(), bias.requires_grad_()
        log_q = plain_tail(module, x + x @ weight + bias).log_softmax(dim=-1)
        kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
        of_weight, of_bias = torch.autograd.grad(kl, (weight, bias))
        with without_gradients(), lens_bench(model, doing="in a test") as bench:
            value, gradient = kl_and_gradient(bench, x, log_p)
        assert float(value.mean()) == pytest.approx(float(kl.detach()), rel=1e-6)
        torch.testing.assert_close(x.mT @ gradient / len(x), of_weight, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(gradient.sum(dim=0) / len(x), of_bias, rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


def test_gradients_in_whitened_coordinates_are_those_of_what_the_translator_makes() -> None:
    """The step follows d KL by the whitened matrices, as autograd has it of x + ((x − μ) F A + b) σ."""
    module: Any = fresh("gemma2")
    model = lt.wrap_model(module, name="gemma2")
    with without_gradients(), lens_bench(model, doing="in a test") as bench:
        streams = bench.gather(rows_of_ids(6, 40))
        translators = _Translators.identity(streams, device=torch.device("cpu"))
        translators.weights += 0.01 * torch.randn(translators.weights.shape, generator=torch.Generator().manual_seed(0))
        of_weights, of_biases = translators.gradients(bench, streams[:, :30])
    for layer in range(model.anatomy.n_layers):
        x = streams[layer, :30]
        weight, bias = translators.weights[layer].clone().requires_grad_(), translators.biases[layer].clone()
        bias.requires_grad_()
        made = x + ((x - translators.means[layer]) @ translators.whitening[layer] @ weight + bias) * translators.scale
        log_p = plain_tail(module, streams[-1, :30]).log_softmax(dim=-1).detach()
        kl = (log_p.exp() * (log_p - plain_tail(module, made).log_softmax(dim=-1))).sum(dim=-1).mean()
        expected = torch.autograd.grad(kl, (weight, bias))
        torch.testing.assert_close(of_weights[layer], expected[0], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(of_biases[layer], expected[1], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def miniature() -> lt.TracedModel:
    """A trained miniature."""
    return lt.load_model("mini/attention")


@pytest.fixture(scope="module")
def linear(miniature: lt.TracedModel) -> AffineLens:
    """A linear lens of it, on text that it writes itself."""
    return fit_lens(miniature, kind="linear", n_rows=24, row_tokens=64)


def test_a_linear_lens_is_the_least_squares_of_numpy(miniature: lt.TracedModel) -> None:
    """Its matrix is that of NumPy's least squares with the ridge, on centred streams, and its bias what is left."""
    rows = rows_of_ids(20, 64, high=1800)
    lens = fit_lens(miniature, rows, kind="linear", seed=3)
    split = split_text(
        miniature, tuple(lt.Sample(prompt_ids=tuple(row)) for row in rows), PassageSizes(n_rows=64, least=8), seed=3
    )
    with torch.no_grad():
        seen = [plain_streams(miniature.module, torch.tensor([row])) for row in split.fit]
        last = [_last_stream(miniature.module, torch.tensor([row])) for row in split.fit]
    y = torch.cat([one[0, 1:] for one in last]).double().numpy()
    for layer in (0, 3, 7):
        x = torch.cat([one[layer][0, 1:] for one in seen]).double().numpy()
        x_c, y_c = x - x.mean(axis=0), y - y.mean(axis=0)
        ridge = math.sqrt(1e-4 * float((x_c**2).sum(axis=0).mean()))
        padded = np.vstack([x_c, ridge * np.eye(x.shape[1])])
        expected, *_ = np.linalg.lstsq(padded, np.vstack([y_c, np.zeros((x.shape[1], y.shape[1]))]), rcond=None)
        np.testing.assert_allclose(lens.weights[layer].numpy(), expected, atol=2e-3 * np.abs(expected).max())
        made = x @ lens.weights[layer].double().numpy() + lens.biases[layer].double().numpy()
        assert np.abs(made.mean(axis=0) - y.mean(axis=0)).max() < 1e-3 * np.abs(y).max()


def _last_stream(module: Any, ids: Tensor) -> Tensor:
    """What leaves the last layer, by a hook."""
    seen: list[Tensor] = []

    def keep(_module: Any, _args: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handle = module.model.layers[-1].register_forward_hook(keep)
    module(ids)
    handle.remove()
    return seen[0]


def test_reports_are_what_plain_hooks_give_in_float64(miniature: lt.TracedModel, linear: AffineLens) -> None:
    """KL, bias and top-1 agreement of hundreds of tokens, worked out in float64 from transformers' own streams."""
    rows = rows_of_ids(6, 80, seed=5, high=1800)
    logit, own = measure_lens_quality(miniature, rows, linear, n_rows=6)
    module: Any = miniature.module
    with torch.no_grad():
        streams = [
            torch.cat([plain_streams(module, torch.tensor([row]))[layer][0, 1:] for row in rows])
            for layer in range(miniature.anatomy.n_layers)
        ]
        final = torch.cat([module(torch.tensor([row])).logits[0, 1:] for row in rows]).double().log_softmax(dim=-1)
        for lens_row, stream in enumerate(streams):
            translated = stream.double() @ linear.weights[lens_row].double() + linear.biases[lens_row].double()
            made = stream if lens_row - 1 in linear.fallback else translated.float()
            for report, given in ((logit, stream), (own, made)):
                log_q = plain_tail(module, given).double().log_softmax(dim=-1)
                kl = (final.exp() * (final - log_q)).sum(dim=-1).mean()
                means = final.exp().mean(dim=0), log_q.exp().mean(dim=0)
                bias = (means[0] * (means[0].log() - means[1].log())).sum()
                top1 = (final.argmax(dim=-1) == log_q.argmax(dim=-1)).double().mean()
                assert report.kl_nats[lens_row] == pytest.approx(float(kl), rel=1e-4)
                assert report.bias_nats[lens_row] == pytest.approx(float(bias), rel=1e-4)
                assert report.top1[lens_row] == pytest.approx(float(top1), abs=0.01)
    for report in (logit, own):
        assert report.n_tokens == 6 * 79
        assert report.kl_nats[-1] < 1e-6
        assert report.top1[-1] == 1.0
        assert np.all(report.bias_nats <= report.kl_nats + 1e-9)


def test_a_tuned_lens_reads_better_than_the_logit_lens_on_text_that_it_never_saw(miniature: lt.TracedModel) -> None:
    """On the report split, at every layer that does not fall back; equal arguments give equal lenses."""
    lenses = [fit_lens(miniature, n_rows=18, row_tokens=64, n_steps=16, seed=1) for _ in range(2)]
    assert lenses[0].details == lenses[1].details
    torch.testing.assert_close(lenses[0].weights, lenses[1].weights, rtol=0, atol=0)
    own, logit = lenses[0].quality, lenses[0].reports["logit"]
    kept = [row for row in range(miniature.anatomy.n_layers) if row - 1 not in lenses[0].fallback]
    assert len(kept) >= 6
    assert np.all(own.kl_nats[kept] < logit.kl_nats[kept])
    assert lenses[0].name == "tuned"
    assert own.n_tokens == lenses[0].details["n_passages"]["report"] * 63


def test_a_lens_that_is_no_better_falls_back_and_says_so() -> None:
    """A linear lens fitted on far fewer tokens than dimensions: where it falls back, it is the logit lens exactly."""
    model = lt.wrap_model(fresh("llama"), name="llama")
    lens = fit_lens(model, rows_of_ids(3, 8), kind="linear")
    assert lens.fallback
    layer = lens.fallback[0]
    own, logit = lens.quality, lens.reports["logit"]
    assert own.kl_nats[1 + layer] == logit.kl_nats[1 + layer]
    rows = torch.randn(5, model.anatomy.d_model)
    assert lens.translate(rows, layer) is rows
    assert own.fallback == lens.fallback
    assert "nothing is translated" in lens.meaning
    readout = lt.read_layers(model, [lt.Sample(prompt_ids=(5, 6, 7))], lens=lens)
    every = torch.cat((readout.embedding_log_probs[:, None], readout.log_probs), dim=1)
    read = readout.lenses["linear"]
    through = torch.cat((read.embedding_log_probs[:, None], read.log_probs), dim=1)
    torch.testing.assert_close(through[:, 1 + layer], every[:, 1 + layer], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["linear", "tuned", "jacobian"])
def test_the_model_comes_back_as_it_was(kind: Any) -> None:
    """In train mode, with gradients on and some kept, one parameter frozen: so it is afterwards; no hook is left."""
    module = fresh("llama")
    model = lt.wrap_model(module, name="llama")
    module.train()
    first, second, *_ = module.parameters()
    first.grad, second.requires_grad = torch.ones_like(first), False
    before = {name: (one.clone(), one.requires_grad, one.grad) for name, one in module.named_parameters()}
    state = torch.random.get_rng_state()
    fit_lens(model, rows_of_ids(6, 24), kind=kind, n_steps=3)
    for name, one in module.named_parameters():
        assert torch.equal(one, before[name][0])
        assert one.requires_grad == before[name][1]
        assert one.grad is before[name][2]
    assert module.training
    assert all(part.training for part in module.modules())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(part._forward_hooks or "forward" in vars(part) for part in module.modules())


def test_no_passage_serves_two_purposes() -> None:
    """Parts share no run of 13 tokens; copies count once; what repeats another part is left out, and that is said."""
    model = tiny("llama")
    rows = rows_of_ids(18, 40)
    rows += [rows[0], rows[1][:20] + rows_of_ids(1, 20, seed=9)[0]]
    samples = tuple(lt.Sample(prompt_ids=tuple(row)) for row in rows)
    for seed in range(8):
        split = split_text(model, samples, PassageSizes(n_rows=64, least=8), seed=seed)
        runs = [
            {tuple(row[at : at + 13]) for row in part for at in range(len(row) - 12)}
            for part in (split.fit, split.choose, split.report)
        ]
        assert not (runs[0] & runs[1])
        assert not (runs[0] & runs[2])
        assert not (runs[1] & runs[2])
        assert any("copies" in note for note in split.notes)


def test_short_texts_are_passages_of_their_own() -> None:
    """Texts of a list that are shorter than a passage are read whole."""
    words = [f"w{number}" for number in range(60)]
    model = lt.wrap_model(fresh("llama"), word_tokenizer(words), name="llama")
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(words, size=12)) for _ in range(9)]
    lens = lt.fit_lens(model, texts, kind="linear")
    assert sum(lens.details["n_passages"].values()) == 9


class Without(nn.Module):
    """A language model whose head gives no gradient."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits, through rounding."""
        logits: Tensor = self.inner(input_ids, use_cache=False).logits
        return logits.detach()


def test_what_no_lens_can_be_fitted_on_is_refused_with_the_reason() -> None:
    """Encoders, streams of several vectors, heads without a gradient, offloaded weights for Jacobians, short text."""
    rows = rows_of_ids(6, 24)
    with pytest.raises(UsageError, match="reads one text with an encoder"):
        fit_lens(tiny("encdec:t5"), rows)
    with pytest.raises(UsageError, match=r"cannot be fitted|No lens can be fitted on .* not one vector"):
        fit_lens(tiny("gemma3n_text"), rows)
    headless = lt.wrap_model(Without(fresh("llama")), name="headless")
    with pytest.raises(UsageError, match="no gradient comes back"):
        fit_lens(headless, rows, kind="tuned")
    assert fit_lens(headless, rows, kind="linear").quality.n_tokens
    module = fresh("llama")
    cpu_offload(module, execution_device=torch.device("cpu"))
    placed = lt.wrap_model(module, name="placed")
    with pytest.raises(UsageError, match="weights are offloaded"):
        fit_lens(placed, rows, kind="jacobian")
    assert fit_lens(placed, rows, kind="tuned", n_steps=2).quality.n_tokens
    with pytest.raises(TaskError, match="too short for a lens"):
        fit_lens(tiny("llama"), rows[:2])
    with pytest.raises(PromptTooLongError, match="longer than the context"):
        fit_lens(tiny("llama"), rows_of_ids(6, 80))
    with pytest.raises(UsageError, match="kind must be one of"):
        fit_lens(tiny("llama"), rows, kind="cubic")  # type: ignore[arg-type]


def test_half_precision_models_get_lenses_in_float32() -> None:
    """A bfloat16 model: what is fitted is finite, in float32, and better than nothing where it does not fall back."""
    model = lt.wrap_model(fresh("llama").to(torch.bfloat16), name="half")
    lens = fit_lens(model, rows_of_ids(12, 32), n_steps=8)
    assert lens.weights.dtype == torch.float32
    assert bool(lens.weights.isfinite().all())
    assert np.isfinite(lens.quality.kl_nats).all()
