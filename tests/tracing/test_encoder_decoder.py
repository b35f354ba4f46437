"""Encoder-decoder models: the prompt goes to the encoder, the decoder's layers are traced."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

import layertracer as lt

from tests.support.models import registry
from tests.support.oracles.plain_hooks import js_when_masked, log_softmax
from tests.support.tiny import tiny
from tests.support.tokenizers import byte_fallback, word_tokenizer

SOURCES = ((7, 23, 91, 4, 66), (12, 45, 3), (90, 33, 15, 62, 48), (55, 8, 74))
DECODED = ((5, 9, 12), (5, 44), (5, 60, 61), (5, 30, 8))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    """A tiny T5."""
    module = registry.build("t5", encoder_decoder=True)
    module.generation_config.decoder_start_token_id = 5
    return module


@pytest.fixture(scope="module")
def model(module: nn.Module) -> lt.TracedModel:
    """The same, ready to be traced."""
    return lt.wrap_model(module)


def _log_probs(module: nn.Module, source: tuple[int, ...], decoded: tuple[int, ...]) -> np.ndarray:
    """The model's own log-probabilities at the last decoder position, float64."""
    with torch.no_grad():
        logits = module(
            input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([decoded]), use_cache=False
        ).logits
    return log_softmax(logits[0, -1])


def test_decoder_layers_are_traced_beside_prompts_of_any_length(module: nn.Module, model: lt.TracedModel) -> None:
    """Readouts and JS of every prompt are those of running it alone with one hook; order and lengths do not matter."""
    samples = [
        lt.Sample(prompt_ids=source, decoder_ids=decoded, answer_id=17)
        for source, decoded in zip(SOURCES, DECODED, strict=True)
    ]
    layers = module.decoder.block
    assert [layer.module for layer in model.anatomy.layers] == list(layers)
    keep = np.random.default_rng(0).random((len(layers), 2, model.anatomy.d_model)) < 0.5
    trace = lt.trace(model, samples, perturbation=lt.Mask.explicit(keep))
    own = lt.read_layers(model, samples).log_probs[:, -1]
    for prompt, (source, decoded) in enumerate(zip(SOURCES, DECODED, strict=True)):
        clean = _log_probs(module, source, decoded)
        np.testing.assert_allclose(own[prompt], clean, atol=1e-5)
        np.testing.assert_allclose(trace.target_prob[prompt, -1], np.exp(clean[17]), atol=1e-6)
        expected = js_when_masked(partial(_log_probs, module, source, decoded), list(layers), keep)
        np.testing.assert_allclose(trace.js_bits[prompt], expected, atol=1e-6, rtol=0)


def test_without_decoder_ids_the_decoder_has_read_its_start_token(module: nn.Module, model: lt.TracedModel) -> None:
    """A sample without decoder_ids is one whose decoder has read the configured start token."""
    start = (module.generation_config.decoder_start_token_id,)
    without, given = (
        lt.read_layers(model, [lt.Sample(prompt_ids=SOURCES[0], decoder_ids=decoder_ids)]).log_probs
        for decoder_ids in (None, start)
    )
    assert torch.equal(without, given)


def test_target_is_read_after_what_the_decoder_has_read(module: nn.Module, model: lt.TracedModel) -> None:
    """The target's probability is the model's own after the last of decoder_ids."""
    trace = lt.trace(model, [lt.Sample(prompt_ids=SOURCES[0], decoder_ids=(5, 9), answer_id=12)])
    expected = _log_probs(module, SOURCES[0], (5, 9))[12]
    assert np.log(trace.target_prob[0, -1]) == pytest.approx(expected, abs=1e-4)


def test_model_without_a_start_token_asks_for_decoder_ids() -> None:
    """Where nothing says what the decoder starts with, the error asks for it."""
    module = registry.build("t5", encoder_decoder=True)
    module.config.decoder_start_token_id = module.config.bos_token_id = None
    module.generation_config.decoder_start_token_id = module.generation_config.bos_token_id = None
    with pytest.raises(lt.UsageError, match=r"names no token that its decoder starts with.*decoder_ids=\(start,\)"):
        lt.trace(lt.wrap_model(module), [lt.Sample(prompt_ids=(3, 4), answer_id=5)])


def test_prompt_outside_the_encoders_vocabulary_is_refused(model: lt.TracedModel) -> None:
    """A token that the encoder does not know is named before anything is computed."""
    with pytest.raises(lt.UsageError, match="token id 4000"):
        lt.trace(model, [lt.Sample(prompt_ids=(3, 4000), answer_id=5)])


def test_decoder_ids_are_refused_by_a_model_without_an_encoder() -> None:
    """A decoder-only model says that it has no encoder."""
    with pytest.raises(lt.UsageError, match="has no encoder"):
        lt.trace(tiny("llama"), [lt.Sample(prompt_ids=(3,), decoder_ids=(4,), answer_id=5)])


# ---------------------------------------------------------------- forced first tokens


def _bart(**settings: object) -> nn.Module:
    """A tiny BART."""
    config = BartConfig(
        vocab_size=50,
        d_model=32,
        encoder_layers=1,
        decoder_layers=3,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=64,
        max_position_embeddings=32,
        init_std=0.6,
        scale_embedding=True,
        decoder_start_token_id=2,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(13)
        module = BartForConditionalGeneration(config).eval().requires_grad_(False)
    module.generation_config.num_beams = 1
    module.generation_config.forced_bos_token_id = None
    for name, value in settings.items():
        setattr(module.generation_config, name, value)
    return module


def _translator(language: str | None, **attributes: object) -> PreTrainedTokenizerFast:
    """A tokenizer that knows languages as words: fra_Latn is 8, __fr__ is 9."""
    tokenizer = word_tokenizer(["fra_Latn", "__fr__"])
    for name, value in ({"tgt_lang": language} | attributes).items():
        setattr(tokenizer, name, value)
    return tokenizer


@pytest.mark.parametrize(
    ("settings", "tokenizer", "start"),
    [
        ({"forced_bos_token_id": 0}, None, (2, 0)),
        ({"forced_decoder_ids": [[1, 30], [2, 31], [4, 9]]}, None, (2, 30, 31)),
        ({"forced_decoder_ids": [[1, None]], "forced_bos_token_id": 0}, None, (2, 0)),
        ({"forced_bos_token_id": 0}, _translator("fra_Latn"), (2, 0)),
        ({}, _translator("fra_Latn"), (2, 8)),
        ({}, _translator("fr"), (2, 9)),
        ({}, _translator("fr_XX", lang_code_to_id={"fr_XX": 40}), (2, 40)),
        ({}, _translator("fr_XX", lang_code_to_id={"fr_XX": 2}), (2,)),
        ({}, None, (2,)),
    ],
)
def test_without_decoder_ids_the_decoder_has_read_what_generation_forces(
    settings: dict[str, object], tokenizer: PreTrainedTokenizerFast | None, start: tuple[int, ...]
) -> None:
    """The answer is read behind the start token and the tokens that generation, or the target language, puts there."""
    module = _bart(**settings)
    model = lt.wrap_model(module, tokenizer)
    source = (0, 7, 9, 11, 2)
    if settings.get("forced_bos_token_id") == 0:
        said = module.generate(torch.tensor([source]), max_new_tokens=4, do_sample=False)[0].tolist()  # type: ignore[operator]  # a model of transformers
        assert said[: len(start)] == list(start)
    trace = lt.trace(model, [lt.Sample(prompt_ids=source, answer_id=12)], perturbation=lt.Mask(draws=1, fraction=1.0))
    assert np.log(trace.target_prob[0, -1]) == pytest.approx(_log_probs(module, source, start)[12], abs=1e-4)
    assert not any("language" in warning for warning in trace.warnings)


def test_a_language_that_only_the_user_knows_is_asked_for() -> None:
    """Where the tokenizer has languages and none is named, a warning says so; decoder_ids silence it."""
    source, mask = (0, 7, 9, 2), lt.Mask(draws=1, fraction=1.0)
    unset = lt.wrap_model(_bart(), _translator(None))
    trace = lt.trace(unset, [lt.Sample(prompt_ids=source, answer_id=12)], perturbation=mask)
    assert any("1 of 1 prompts are read behind the decoder's start token alone" in text for text in trace.warnings)
    given = lt.trace(unset, [lt.Sample(prompt_ids=source, answer_id=12, decoder_ids=(2, 40))], perturbation=mask)
    assert not any("start token" in text for text in given.warnings)


def test_whole_answers_behind_an_encoder(module: nn.Module, model: lt.TracedModel) -> None:
    """Several answers, and answers of several tokens, are read behind the decoder's own tokens."""
    sources = [lt.Sample(prompt_ids=SOURCES[0], answer_ids=(12, 9)), lt.Sample(prompt_ids=SOURCES[1], answer_id=9)]
    trace = lt.trace(model, sources, perturbation=lt.Mask(draws=1, fraction=0.5))
    probs = np.exp(_log_probs(module, SOURCES[0], (5,)))
    assert trace.target_prob[0, -1] == pytest.approx(probs[12] + probs[9], rel=1e-4)
    assert trace.prompts[0].solved is bool(probs.argmax() in (12, 9))


def test_leading_tokens_are_read_by_the_decoder() -> None:
    """White space and pieces of a character stand behind the decoder's start token; answers that part are summed."""
    tokenizer = byte_fallback()
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_decoder_layers=3,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        initializer_factor=3.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = T5ForConditionalGeneration(config).eval().requires_grad_(False)
    samples = [lt.Sample(prompt="2 + 3 ->", answers=answers) for answers in ((" 好",), (" 5", " 好"))]
    trace = lt.trace(lt.wrap_model(module, tokenizer), samples, perturbation=lt.Mask(draws=1, fraction=1.0))
    source = tuple(tokenizer("2 + 3 ->")["input_ids"])
    good, five = (tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in (" 好", " 5"))
    assert trace.prompts[0].n_lead == len(good) - 1
    expected = _log_probs(module, source, (0, *good[:-1]))[good[-1]]
    assert trace.target_log_prob[0, -1] == pytest.approx(expected, abs=1e-3)
    shared = len(five) - 1  # the spaces before both
    products = [
        sum(_log_probs(module, source, (0, *ids[:place]))[ids[place]] for place in range(shared, len(ids)))
        for ids in (good, five)
    ]
    assert trace.target_log_prob[1, -1] == pytest.approx(np.logaddexp(*products), abs=1e-3)
