"""Prompts and answers in chat templates."""

from __future__ import annotations

import concurrent.futures
import contextlib
import resource
import sys
import threading
import time
from typing import Any

import psutil
import pytest
from transformers import PreTrainedTokenizerFast

from layertracer import TracedModel
from layertracer._errors import UsageError
from layertracer._types import Sample
from layertracer.tasks import EncodedTask, TookTooLong, encode_samples
from layertracer.tasks._confined import CallFailedError, ConfinedCall

from tests.support.tokenizers import digits_apart

SAMPLE = Sample(prompt="hot -> cold\nwide ->", answer=" narrow")
TURNS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PARTS = (
    "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}"
    "{% endfor %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
SPACE = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %}  {{ m.content.strip() }}</s>{% endif %}{% endfor %}"
)
THINKING = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<assistant>"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
STRIPPING = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TURNS
DROPS_SYSTEM = TURNS.replace("<{{ m.role }}>{{ m.content }}\n", "{% if m.role != 'system' %}{{ m.content }}{% endif %}")


def with_template(template: Any) -> PreTrainedTokenizerFast:
    """A tokenizer with that chat template."""
    inner = digits_apart()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner.backend_tokenizer)
    tokenizer.chat_template = template
    return tokenizer


def encode(template: Any, *samples: Sample, **settings: Any) -> EncodedTask:
    """Samples in a chat template."""
    return encode_samples(samples or [SAMPLE], with_template(template), chat=True, **settings)


def test_contents_as_parts() -> None:
    """A template that shows lists of parts alone gets lists of parts, and each prompt keeps its own text."""
    other = Sample(prompt="big ->", answer=" little")
    task = encode(PARTS, SAMPLE, other)
    assert [one.prompt_text for one in task.samples] == [
        "<user>hot -> cold\nwide ->\n<assistant>",
        "<user>big ->\n<assistant>",
    ]
    assert [one.answer_text for one in task.samples] == ["narrow", "little"]
    assert not any("template" in text for text in task.warnings)


def test_the_space_before_the_reply() -> None:
    """What the template writes before a reply stands before the answer: its ids are those of the rendered dialogue."""
    task = encode(SPACE)
    one, tokenizer = task.samples[0], with_template(SPACE)
    turns = [{"role": "user", "content": SAMPLE.prompt}, {"role": "assistant", "content": "narrow"}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False).removesuffix("</s>")
    assert [*one.prompt_ids, *one.answer_ids] == tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert (one.prompt_text, one.answer_text) == ("[INST] hot -> cold\nwide -> [/INST]", "  narrow")


def test_what_the_template_writes_itself_is_read() -> None:
    """Where the template opens a reply with more than space, that is read with the prompt, and said."""
    task = encode(THINKING)
    one = task.samples[0]
    assert one.prompt_text == "<user>hot -> cold\nwide -><end><assistant><think>\n\n</think>"
    assert one.answer_text == "\n\nnarrow"
    assert any("1 of 1 prompts end in '<think>\\n\\n</think>', which the template" in text for text in task.warnings)


def test_template_arguments_reach_the_template() -> None:
    """With enable_thinking=False the template closes the thoughts before the reply, and nothing is left to say."""
    task = encode(THINKING, template_arguments={"enable_thinking": False})
    assert task.samples[0].prompt_text == "<user>hot -> cold\nwide -><end><assistant><think>\n\n</think>\n\n"
    assert task.samples[0].answer_text == "narrow"
    assert not any("template" in text for text in task.warnings)


def test_a_dialogue_that_does_not_go_on_from_the_opening() -> None:
    """Where a dialogue with a reply is written differently, the answer follows the opening, and that is said."""
    task = encode(STRIPPING)
    assert task.samples[0].prompt_text == "<user>hot -> cold\nwide -><assistant><think>"
    assert task.samples[0].answer_text == "narrow"
    assert any("1 of 1 answers stand right behind the template's opening" in text for text in task.warnings)


def test_system_prompt() -> None:
    """A system prompt is a turn before the user's."""
    one = encode(TURNS, system="Answer in one word.").samples[0]
    assert one.prompt_text == "<system>Answer in one word.\n<user>hot -> cold\nwide ->\n<assistant>"
    one = encode(PARTS, system="Answer in one word.").samples[0]
    assert one.prompt_text == "<system>Answer in one word.\n<user>hot -> cold\nwide ->\n<assistant>"


@pytest.mark.parametrize(
    ("template", "settings", "message"),
    [
        ("{% for m in messages %}<{{ m.role }}>{% endfor %}", {}, "does not show the user's text as it stands"),
        (TURNS.replace("m.content", "m.content|upper"), {}, r"does not show the user's text.*'hot -> cold\\nwide ->'"),
        (
            "{{ raise_exception('roles must alternate') }}",
            {},
            "cannot be used for turns of user: .*roles must alternate",
        ),
        ("{% for m in messages %}{{ m.content }}", {}, "cannot be used for turns of user: TemplateSyntaxError"),
        ("{{ messages[7].content.a.b }}", {}, "cannot be used for turns of user: UndefinedError"),
        ("{{ 1 // 0 }}", {}, "cannot be used for turns of user: ZeroDivisionError"),
        (NO_SYSTEM, {"system": "Be brief."}, "turns of system and user: .*System role not supported. Leave the system"),
        (DROPS_SYSTEM, {"system": "Be brief."}, "does not show the system prompt"),
        ({"tool": TURNS, "plain": TURNS}, {}, "several chat templates and no default: 'tool', 'plain'"),
        (TURNS, {"template_arguments": {"tokenize": True}}, "'tokenize' is set by LayerTracer itself"),
        (TURNS, {"template_arguments": {"tools": [len]}}, "Template arguments must be text, numbers"),
    ],
)
def test_templates_that_cannot_be_used(template: Any, settings: dict[str, Any], message: str) -> None:
    """A template that raises, is malformed, hides a text or is not chosen is refused with what to do."""
    with pytest.raises(UsageError, match=message):
        encode(template, **settings)


def test_a_short_prompt_that_stands_in_the_template_is_no_proof() -> None:
    """A template that drops the user's text is refused, too, where the prompt is a word that it writes itself."""
    dropping = "{% for m in messages %}<{{ m.role }}>{% endfor %}"
    with pytest.raises(UsageError, match="does not show the user's text"):
        encode(dropping, Sample(prompt="user", answer=" cold"))
    with pytest.raises(UsageError, match="does not show the system prompt"):
        encode(DROPS_SYSTEM + "<system>", system="system")


ENDLESS = "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}"
BOMBS = {
    "loop": ENDLESS + TURNS,
    "loop in a reply": "{% if messages|length > 1 %}" + ENDLESS + "{% endif %}" + TURNS,
    "power": "{{ 10**(10**10) }}" + TURNS,
    "text": "{{ 'a'*10**9 }}" + TURNS,
    "list": "{{ ([0]*10**9)|length }}" + TURNS,
    "padding": "{{ ('a'|center(10**10))|length }}" + TURNS,
    "format": "{{ '%999999999d' % 1 }}" + TURNS,
    "doubling": "{% set n = namespace(s='a') %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}" + TURNS,
    "long": "{{ 'a'*10**7 }}" + TURNS,
    "macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" + TURNS,
    "depth": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}" + TURNS,
}
ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{% set m = '{0.__class__.__init__.__globals__}'.format %}{{ m(raise_exception) }}",
    "{{ raise_exception.__globals__.os }}",
    "{{ namespace.__init__.__globals__.os }}",
    "{{ messages.append(1) }}",
)


@pytest.mark.parametrize("kind", BOMBS)
def test_a_template_without_an_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that takes time or memory without end is given up, also in a thread, and leaves no process behind."""
    from layertracer.tasks._tokens import chat_template as _chat

    monkeypatch.setattr(_chat, "_RENDERING_S", 0.3)
    processes, before, began_s = psutil.Process().children(), _peak_bytes(), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        refused = threads.submit(encode, BOMBS[kind]).exception()
    assert isinstance(refused, UsageError)
    assert "chat template cannot be used" in str(refused)
    assert time.monotonic() - began_s < 5
    assert _peak_bytes() - before < 200e6
    assert set(psutil.Process().children()) <= set(processes)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_reaches_no_code(template: str) -> None:
    """What would lead a template from a text to Python's modules is refused by the sandbox that it runs in."""
    with pytest.raises(UsageError, match="SecurityError"):
        encode(template + TURNS)


def test_slow_templates_have_a_limit_for_all_prompts() -> None:
    """Calls that each come to an end are given up where all together take too long."""
    slow = ConfinedCall(lambda: time.sleep(0.06), seconds=5, seconds_in_all=0.1)
    with contextlib.closing(slow), pytest.raises(TookTooLong, match="all calls together"):
        _call_often(slow)


def _call_often(call: ConfinedCall) -> None:
    for _ in range(10):
        call()


def test_without_processes_a_call_is_given_up_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a system has no safe copies of a process, a call in Python is ended in its thread, and its errors told."""
    monkeypatch.setattr(sys, "platform", "win32")
    before = set(threading.enumerate())
    with contextlib.closing(ConfinedCall(_never_returns, seconds=0.2, seconds_in_all=9)) as call:
        with pytest.raises(TookTooLong, match=r"within 0\.2 s"):
            call()
        with pytest.raises(CallFailedError, match="TypeError"):
            call(1)
    for _ in range(100):
        if set(threading.enumerate()) <= before:
            return
        time.sleep(0.1)
    raise AssertionError("the call still runs")


def _never_returns() -> None:
    while True:
        time.sleep(0.01)


def test_templates_by_name() -> None:
    """Of several templates the default is taken, or the one that is named; a list of them is as good as a mapping."""
    several = {"default": TURNS, "terse": TURNS.replace("<assistant>", "A:")}
    listed = [{"name": name, "template": text} for name, text in several.items()]
    for template in (several, listed):
        assert str(encode(template).samples[0].prompt_text).endswith("<assistant>")
        named = encode(template, template_arguments={"chat_template": "terse"}).samples[0]
        assert str(named.prompt_text).endswith("A:")
    assert str(encode({"only": TURNS}).samples[0].prompt_text).endswith("<assistant>")


def test_chat_options_need_chat() -> None:
    """A system prompt or template arguments without chat=True are a mistake."""
    for settings in ({"system": "Be brief."}, {"template_arguments": {"a": 1}}):
        with pytest.raises(UsageError, match="chat is not set"):
            encode_samples([SAMPLE], with_template(TURNS), **settings)  # type: ignore[arg-type]  # either


def test_start_token_is_not_doubled(chat_bpe: PreTrainedTokenizerFast) -> None:
    """The start token that the template writes stands once, with a system prompt as well."""
    one = encode_samples([SAMPLE], chat_bpe, chat=True, system="Be brief.").samples[0]
    assert one.prompt_ids.count(chat_bpe.bos_token_id) == 1


@pytest.mark.parametrize("answer", ["\n", " narrow\n"])
def test_white_space_of_answers(answer: str) -> None:
    """An answer of white space alone stays, and so does white space at an answer's end."""
    assert encode(TURNS, Sample(prompt="hot", answer=answer)).samples[0].answer_text == (answer.lstrip() or answer)


def test_several_answers_in_a_chat() -> None:
    """Each of several answers stands behind what the template writes."""
    one = encode(SPACE, Sample(prompt="hot", answers=(" cold", "chilly"))).samples[0]
    assert [answer.text for answer in one.answers] == ["  cold", "  chilly"]


def test_the_embedded_default_has_a_system_turn(smollm2: TracedModel) -> None:
    """SmolLM2's own template shows a system prompt before the user's text."""
    one = encode_samples([SAMPLE], smollm2.tokenizer, chat=True, system="Be brief.").samples[0]
    text = str(one.prompt_text)
    assert text.index("Be brief.") < text.index("hot -> cold")
    assert text.endswith("<|im_start|>assistant\n")
