"""From samples to token ids."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from layertracer import TracedModel
from layertracer._errors import AnswerError, EmptyTaskError, PromptTooLongError, TaskError, UsageError
from layertracer._types import EncodedSample, Sample
from layertracer.tasks import encode_samples, load_task, show_tokens

Fast = PreTrainedTokenizerFast
SAMPLE = Sample(prompt="hot -> cold\nwide ->", answer=" narrow")


def tokens_of(tokenizer: Fast, ids: tuple[int, ...]) -> list[str]:
    """Tokens as the vocabulary spells them."""
    return list(tokenizer.convert_ids_to_tokens(list(ids)))


# ---------------------------------------------------------------- the boundary


def test_answer_keeps_its_space(bpe: Fast) -> None:
    """The answer's token is the one with the space in front of the word."""
    task = encode_samples([SAMPLE], bpe)
    assert tokens_of(bpe, task.samples[0].answer_ids) == ["Ġnarrow"]
    assert task.samples[0].prompt_ids == tuple(bpe("hot -> cold\nwide ->")["input_ids"])
    assert (task.samples[0].prompt_text, task.samples[0].answer_text) == (SAMPLE.prompt, SAMPLE.answer)
    assert (task.n_multi_token, task.n_merged, task.start_token, task.chat, task.warnings) == (0, 0, None, False, ())


@given(
    texts=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8), st.text("ab é€\n", min_size=1)
        ),
        min_size=1,
        max_size=6,
    ).filter(lambda texts: all(answer.strip() for _, answer in texts))
)
def test_ids_are_those_of_the_whole_text(bpe: Fast, texts: list[tuple[str, str]]) -> None:
    """Prompt and answer ids together are the tokens of prompt + answer, and the order of samples is kept."""
    texts = [("the " + prompt, answer) for prompt, answer in texts]
    task = encode_samples([Sample(prompt=prompt, answer=answer) for prompt, answer in texts], bpe)
    for encoded, (prompt, answer) in zip(task.samples, texts, strict=True):
        assert [*encoded.prompt_ids, *encoded.answer_ids] == bpe(prompt + answer)["input_ids"]
        assert encoded.prompt_ids
        assert encoded.answer_ids


def test_samples_do_not_influence_one_another(framing_bpe: Fast) -> None:
    """A sample is encoded alike alone, among others and in any order."""
    samples = load_task("antonym", n_shot=1, limit=6).samples
    alone = [encode_samples([sample], framing_bpe).samples[0] for sample in samples]
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 4, 2, 0], [2, 2, 4]):
        together = encode_samples([samples[index] for index in order], framing_bpe).samples
        assert list(together) == [alone[index] for index in order]


def test_merge_over_the_boundary(char_bpe: Fast) -> None:
    """Where a token spans prompt and answer, the prompt is cut before it, and the merge is counted."""
    assert len(char_bpe("wide -> narrow")["input_ids"]) < len(char_bpe("wide ->")["input_ids"] + [0])
    sample = Sample(prompt="cold wide ->", answer=" narrow")
    task = encode_samples([sample, Sample(prompt="cold", answer="w")], char_bpe)
    encoded = task.samples[0]
    assert [*encoded.prompt_ids, *encoded.answer_ids] == char_bpe("cold wide -> narrow")["input_ids"]
    assert list(encoded.prompt_ids) == char_bpe("cold ")["input_ids"]
    assert task.n_merged == 1
    assert "1 of 2 prompts end in a token that reaches into the answer: they were cut before it." in task.warnings


def test_trailing_space_of_a_prompt(bpe: Fast) -> None:
    """A space at the prompt's end goes to the answer's token, as the model has learned it."""
    task = encode_samples([Sample(prompt="hot -> cold\nwide -> ", answer="narrow")], bpe)
    assert tokens_of(bpe, task.samples[0].answer_ids) == ["Ġnarrow"]
    assert task.n_merged == 1


def test_whole_prompt_merges(char_bpe: Fast) -> None:
    """A prompt that merges with its answer entirely is refused: nothing would be left to read."""
    with pytest.raises(AnswerError, match=r"Sample 1 \('wide ->'\): the tokenizer merges the whole prompt"):
        encode_samples([Sample(prompt="cold", answer="w"), Sample(prompt="wide ->", answer=" narrow")], char_bpe)


# ---------------------------------------------------------------- special tokens


def test_start_token_is_kept_and_end_token_taken_off(framing_bpe: Fast) -> None:
    """Prompts begin with the tokenizer's own start token, which is recorded, and its end token is nowhere."""
    task = encode_samples([SAMPLE, Sample(prompt="hot ->")], framing_bpe)
    assert task.start_token == "<s>"
    for encoded in task.samples:
        ids = (*encoded.prompt_ids, *encoded.answer_ids)
        assert ids[0] == framing_bpe.bos_token_id
        assert framing_bpe.eos_token_id not in ids
    assert tokens_of(framing_bpe, task.samples[0].answer_ids) == ["Ġnarrow"]


def test_end_token_written_by_the_user_stays(framing_bpe: Fast) -> None:
    """Only the end token that the tokenizer appends is taken off, not one that the prompt's text holds."""
    task = encode_samples([Sample(prompt="hot</s>", answer=" cold")], framing_bpe)
    assert task.samples[0].prompt_ids[-1] == framing_bpe.eos_token_id


def test_prompt_of_nothing_but_the_start_token(partial: Fast) -> None:
    """A prompt of which nothing but the start token is left is refused."""
    with pytest.raises(TaskError, match=r"Sample 1 \('xyzzy'\): the prompt tokenises to nothing"):
        encode_samples([Sample(prompt="hot", answer=" cold"), Sample(prompt="xyzzy", answer=" cold")], partial)


# ---------------------------------------------------------------- chat


def test_chat_template(chat_bpe: Fast) -> None:
    """With chat, the prompt is the user's turn up to the reply, and the answer opens it without its space."""
    task = encode_samples([SAMPLE], chat_bpe, chat=True)
    encoded = task.samples[0]
    assert encoded.prompt_text == "<s><user>hot -> cold\nwide ->\n<assistant>"
    assert encoded.answer_text == "narrow"
    assert list(encoded.prompt_ids) == chat_bpe(encoded.prompt_text, add_special_tokens=False)["input_ids"]
    assert encoded.prompt_ids.count(chat_bpe.bos_token_id) == 1
    assert chat_bpe.decode(list(encoded.answer_ids)) == "narrow"
    assert (task.chat, task.start_token) == (True, "<s>")


def test_chat_without_template(bpe: Fast) -> None:
    """Chat with a tokenizer that has no template is refused."""
    with pytest.raises(UsageError, match=r"chat=True needs a chat template, and this tokenizer \(.*\) has none"):
        encode_samples([SAMPLE], bpe, chat=True)


def test_chat_with_ids(chat_bpe: Fast) -> None:
    """Chat with a prompt of token ids is refused."""
    with pytest.raises(UsageError, match="Sample 1: chat=True needs prompts as text"):
        encode_samples([SAMPLE, Sample(prompt_ids=(1, 2))], chat_bpe, chat=True)


# ---------------------------------------------------------------- ids


def test_ids_need_no_tokenizer(bpe: Fast) -> None:
    """Samples of ids come back as they are, with a tokenizer or without."""
    samples = [Sample(prompt_ids=(1, 5, 9), answer_id=7), Sample(prompt_ids=(3,), decoder_ids=(0, 4))]
    expected = (
        EncodedSample(prompt_ids=(1, 5, 9), answer_ids=(7,)),
        EncodedSample(prompt_ids=(3,), decoder_ids=(0, 4)),
    )
    assert encode_samples(samples, None).samples == encode_samples(samples, bpe).samples == expected


def test_text_and_ids_mix(framing_bpe: Fast) -> None:
    """Text and ids may stand side by side, in one sample too."""
    narrow = framing_bpe.convert_tokens_to_ids("Ġnarrow")
    samples = [Sample(prompt_ids=(9,), answer=" narrow"), Sample(prompt="wide ->", answer_id=7), SAMPLE]
    task = encode_samples(samples, framing_bpe)
    assert [sample.answer_ids for sample in task.samples] == [(narrow,), (7,), (narrow,)]
    assert task.samples[0].prompt_ids == (9,)
    assert list(task.samples[1].prompt_ids) == framing_bpe("wide ->")["input_ids"][:-1]


def test_encoder_prompt_keeps_its_end_token(framing_bpe: Fast) -> None:
    """With decoder_ids the prompt goes to an encoder: it keeps its end token, and the answer is the decoder's."""
    task = encode_samples([Sample(prompt="wide ->", answer=" narrow", decoder_ids=(0,))], framing_bpe)
    alike = encode_samples([Sample(prompt="wide ->", answer=" narrow")], framing_bpe, has_encoder=True)
    assert alike.samples[0].prompt_ids == task.samples[0].prompt_ids
    assert alike.samples[0].answer_ids == task.samples[0].answer_ids
    encoded = task.samples[0]
    assert list(encoded.prompt_ids) == framing_bpe("wide ->")["input_ids"]
    assert tokens_of(framing_bpe, encoded.answer_ids) == ["Ġnarrow"]
    assert encoded.decoder_ids == (0,)


def test_text_without_tokenizer() -> None:
    """Text without a tokenizer is refused with the sample's name."""
    with pytest.raises(UsageError, match=r"Sample 1 \('hot ->'\): text needs a tokenizer, and there is none"):
        encode_samples([Sample(prompt_ids=(1,)), Sample(prompt="hot ->")], None)


# ---------------------------------------------------------------- warnings


def test_answers_of_several_tokens(bpe: Fast) -> None:
    """Answers of several tokens are counted and warned about."""
    task = encode_samples([SAMPLE, Sample(prompt="wide ->", answer=" zebra"), Sample(prompt="wide ->")], bpe)
    assert task.n_multi_token == 1
    assert task.warnings == (
        "1 of 3 answers have more than one token: the first is followed, or all with target_tokens='all'.",
    )


def test_several_answers_of_several_tokens(bpe: Fast) -> None:
    """Answers beside the first are counted as well, of all answers."""
    task = encode_samples([Sample(prompt="wide ->", answers=(" narrow", " zebra", " coldzebra"))], bpe)
    assert task.n_multi_token == 2
    assert task.warnings[0].startswith("2 of 3 answers have more than one token")


def test_answer_right_behind_a_letter(bpe: Fast) -> None:
    """An answer that continues the prompt's last word is warned about; one in a script without spaces is not."""
    glued = Sample(prompt="The opposite of wide is", answer="narrow")
    chinese = Sample(prompt="宽的反义词是", answer="窄")
    warnings = encode_samples([glued, chinese, SAMPLE], bpe).warnings
    assert any(text.startswith("1 of 3 answers begin right behind a letter of the prompt") for text in warnings)


def test_unknown_token_in_an_answer(words: Fast) -> None:
    """An answer that the tokenizer does not know is warned about."""
    task = encode_samples([SAMPLE, Sample(prompt="wide ->", answer=" zebra")], words)
    assert task.warnings == ("1 of 2 answers contain the tokenizer's unknown token: their probability means little.",)


# ---------------------------------------------------------------- refusals


def test_no_sample(bpe: Fast) -> None:
    """Nothing to encode is refused."""
    with pytest.raises(EmptyTaskError, match="There is no sample to encode"):
        encode_samples([], bpe)


@pytest.mark.parametrize("empty", [Sample(prompt="", answer=" x"), Sample(prompt_ids=(), answer_id=1)])
def test_empty_prompt(bpe: Fast, empty: Sample) -> None:
    """An empty prompt is refused, as text or as ids."""
    with pytest.raises(TaskError, match=r"Sample 1.*: the prompt is empty"):
        encode_samples([SAMPLE, empty], bpe)


@pytest.mark.parametrize(
    "sample",
    [
        Sample(prompt_ids=(1, -5)),
        Sample(prompt_ids=(1,), answer_id=-1),
        Sample(prompt_ids=(1,), decoder_ids=(-2,), answer_id=1),
    ],
)
def test_negative_id(sample: Sample) -> None:
    """A negative token id is refused."""
    with pytest.raises(TaskError, match="Sample 0: a token id is negative"):
        encode_samples([sample], None)


@pytest.mark.parametrize(
    "empty", [Sample(prompt="wide ->", answer=""), Sample(prompt="wide ->", answers=(" narrow", ""))]
)
def test_empty_answer(bpe: Fast, empty: Sample) -> None:
    """An answer without text is refused with what to do instead, among several too."""
    with pytest.raises(AnswerError, match=r"Sample 1 \('wide ->'\): the answer is empty.*target='model'"):
        encode_samples([SAMPLE, empty], bpe)


# ---------------------------------------------------------------- several answers


def test_several_answers(bpe: Fast) -> None:
    """Every answer has its tokens behind the prompt's; repetitions count once, and the first is the sample's answer."""
    sample = Sample(prompt="wide ->", answers=(" narrow", " cold", " narrow"))
    encoded = encode_samples([sample], bpe).samples[0]
    assert (sample.answer, sample.answers) == (" narrow", (" narrow", " cold"))
    assert [tokens_of(bpe, answer.ids) for answer in encoded.answers] == [["Ġnarrow"], ["Ġcold"]]
    assert [answer.text for answer in encoded.answers] == [" narrow", " cold"]


def test_several_answers_as_ids(bpe: Fast) -> None:
    """Several answers of one token each may be ids, behind a prompt of ids or of text."""
    alike = encode_samples([Sample(prompt_ids=(1, 5), answer_ids=[7, 9, 7])], None).samples[0]
    assert [answer.ids for answer in alike.answers] == [(7,), (9,)]
    text = encode_samples([Sample(prompt="wide ->", answer_ids=(7, 9))], bpe).samples[0]
    assert [answer.ids for answer in text.answers] == [(7,), (9,)]


def test_answers_behind_the_same_prompt(bpe: Fast) -> None:
    """Where one answer merges with the prompt's end, the others begin with what it takes off."""
    encoded = encode_samples([Sample(prompt="wide -> ", answers=("7", "narrow"))], bpe).samples[0]
    assert [tokens_of(bpe, answer.ids) for answer in encoded.answers] == [["Ġ", "7"], ["Ġnarrow"]]
    assert [(answer.n_lead, answer.n_blank) for answer in encoded.answers] == [(1, 1), (0, 0)]


def test_answers_outside_the_vocabulary_are_left_out_of_several(words: Fast) -> None:
    """Of several answers those that the tokenizer knows are followed, and the others counted."""
    encoded = encode_samples([Sample(prompt="wide ->", answers=(" zebra", " narrow"))], words)
    assert [answer.text for answer in encoded.samples[0].answers] == [" narrow"]
    assert encoded.samples[0].answer_text == " narrow"
    assert encoded.warnings == ("1 of 2 answers, beside others, have no token of their own: they are not followed.",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"answers": ()}, "answers= is empty. It takes one answer or more"),
        ({"answers": " Paris"}, "answers must be texts, got ' Paris'.* It takes one answer or more"),
        ({"answers": (" a",), "answer": " b"}, "takes answer= or answers="),
        ({"answers": (" a",), "answer_id": 3}, r"answer= \(text\) or answer_id="),
        ({"answer_ids": (3, 4), "answer_id": 4}, "takes answer_id= or answer_ids="),
    ],
)
def test_answers_that_contradict_one_another(given: dict[str, object], message: str) -> None:
    """No answer at all, a text where several are meant, or two ways to give them, are refused."""
    with pytest.raises(UsageError, match=message):
        Sample(prompt="wide ->", **given)  # type: ignore[arg-type]  # wrong on purpose


def test_answer_tokenises_to_nothing(partial: Fast) -> None:
    """An answer of which no token is left is refused with the sample and the answer."""
    samples = [Sample(prompt="wide ->", answer=" narrow"), Sample(prompt="wide ->", answer=" xyzzy")]
    with pytest.raises(AnswerError, match=r"Sample 1 \('wide ->'\): the answer ' xyzzy' tokenises to nothing"):
        encode_samples(samples, partial)


def test_prompts_are_too_long(words: Fast) -> None:
    """All prompts that are longer than the context are named with their lengths; at the limit they pass."""
    samples = [Sample(prompt=" ".join(["cold"] * n), answer=" hot") for n in (3, 5, 4, 6)]
    assert len(encode_samples(samples, words, max_length=6).samples) == 4
    message = r"2 of 4 prompts are longer than the model's context of 4 tokens: sample 1 \(5\), 3 \(6\)\. Shorten"
    with pytest.raises(PromptTooLongError, match=message):
        encode_samples(samples, words, max_length=4)


def test_decoder_prompt_is_too_long() -> None:
    """The decoder's tokens count as a prompt, too."""
    with pytest.raises(PromptTooLongError, match=r"context of 2 tokens: sample 0 \(3\)"):
        encode_samples([Sample(prompt_ids=(1,), decoder_ids=(1, 2, 3))], None, max_length=2)


def test_many_refused_samples_are_counted() -> None:
    """A message names ten samples and counts the others."""
    samples = [Sample(prompt="long text " * 9 + str(n)) for n in range(14)]
    with pytest.raises(UsageError, match=r"Sample 0 \('….*text 0'\); .*; Sample 9 .*; and 4 more: text needs"):
        encode_samples(samples, None)


# ---------------------------------------------------------------- speed, display


def test_encoding_is_fast(framing_bpe: Fast) -> None:
    """64 five-shot prompts are encoded in a moment: one call of the tokenizer for all of them."""
    samples = load_task("antonym", limit=64).samples
    encode_samples(samples, framing_bpe)
    started = time.perf_counter()
    encode_samples(samples, framing_bpe)
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize("chat", [False, True])
def test_real_tokenizer(smollm2: TracedModel, chat: bool) -> None:
    """With the embedded default's tokenizer, tokens spell the prompts, and answers keep their space outside a chat."""
    samples = load_task("antonym", limit=8).samples
    task = encode_samples(samples, smollm2.tokenizer, chat=chat)
    for encoded, sample in zip(task.samples, samples, strict=True):
        shown = "".join(show_tokens(encoded, smollm2.tokenizer)).replace("\\n", "\n")
        assert shown == f"{encoded.prompt_text}{encoded.answer_text}"
        assert str(sample.prompt) in shown
        assert str(encoded.answer_text).startswith(" ") is not chat
    assert task.start_token == ("<|im_start|>" if chat else None)


def test_show_tokens(framing_bpe: Fast) -> None:
    """A shown sample has one text a token, prompt then answer, with spaces kept and line breaks escaped."""
    task = encode_samples([SAMPLE], framing_bpe)
    shown = show_tokens(task.samples[0], framing_bpe)
    assert len(shown) == len(task.samples[0].prompt_ids) + len(task.samples[0].answer_ids)
    assert (shown[0], shown[-1]) == ("<s>", " narrow")
    assert "\\n" in "".join(shown)
    assert "".join(shown).replace("\\n", "\n") == "<s>hot -> cold\nwide -> narrow"


def test_show_parts_of_characters(bpe: Fast) -> None:
    """A token that is only a part of a character is shown as the vocabulary spells it, not as a replacement mark."""
    shown = show_tokens(encode_samples([Sample(prompt="€")], bpe).samples[0], bpe)
    assert len(shown) == 3
    assert "\ufffd" not in "".join(shown)


def test_show_hostile_text(words: Fast) -> None:
    """Control characters and marks that turn the writing direction are shown as escapes."""
    hostile = Fast(tokenizer_object=words.backend_tokenizer, unk_token="<unk>")
    hostile.add_tokens(["\u202egnp\x1b[31m"])
    sample = encode_samples([Sample(prompt="\u202egnp\x1b[31m")], hostile).samples[0]
    assert show_tokens(sample, hostile) == ["\\u202egnp\\x1b[31m"]


def test_show_ids() -> None:
    """Without a tokenizer, ids are shown as numbers."""
    assert show_tokens(EncodedSample(prompt_ids=(1, 5), answer_ids=(7,)), None) == ["#1", "#5", "#7"]
