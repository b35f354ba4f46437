"""Prompts and answers in a tokenizer's chat template."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from layertracer._errors import UsageError, printable_name
from layertracer._types import Sample
from layertracer.tasks._confined import CallFailedError, ConfinedCall
from layertracer.tasks._deadline import TookTooLong
from layertracer.tasks._tokens.checks import name_samples
from layertracer.tasks._tokens.tokenizer import Tokenizer

_RENDERING_S = 5.0
"""A template takes milliseconds; one that takes so many seconds is in a loop without an end."""

_PROMPTS = 100
"""So many prompts are written in that time, each of them several times."""

_ROOM = 1_000_000
"""So many characters may a template write beside the texts that it is given; a long one writes 20,000."""

_OURS = frozenset(
    (
        *("conversation", "messages", "tokenize", "add_generation_prompt", "continue_final_message", "padding"),
        *("truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"),
        "tokenizer_kwargs",
    )
)
"""Arguments of a template that are not for users to give."""

_SHOWN = 40
"""So many characters of what a template writes are shown."""

_MARK = "qzreplyzq"
"""Stands for a text, to see whether the template shows it, and what it writes around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFormat:
    """How prompts are put into a chat template.

    Attributes:
        system: Text of the system's turn before the prompt; None without one.
        arguments: What else the template is given, e.g. {"enable_thinking": False}.
    """

    system: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, *, chat: bool, system: str | None = None, arguments: Mapping[str, Any] | None = None
    ) -> ChatFormat | None:
        """The format that was asked for; None without a template.

        Raises:
            UsageError: If there is something for a template and `chat` is not set, or an argument is not for users or
                no JSON value.
        """
        if not chat and (system is not None or arguments):
            raise UsageError(
                "A system prompt and template arguments are for a chat template, and chat is not set. Set chat=True "
                "(command line: --chat), or put the text into the prompts."
            )
        for name in arguments or {}:
            if name in _OURS:
                raise UsageError(
                    f"The template argument {name!r} is set by LayerTracer itself. Give arguments that the template "
                    "knows, such as enable_thinking."
                )
        try:
            json.dumps(dict(arguments or {}))
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"Template arguments must be text, numbers, booleans, lists or mappings of these, since they are kept "
                f"with the run: {error}. Give JSON values."
            ) from None
        return cls(system=system, arguments=dict(arguments or {})) if chat else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Writer:
    """A chat template in use.

    Attributes:
        template: The template: takes turns, arguments and whether a reply is opened.
        format: What it is given.
        as_parts: Whether it takes the contents of turns as lists of parts, and the system's turn too.
    """

    template: ConfinedCall
    format: ChatFormat
    as_parts: tuple[bool, bool] = (False, False)

    def write(self, prompt: str, reply: str | None = None) -> str:
        """The dialogue as text: up to where a reply begins, or with the reply."""
        user, system = self.as_parts
        turns = [] if self.format.system is None else [_turn("system", self.format.system, as_parts=system)]
        turns.append(_turn("user", prompt, as_parts=user))
        if reply is not None:
            turns.append(_turn("assistant", reply, as_parts=user))
        return _render(self.template, turns, self.format.arguments, add_generation_prompt=reply is None)

    def shows(self, prompt: str, written: str) -> bool:
        """Whether the texts that it is given stand in what it writes."""
        return prompt.strip() in written and (self.format.system or "").strip() in written

    def shows_any(self) -> bool:
        """Whether it shows texts that stand nowhere in itself, as short ones may."""
        system = None if self.format.system is None else _MARK[::-1]
        one = replace(self, format=replace(self.format, system=system))
        return one.shows(_MARK, one.write(_MARK))


def render_chats(
    samples: Sequence[Sample], tokenizer: Tokenizer, chat: ChatFormat
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """The samples with their prompts as a user's turn up to where the reply begins, and notes on how it went.

    The answers are what the template makes of the reply: where it writes a space before it, they begin with one.

    Raises:
        UsageError: If a prompt is no text, or the tokenizer has no template, or one that cannot be used.
    """
    ids_only = [index for index, sample in enumerate(samples) if sample.prompt is None]
    if ids_only:
        raise UsageError(
            f"{name_samples(samples, ids_only)}: chat=True needs prompts as text, got token ids. Put the chat "
            f"template's tokens into the ids, and leave chat out."
        )
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            f"chat=True needs a chat template, and this tokenizer ({type(tokenizer).__name__}) has none. Leave chat "
            f"out, or set tokenizer.chat_template."
        )
    chat = replace(chat, arguments=_choose_template(tokenizer, chat.arguments))
    in_all_s = _RENDERING_S * (2 + len(samples) / _PROMPTS)
    template = ConfinedCall(_apply_template(tokenizer), seconds=_RENDERING_S, seconds_in_all=in_all_s)
    try:
        with contextlib.closing(template):
            return _render_all(samples, _Writer(template=template, format=chat))
    except TookTooLong:
        raise UsageError(
            f"The tokenizer's chat template cannot be used: it did not come to an end within {_RENDERING_S:.0f} s, or "
            f"within {in_all_s:.0f} s for all prompts. Set another tokenizer.chat_template, or leave chat out."
        ) from None


def _render_all(samples: Sequence[Sample], writer: _Writer) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    rendered: list[Sample] = []
    notes: list[str | None] = []
    for sample in samples:
        prompt = str(sample.prompt)
        before = None if not rendered else writer.write(prompt)
        if before is None or not writer.shows(prompt, before):
            writer = _find_writer(prompt, writer)
            before = writer.write(prompt)
        one, note = _render_sample(sample, before, writer)
        rendered.append(one)
        notes.append(note)
    return tuple(rendered), tuple(_count_notes(notes))


def _count_notes(notes: Sequence[str | None]) -> Iterator[str]:
    """Each note once, with how many prompts it is about."""
    for note in dict.fromkeys(note for note in notes if note is not None):
        yield f"{notes.count(note)} of {len(notes)} {note}"


def _choose_template(tokenizer: Tokenizer, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments, with the text of the template where the tokenizer has several by name.

    Raises:
        UsageError: If none of them is chosen and none is the default.
    """
    several: Any = getattr(tokenizer, "chat_template", None)
    if isinstance(several, str):
        return arguments
    if not isinstance(several, Mapping):
        try:
            several = {one["name"]: one["template"] for one in several}
        except (TypeError, KeyError):
            raise UsageError(
                f"The tokenizer's chat template is no text but {type(several).__name__}. Set tokenizer.chat_template "
                "to the text of a template."
            ) from None
    chosen = arguments.get("chat_template")
    if chosen is not None and chosen not in several:
        return arguments  # the text of a template
    if chosen is None and len(several) > 1 and "default" not in several:
        raise UsageError(
            f"The tokenizer has several chat templates and no default: {', '.join(map(repr, several))}. Choose one "
            "with template_arguments={'chat_template': name} (command line: --template-argument chat_template=NAME)."
        )
    name = chosen or ("default" if "default" in several else next(iter(several)))
    return {**arguments, "chat_template": several[name]}


def _find_writer(prompt: str, writer: _Writer) -> _Writer:
    """The template with contents in the form that it shows: as text, else as lists of parts.

    Raises:
        UsageError: If it shows them in neither, or cannot be used.
    """
    failure: UsageError | None = None
    for as_parts in ((False, False), (True, True), (True, False)):
        one = replace(writer, as_parts=as_parts)
        try:
            if one.shows(prompt, one.write(prompt)) and one.shows_any():
                return one
        except UsageError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    if writer.format.system is not None and _shows_without_system(prompt, writer):
        raise UsageError(
            "The chat template does not show the system prompt: the model would never see it. Leave the system prompt "
            "out, put it into the prompts, or set another tokenizer.chat_template."
        )
    raise UsageError(
        f"The chat template does not show the user's text as it stands: {prompt[-40:]!r} is nowhere in what it writes, "
        f"with contents as text or as lists of parts, so that the model would never see it. Set another "
        "tokenizer.chat_template, or leave chat out and put the template's text into the prompts."
    )


def _shows_without_system(prompt: str, writer: _Writer) -> bool:
    """Whether a template shows a prompt, in any form, where there is no system's turn."""
    alone = replace(writer, format=replace(writer.format, system=None))
    try:
        forms = [replace(alone, as_parts=(as_parts, False)) for as_parts in (False, True)]
        return any(one.shows(prompt, one.write(prompt)) and one.shows_any() for one in forms)
    except UsageError:
        return False


def _render_sample(sample: Sample, before: str, writer: _Writer) -> tuple[Sample, str | None]:
    """A sample behind what the template writes, and what a user should know of how its answer stands there."""
    if not sample.all_answers:
        return replace(sample, prompt=before), None
    opening = _find_opening(str(sample.prompt), before, writer)
    if opening is None:
        note = (
            "answers stand right behind the template's opening of a reply: written with a reply, the dialogue does not "
            "go on from that opening, so that what the template would write between them is not known."
        )
        return _with_answers(sample, before, ""), note
    written = opening.rstrip()
    if not written:
        return _with_answers(sample, before, opening), None
    shown = written if len(written) <= _SHOWN else written[: _SHOWN - 1] + "…"
    note = f"prompts end in {shown!r}, which the template writes itself at the beginning of a reply."
    return _with_answers(sample, before + written, opening[len(written) :]), note


def _find_opening(prompt: str, before: str, writer: _Writer) -> str | None:
    """What the template writes between the opening of a reply and the reply; None where that cannot be told."""
    mark = _MARK
    while mark in before:
        mark += "z"
    user, system = writer.as_parts
    for form in (writer, replace(writer, as_parts=(not user, system))):
        try:
            whole = form.write(prompt, mark)
        except UsageError:
            continue
        if whole.startswith(before) and mark in whole[len(before) :]:
            return whole[len(before) :].partition(mark)[0]
    return None


def _with_answers(sample: Sample, prompt: str, gap: str) -> Sample:
    """The sample behind what the template writes, its answers without their own space and behind the template's."""
    answers = tuple(gap + (answer.lstrip() or answer) for answer in sample.all_answers)
    return replace(sample, prompt=prompt, answer=answers[0], answers=answers if sample.answers else None)


def _turn(role: str, text: str, *, as_parts: bool) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}] if as_parts else text}


def _apply_template(tokenizer: Tokenizer) -> Callable[..., tuple[str | None, str]]:
    """The template as a function of JSON values: what it writes, or None, and what that is."""

    def apply(
        turns: list[dict[str, Any]], arguments: Mapping[str, Any], add_generation_prompt: bool, room: int
    ) -> tuple[str | None, str]:
        written = tokenizer.apply_chat_template(
            turns, add_generation_prompt=add_generation_prompt, tokenize=False, **arguments
        )
        if not isinstance(written, str):
            return None, f"it gives {type(written).__name__} where text was expected"
        if len(written) > room:
            return None, f"it writes {len(written):,} characters, expected {room:,} at most"
        return written, "text"

    return apply


def _render(
    template: ConfinedCall, turns: list[dict[str, Any]], arguments: Mapping[str, Any], *, add_generation_prompt: bool
) -> str:
    """The turns as the template writes them.

    Raises:
        UsageError: If the template raises.
        TookTooLong: If it does not come to an end.
    """
    room = _ROOM + 10 * len(json.dumps(turns))
    roles = " and ".join(turn["role"] for turn in turns)
    try:
        written, reason = template(turns, arguments, add_generation_prompt, room)
    except CallFailedError as error:
        reason = printable_name(error, at_most=300)
    else:
        if written is not None:
            return str(written)
    hint = "Leave the system prompt out, put it into the prompts, or set" if "system" in roles else "Set"
    raise UsageError(
        f"The tokenizer's chat template cannot be used for turns of {roles}: {reason}. {hint} another "
        "tokenizer.chat_template, or leave chat out."
    )
