"""Whole answers, answers that begin with nothing, and several of them: against plain forwards of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import layertracer as lt
from layertracer.reports import summary_sentence

from tests.support.tokenizers import byte_fallback, digits_apart, word_tokenizer

MASK = lt.Mask(draws=2, fraction=0.5, site="block_output")
PROMPTS = ("w1 w2 w3 ->", "w4 w5 ->", "w6 w7 w8 w9 ->", "w2 w2 ->")


def make_llama(tokenizer: PreTrainedTokenizerFast, *, context: int = 64, seed: int = 3) -> LlamaForCausalLM:
    """A Llama of three layers as its constructor leaves it, gradients on, with logits that spread."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
        initializer_range=0.5,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    """One token a word, behind a start token."""
    return word_tokenizer([f"w{i}" for i in range(30)])


@pytest.fixture(scope="module")
def model(words: PreTrainedTokenizerFast) -> lt.TracedModel:
    """A tiny model that reads these words."""
    return lt.wrap_model(make_llama(words), words)


def by_plain(model: lt.TracedModel) -> lt.TracedModel:
    """The same model, traced by one hooked forward at a time."""
    return dataclasses.replace(model, self_check=dataclasses.replace(model.self_check, method="plain"))


@torch.no_grad()
def read_out(module: LlamaForCausalLM, ids: Sequence[int]) -> NDArray[np.float64]:
    """Next-token probabilities behind `ids`, [1 + layer, d_vocab], by hooks on the layers and the model's own head."""
    stream: list[torch.Tensor] = []
    handles = [
        module.model.layers[0].register_forward_pre_hook(lambda _, args: stream.append(args[0])),
        *(layer.register_forward_hook(lambda _, __, out: stream.append(out)) for layer in module.model.layers),
    ]
    module(input_ids=torch.tensor([list(ids)]))
    for handle in handles:
        handle.remove()
    logits = [module.lm_head(module.model.norm(one))[0, -1] for one in stream]
    return torch.softmax(torch.stack(logits).double(), dim=-1).numpy()


def continue_greedily(module: LlamaForCausalLM, ids: Sequence[int], n_tokens: int) -> list[int]:
    """What the model itself would say."""
    said: list[int] = []
    for _ in range(n_tokens):
        said.append(int(read_out(module, [*ids, *said])[-1].argmax()))
    return said


def product(module: LlamaForCausalLM, before: Sequence[int], tokens: Sequence[int]) -> NDArray[np.float64]:
    """Probability of tokens behind others, [1 + layer]."""
    factors = [read_out(module, [*before, *tokens[:i]])[:, token] for i, token in enumerate(tokens)]
    return np.prod(factors, axis=0)


def followed(trace: lt.Trace, row: int = 0) -> NDArray[np.float64]:
    """The probability that was followed in a prompt, [1 + layer]."""
    return np.concatenate([trace.embedding_prob[row : row + 1], trace.target_prob[row]])


# ---------------------------------------------------------------- whole answers


@pytest.mark.parametrize(("target", "target_tokens"), [("answer", "first"), ("answer", "all"), ("model", "first")])
@pytest.mark.parametrize("method", ["ladder", "plain"])
def test_solved_is_the_whole_answer(
    model: lt.TracedModel,
    words: PreTrainedTokenizerFast,
    tmp_path: Path,
    method: str,
    target: str,
    target_tokens: str,
) -> None:
    """A prompt is solved where each token of the answer is the model's own, and begun where the first one is."""
    samples, expected = [], []
    for number, prompt in enumerate(PROMPTS * 2):
        said = continue_greedily(model.module, words(prompt)["input_ids"], 3)  # type: ignore[arg-type]  # a Llama
        wrong = [token if number % 4 != place + 1 else (token + 1) % len(words) for place, token in enumerate(said)]
        samples.append(lt.Sample(prompt=prompt, answer=" " + " ".join(words.convert_ids_to_tokens(wrong))))
        expected.append((wrong[0] == said[0], wrong == said))
    chosen = model if method == "ladder" else by_plain(model)
    trace = lt.trace(chosen, samples, perturbation=MASK, target=target, target_tokens=target_tokens)  # type: ignore[arg-type]  # either
    assert [(prompt.begins, prompt.solved) for prompt in trace.prompts] == expected
    assert trace.solved_share == np.mean([solved for _, solved in expected])
    assert trace.begins_share == np.mean([begins for begins, _ in expected])
    assert {begins for begins, _ in expected} == {solved for _, solved in expected} == {True, False}
    assert lt.load_run(trace.save(tmp_path / "run")) == trace


def test_an_answer_that_does_not_fit_is_not_known(words: PreTrainedTokenizerFast) -> None:
    """Where the answer goes beyond the context, whether it is given is not known, and neither is the share."""
    module = make_llama(words, context=6)
    long, short = "w1 w2 w3 w4 w5", "w4 w5"
    said = [continue_greedily(module, words(text)["input_ids"], 3) for text in (long, short)]
    samples = [
        lt.Sample(prompt=text, answer=" " + " ".join(words.convert_ids_to_tokens(own)))
        for text, own in zip((long, short), said, strict=True)
    ]
    trace = lt.trace(lt.wrap_model(module, words), samples, perturbation=MASK)
    assert [(prompt.begins, prompt.solved) for prompt in trace.prompts] == [(True, None), (True, True)]
    assert (trace.solved_share, trace.begins_share) == (None, 1.0)
    assert summary_sentence(trace).endswith("; it begins with the answer in 100 % of the 2 prompts.")


# ---------------------------------------------------------------- leading tokens


@pytest.mark.parametrize("answer", [" 57", " 好", "\n5"])
@pytest.mark.parametrize("target_tokens", ["first", "all"])
def test_the_first_telling_token_is_followed_behind_the_leading_ones(answer: str, target_tokens: str) -> None:
    """The probability is the model's own, given the prompt and the tokens of the answer that say nothing of it."""
    tokenizer = digits_apart()
    module = make_llama(tokenizer)
    prompt_ids = tokenizer("2 + 3 ->")["input_ids"]
    answer_ids = tokenizer("2 + 3 ->" + answer)["input_ids"][len(prompt_ids) :]
    n_lead = {" 57": 1, " 好": 3, "\n5": 1}[answer]
    sample = lt.Sample(prompt="2 + 3 ->", answer=answer)
    trace = lt.trace(lt.wrap_model(module, tokenizer), [sample], perturbation=MASK, target_tokens=target_tokens)  # type: ignore[arg-type]  # either
    prompt = trace.prompts[0]
    telling = answer_ids[n_lead : n_lead + 1 if target_tokens == "first" else None]
    assert prompt.target_ids == tuple(telling)
    assert (list(prompt.prompt_ids), list(prompt.answer_ids), prompt.n_lead) == (prompt_ids, answer_ids, n_lead)
    np.testing.assert_allclose(followed(trace), product(module, prompt_ids + answer_ids[:n_lead], telling), rtol=1e-4)


def test_white_space_before_an_answer_need_not_be_given() -> None:
    """A prompt is solved behind the white space that is read with it; pieces of its first character must be given."""
    tokenizer = byte_fallback()
    module = make_llama(tokenizer)
    ids = tokenizer("2 + 3 ->")["input_ids"]
    space = tokenizer.convert_tokens_to_ids("▁")
    five = tokenizer.convert_tokens_to_ids("5")
    pieces = tokenizer.convert_tokens_to_ids(["<0xE5>", "<0xA5>", "<0xBD>"])
    with torch.no_grad():
        # The head says 5 behind the space, and the last piece behind the others, whatever else it says elsewhere.
        states = {
            place: module.model(input_ids=torch.tensor([[*ids, *tokens]])).last_hidden_state[0, -1]
            for place, tokens in (("space", [space]), ("pieces", [space, *pieces[:2]]))
        }
        module.lm_head.weight[five] = 50 * states["space"]
        module.lm_head.weight[pieces[2]] = 50 * states["pieces"]
    said = [int(read_out(module, [*ids, *behind])[-1].argmax()) for behind in ([], [space], [space, *pieces[:2]])]
    assert said[0] != space
    assert said[1] == five
    assert said[2] == pieces[2]
    samples = [lt.Sample(prompt="2 + 3 ->", answer=answer) for answer in (" 5", " 好")]
    trace = lt.trace(lt.wrap_model(module, tokenizer), samples, perturbation=MASK)
    assert [(prompt.begins, prompt.solved) for prompt in trace.prompts] == [(True, True), (True, False)]


# ---------------------------------------------------------------- several answers


@pytest.mark.parametrize("method", ["ladder", "plain"])
def test_several_answers_of_one_token(model: lt.TracedModel, method: str) -> None:
    """The probability of any of several tokens is their sum, the rank the best one's; nothing else changes."""
    chosen = model if method == "ladder" else by_plain(model)
    module: LlamaForCausalLM = model.module  # type: ignore[assignment]  # as above
    ids = (1, 9, 12, 14)
    answers = (20, 11, 25)
    several, alone = (
        lt.trace(chosen, [sample, lt.Sample(prompt_ids=(1, 8, 10, 3), answer_id=7)], perturbation=MASK)
        for sample in (lt.Sample(prompt_ids=ids, answer_ids=answers), lt.Sample(prompt_ids=ids, answer_id=answers[0]))
    )
    probs = read_out(module, ids)
    np.testing.assert_allclose(followed(several), probs[:, answers].sum(axis=-1), rtol=1e-4)
    ranks = (probs[1:, :, None] > probs[1:, None, answers]).sum(axis=1) + 1
    assert several.target_rank[0].tolist() == ranks.min(axis=-1).tolist()
    np.testing.assert_array_equal(several.js_bits, alone.js_bits)
    np.testing.assert_array_equal(several.target_log_prob[1], alone.target_log_prob[1])
    top = int(probs[-1].argmax())
    solved = lt.trace(chosen, [lt.Sample(prompt_ids=ids, answer_ids=(20, top))], perturbation=MASK).prompts[0]
    assert (solved.solved, solved.begins) == (True, True)
    assert several.prompts[0].other_answer_ids == ((11,), (25,))


@pytest.mark.parametrize("method", ["ladder", "plain"])
def test_whole_answers_are_summed(model: lt.TracedModel, words: PreTrainedTokenizerFast, method: str) -> None:
    """With all tokens, products of answers are added, and what begins with another answer counts once."""
    chosen = model if method == "ladder" else by_plain(model)
    module: LlamaForCausalLM = model.module  # type: ignore[assignment]  # as above
    answers = (" w3 w4", " w5", " w3 w9", " w5 w6", " w7 w8 w9")
    samples = [lt.Sample(prompt=prompt, answers=answers) for prompt in PROMPTS]
    trace = lt.trace(chosen, samples, perturbation=MASK, target_tokens="all")
    first = lt.trace(chosen, samples, perturbation=MASK)
    for row, prompt in enumerate(PROMPTS):
        ids = words(prompt)["input_ids"]
        sequences = [words(answer)["input_ids"][1:] for answer in (" w3 w4", " w5", " w3 w9", " w7 w8 w9")]
        expected = sum(product(module, ids, sequence) for sequence in sequences)
        np.testing.assert_allclose(followed(trace, row), expected, rtol=1e-4)
        tokens = words.convert_tokens_to_ids(["w3", "w5", "w7"])
        np.testing.assert_allclose(followed(first, row), read_out(module, ids)[:, tokens].sum(axis=-1), rtol=1e-4)


@pytest.mark.parametrize("share_prefix", [False, True])
def test_answers_with_different_leading_tokens(share_prefix: bool) -> None:
    """Where one answer has a leading token and another has none, whole products are added."""
    tokenizer = digits_apart()
    module = make_llama(tokenizer)
    prompts = ["hot -> cold\n2 + 3 ->", "hot -> cold\n2 + 2 ->"]
    samples = [lt.Sample(prompt=prompt, answers=(" 5", " cold", "\n5")) for prompt in prompts]
    trace = lt.trace(lt.wrap_model(module, tokenizer), samples, perturbation=MASK, share_prefix=share_prefix)
    for row, prompt in enumerate(prompts):
        ids = tokenizer(prompt)["input_ids"]
        sequences = [tokenizer(prompt + answer)["input_ids"][len(ids) :] for answer in (" 5", " cold", "\n5")]
        assert [len(sequence) for sequence in sequences] == [2, 1, 2]
        expected = sum(product(module, ids, sequence) for sequence in sequences)
        np.testing.assert_allclose(followed(trace, row), expected, rtol=1e-4)


# ---------------------------------------------------------------- ties


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tie_at_the_top_is_won_by_the_lower_id(words: PreTrainedTokenizerFast, dtype: torch.dtype) -> None:
    """Of two tokens with equal logits the lower id is the model's own: the other has rank 2 and is not solved."""
    module = make_llama(words).to(dtype)
    ids = (1, 9, 12, 14)
    with torch.no_grad():
        top = int(module(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        twin = top + 3 if top + 3 < len(words) else top - 3
        module.lm_head.weight[twin] = module.lm_head.weight[top]
    low, high = sorted((top, twin))
    trace = lt.trace(
        lt.wrap_model(module), [lt.Sample(prompt_ids=ids, answer_id=token) for token in (low, high)], perturbation=MASK
    )
    assert [prompt.top_id for prompt in trace.prompts] == [low, low]
    assert [prompt.solved for prompt in trace.prompts] == [True, False]
    assert trace.target_rank[:, -1].tolist() == [1, 2]
