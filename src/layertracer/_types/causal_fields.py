"""What a sample says for causal tracing, checked: its subject, its contrast. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layertracer._errors import UsageError
from layertracer._types.given import checked_ids, checked_text, checked_whole, shown

_EXAMPLE = "e.g. Sample(prompt='Paris is in', answer=' France', subject='Paris')"


def checked_causal_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """A sample's fields for causal tracing, out of all of its fields.

    Raises:
        UsageError: If one is of another kind, or two of them do not go together.
    """
    fields: dict[str, Any] = {
        "subject": _checked_subject(given["subject"], given["prompt"]),
        "subject_from": _checked_from(given["subject_from"], given["subject"]),
        "subject_span": _checked_span(given["subject_span"], given["prompt_ids"]),
        "contrast": _checked_contrast(given["contrast"], given["prompt"]),
        "contrast_ids": _checked_contrast_ids(given["contrast_ids"], given["prompt_ids"]),
        "relation": checked_text("relation", given["relation"], hint="It names a kind of fact, e.g. 'capital'."),
    }
    fields |= _checked_contrast_answer(given["contrast_answer"], given["contrast_answer_id"])
    return fields


def _checked_subject(subject: object, prompt: str | None) -> str | None:
    """The subject's text.

    Raises:
        UsageError: If it is no text, empty, or the prompt is none.
    """
    text = checked_text("subject", subject, hint="Its positions in prompt_ids= go to subject_span=, e.g. (1, 4).")
    if text is None:
        return None
    if not text.strip():
        raise UsageError(f"subject is empty, got {text!r}. Give the words of the prompt that it is about, {_EXAMPLE}.")
    if prompt is None:
        raise UsageError(
            f"subject={text!r} is looked for in the text prompt=, and this sample has prompt_ids=. Give the subject's "
            "positions in them: subject_span=(first, end)."
        )
    return text


def _checked_from(start: object, subject: object) -> int | None:
    """From which character on the subject is looked for.

    Raises:
        UsageError: If it is no such number, or there is no subject.
    """
    if start is None:
        return None
    hint = "It is the character of prompt= from which subject= is looked for, counted from 0."
    number = checked_whole("subject_from", start, hint=hint)
    if number < 0 or subject is None:
        raise UsageError(f"subject_from must be 0 or more and goes with subject=, got {number} and {subject!r}. {hint}")
    return number


def _checked_span(span: object, prompt_ids: tuple[int, ...] | None) -> tuple[int, int] | None:
    """The positions of the subject in the token ids: the first, and the one behind the last.

    Raises:
        UsageError: If they are no two such positions, or there are no ids.
    """
    if span is None:
        return None
    hint = "Give the first position of the subject and the one behind its last, counted from 0, e.g. (1, 4)."
    plain: Any = span.tolist() if hasattr(span, "tolist") else span
    if isinstance(plain, range) and plain.step == 1:
        plain = (plain.start, plain.stop)
    if not isinstance(plain, tuple | list) or len(plain) != 2:
        raise UsageError(f"subject_span must be two positions, got {shown(span)}. {hint}")
    first, end = (checked_whole("Each of subject_span", position, hint=hint) for position in plain)
    if prompt_ids is None:
        raise UsageError(
            f"subject_span={(first, end)} counts positions of prompt_ids=, and this sample has the text prompt=. Give "
            f"the subject as text, {_EXAMPLE}."
        )
    if not 0 <= first < end <= len(prompt_ids):
        raise UsageError(
            f"subject_span must lie in prompt_ids, which has {len(prompt_ids)} tokens, got {(first, end)}. {hint}"
        )
    return first, end


def _checked_contrast(contrast: object, prompt: str | None) -> str | None:
    """The contrast prompt's text.

    Raises:
        UsageError: If it is no text, empty, or the prompt is none.
    """
    text = checked_text("contrast", contrast, hint="Token ids go to contrast_ids=, e.g. (1, 6, 9).")
    if text == "":
        raise UsageError("contrast is empty. Give the text of the prompt that is run instead, or leave it out.")
    if text is not None and prompt is None:
        raise UsageError(
            f"contrast={text!r} is text, and this sample has prompt_ids=. Give the contrast's tokens: contrast_ids=."
        )
    return text


def _checked_contrast_ids(contrast_ids: object, prompt_ids: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The contrast prompt's token ids.

    Raises:
        UsageError: If they are none, or the prompt is text.
    """
    if contrast_ids is None:
        return None
    ids = checked_ids("contrast_ids", contrast_ids)
    if not ids:
        raise UsageError(
            "contrast_ids is empty. Give the token ids of the prompt that is run instead, or leave it out."
        )
    if prompt_ids is None:
        raise UsageError(
            "contrast_ids= goes with prompt_ids=, and this sample has the text prompt=. Give the contrast as text: "
            "contrast=."
        )
    return ids


def _checked_contrast_answer(text: object, token: object) -> dict[str, Any]:
    """The contrast's answer, as text or as an id.

    Raises:
        UsageError: If it is neither, or both are given.
    """
    hint = "A token id goes to contrast_answer_id=, e.g. Sample(..., contrast_answer_id=8)."
    answer = checked_text("contrast_answer", text, hint=hint)
    if answer == "":
        raise UsageError("contrast_answer is empty. Give its text, e.g. ' has', or leave it out.")
    if answer is not None and token is not None:
        raise UsageError(
            f"A Sample takes contrast_answer= (text) or contrast_answer_id= (a token id), got both ({answer!r}, "
            f"{token!r}). Give at most one of them."
        )
    return {
        "contrast_answer": answer,
        "contrast_answer_id": None if token is None else checked_whole("contrast_answer_id", token),
    }
