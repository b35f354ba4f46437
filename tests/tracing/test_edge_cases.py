"""What real checkpoints and modules bring that tiny tidy ones do not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

import layertracer as lt

from tests.support.oracles.plain_hooks import plain_js
from tests.tracing.test_self_check import D_VOCAB, N_LAYERS, SAMPLES, WIDTH, Layer, Model, RunningMean


def _llama(**settings: object) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, **settings
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("settings", [{"eos_token_id": [1, 2]}, {"pad_token_id": 0, "eos_token_id": [1]}])
def test_several_end_tokens_do_no_harm(settings: dict[str, object]) -> None:
    """A configuration may list its end tokens; probes leave all of them out."""
    model = lt.wrap_model(_llama(**settings))
    assert model.self_check.passed
    assert not {1, 0 if "pad_token_id" in settings else 2} & set(model.anatomy.plain_tokens.tolist())


def test_any_kind_of_config_is_taken() -> None:
    """A module of one's own may keep its configuration in a dictionary."""
    module = Model()
    module.config = {"width": WIDTH}
    assert lt.wrap_model(module).anatomy.n_layers == N_LAYERS


class _InPlace(Layer):
    """The same layer, which adds to the stream in place."""

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after the layer, the very tensor that came in."""
        stream += self.mixer(stream)
        stream += self.mlp(stream.tanh())
        return stream


@pytest.mark.parametrize("site", ["block_output", "mixer_output", "mlp_output"])
@pytest.mark.parametrize("fill", ["zero", "mean", "resample"])
def test_adding_in_place_changes_no_number(site: str, fill: str) -> None:
    """A model that writes into its stream gives what the same model without gives, whatever the fill."""
    tidy, hasty = Model(), Model()
    for layer in hasty.layers:
        layer.__class__ = _InPlace
    mask = lt.Mask(fraction=0.5, draws=2, site=site, fill=fill)
    one, other = (lt.trace(lt.wrap_model(module), SAMPLES, perturbation=mask) for module in (tidy, hasty))
    assert np.allclose(one.js_bits, other.js_bits, atol=1e-6)
    assert np.allclose(one.target_prob, other.target_prob, atol=1e-6)
    assert np.allclose(one.dominant_ratio, other.dominant_ratio, rtol=1e-4)


class _Returns(Model):
    """The model, with its answer packed in some way."""

    def __init__(self, pack: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.pack = pack

    def forward(self, token_ids: Tensor) -> object:
        """The stream and the logits, packed."""
        logits = super().forward(token_ids)
        return self.pack(torch.zeros(*token_ids.shape, WIDTH), logits)


def test_logits_are_found_by_name_beside_other_tensors() -> None:
    """In a dictionary the logits are those called so, not the first tensor of that shape."""
    model = lt.wrap_model(_Returns(lambda stream, logits: {"hidden_states": stream, "logits": logits}))
    assert model.anatomy.d_vocab == D_VOCAB


def test_logits_that_cannot_be_told_apart_are_refused() -> None:
    """Of two tensors that could be the logits none is guessed."""
    with pytest.raises(lt.AnatomyError, match=r"holds 2 tensors .* none is called logits"):
        lt.wrap_model(_Returns(lambda stream, logits: (stream, logits)))


class _Weightless(nn.Module):
    """Mixes positions without any weight of its own."""

    def forward(self, values: Tensor) -> Tensor:
        """The mean over the past."""
        return values.cumsum(1) / torch.arange(1, values.shape[1] + 1)[:, None]


class _ProjectsAround(nn.Module):
    """A layer whose projections stand beside a mixer without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.core, self.after = nn.Linear(WIDTH, WIDTH), _Weightless(), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Linear(WIDTH, WIDTH)

    def forward(self, stream: Tensor) -> Tensor:
        """The stream after the layer."""
        stream = stream + self.after(self.core(self.before(stream)))
        written: Tensor = stream + self.mlp(stream)
        return written


def test_projections_beside_a_mixer_are_no_mlp() -> None:
    """Where projections are parts of their own, each site is what its branch adds, projections and all."""
    module = Model()
    module.layers = nn.ModuleList(_ProjectsAround() for _ in range(N_LAYERS))
    model = lt.wrap_model(module)
    keep = np.arange(N_LAYERS * WIDTH).reshape(N_LAYERS, 1, WIDTH) % 3 > 0
    for site, branch in (("mixer_output", "after"), ("mlp_output", "mlp")):
        found = lt.trace(model, SAMPLES, perturbation=lt.Mask.explicit(keep, site=site)).js_bits
        branches = {site: branch}
        for prompt, sample in enumerate(SAMPLES):
            expected = plain_js(module, "layers", sample.prompt_ids, keep=keep, branches=branches, site=site)
            np.testing.assert_allclose(found[prompt], expected, atol=1e-6)
            assert expected.max() > 1e-4


class _PositionFirst(Model):
    """The stream is [position, batch, width] inside the layers."""

    def enter(self, stream: Tensor) -> Tensor:
        """Positions first."""
        return stream.transpose(0, 1)

    def leave(self, stream: Tensor) -> Tensor:
        """Rows first again."""
        return stream.transpose(0, 1)


class _PositionFirstMean(RunningMean):
    """The running mean over the first axis."""

    def forward(self, stream: Tensor) -> Tensor:
        """What is added to the stream, [position, batch, width]."""
        written: Tensor = self.matrix(stream.cumsum(0) / torch.arange(1, len(stream) + 1)[:, None, None])
        return written


@pytest.mark.parametrize("site", ["block_output", "mixer_output", "mlp_output"])
def test_the_order_of_axes_changes_no_number(site: str) -> None:
    """With positions first, mixers and MLPs are told apart and the numbers are the same."""
    plain, turned = Model(), _PositionFirst()
    for layer in turned.layers:
        layer.mixer.__class__ = _PositionFirstMean
    model = lt.wrap_model(turned)
    assert {(layer.mixer, layer.mlp) for layer in model.anatomy.layers} == {("linear_attention", "dense")}
    mask = lt.Mask(fraction=0.5, draws=2, site=site)
    one, other = (lt.trace(m, SAMPLES, perturbation=mask).js_bits for m in (lt.wrap_model(plain), model))
    assert np.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_makes_no_mixer_of_experts(dtype: torch.dtype) -> None:
    """In half precision, experts are rounded otherwise beside other tokens; that is no mixing."""
    config = Qwen3MoeConfig(
        vocab_size=60, hidden_size=32, intermediate_size=48, moe_intermediate_size=24, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_experts=6, num_experts_per_tok=2,
    )  # fmt: skip
    model = lt.wrap_model(Qwen3MoeForCausalLM(config).to(dtype))
    assert {(layer.mixer, layer.mlp) for layer in model.anatomy.layers} == {("attention", "experts")}


@pytest.mark.parametrize("d_vocab", [2, 4, 7])
def test_small_vocabularies_are_read(d_vocab: int) -> None:
    """A vocabulary of a few tokens is traced, with as many top tokens as there are."""
    module = Model()
    module.embed, module.unembed = nn.Embedding(d_vocab, WIDTH), nn.Linear(WIDTH, d_vocab)
    trace = lt.trace(lt.wrap_model(module), [lt.Sample(prompt_ids=(0, 1, 1), answer_id=0)])
    assert trace.top_ids.shape == (1, N_LAYERS, min(5, d_vocab))


class _FailsOnLongPrompts(Model):
    """Raises an error of its own for prompts of four tokens, once it may: in any batch, or in those of several."""

    beside_others_only = False

    armed = False

    def enter(self, stream: Tensor) -> Tensor:
        """The stream, or an error."""
        if self.armed and stream.shape[1] == 4 and stream.shape[0] > self.beside_others_only:
            raise RuntimeError("no such kernel")
        return stream


def test_an_error_of_the_models_own_keeps_what_was_finished() -> None:
    """Whatever a model raises halfway, the prompts before it stay in the error's record."""
    module = _FailsOnLongPrompts()
    model = lt.wrap_model(module)
    samples = [lt.Sample(prompt_ids=(1, 2, 3), answer_id=7), *SAMPLES[:2]]
    expected = lt.trace(model, samples)
    module.armed = True
    with pytest.raises(lt.ModelError, match="RuntimeError: no such kernel") as caught:
        lt.trace(model, samples)
    assert isinstance(caught.value.record, lt.Trace)
    assert caught.value.record.status == "failed"
    assert caught.value.record.n_prompts in (0, 1)
    assert np.array_equal(caught.value.record.js_bits, expected.js_bits[: caught.value.record.n_prompts])


def test_an_error_of_batches_alone_is_gone_round() -> None:
    """Where prompts run alone without the error that their batch raises, they are traced so, and the trace says it."""
    module = _FailsOnLongPrompts()
    model = lt.wrap_model(module)
    samples = [lt.Sample(prompt_ids=(1, 2, 3), answer_id=7), *SAMPLES[:2]]
    expected = lt.trace(model, samples)
    module.armed = module.beside_others_only = True
    trace = lt.trace(model, samples)
    assert (trace.status, trace.method) == ("complete", "plain")
    assert any("no such kernel" in warning for warning in trace.warnings)
    assert np.allclose(trace.js_bits, expected.js_bits, atol=1e-6)


def test_readouts_can_be_worked_with() -> None:
    """What read_layers returns is an ordinary tensor: it may be changed in place."""
    readout = lt.read_layers(lt.wrap_model(Model()), SAMPLES)
    assert readout.log_probs.exp_().sum(-1).allclose(torch.ones(len(SAMPLES), N_LAYERS), atol=1e-5)


def test_tokens_for_a_decoder_are_not_dropped_in_silence() -> None:
    """decoder_ids have no meaning without an encoder."""
    with pytest.raises(lt.UsageError, match="no encoder"):
        lt.trace(lt.wrap_model(Model()), [lt.Sample(prompt_ids=(1, 5), decoder_ids=(0,), answer_id=3)])


def test_masks_are_equal_where_they_mask_alike() -> None:
    """Given masks are compared by what they keep; a negative seed is refused."""
    one, other = lt.Mask.explicit([[[1, 0]]]), lt.Mask.explicit([[[0, 1]]])
    assert one != other
    assert one == lt.Mask.explicit(np.array([[[1, 0]]]))
    assert len({one, other, lt.Mask(), lt.Mask()}) == 3
    with pytest.raises(lt.UsageError, match="seed must be at least 0"):
        lt.Mask(seed=-1)
