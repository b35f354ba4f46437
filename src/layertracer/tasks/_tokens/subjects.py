"""Which tokens of a prompt are its subject."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from layertracer._types import Sample, panics_as_errors
from layertracer.tasks._tokens.answer_boundary import Cut
from layertracer.tasks._tokens.tokenizer import Tokenizer, find_added_tokens

Span = tuple[int, int]
"""A first position and the one behind the last."""


def locate_subject(sample: Sample) -> Span | None:
    """The characters of a prompt that are its subject, without white space at their ends; None where it has none.

    Of several places the first counts, as in ROME (Meng et al. 2022), from `subject_from` on. Where ROME's code also
    takes the middle of another word for it, a place at which the subject is a word of its own comes first here.

    Example:
        >>> locate_subject(Sample(prompt="The party of Art is", subject="Art"))
        (13, 16)
        >>> locate_subject(Sample(prompt="party art", subject="art"))
        (6, 9)
    """
    if sample.subject is None or sample.prompt is None:
        return None
    subject, text, start = sample.subject.strip(), sample.prompt, sample.subject_from or 0
    ahead = len(sample.subject) - len(sample.subject.lstrip())
    if sample.subject_from is not None:
        for begin in (start, start + ahead):
            if text.startswith(subject, begin):
                return begin, begin + len(subject)
    places = list(_places(text, subject, start))
    own = [begin for begin in places if _is_word(text, begin, begin + len(subject))]
    return next(((begin, begin + len(subject)) for begin in own or places), None)


def find_subject_spans(
    samples: Sequence[Sample],
    rendered: Sequence[Sample],
    cuts: Sequence[Cut],
    tokenizer: Tokenizer | None,
    *,
    add_special_tokens: bool,
) -> list[Span | None]:
    """The tokens of every prompt that are its subject, among them those that it shares with its neighbours.

    They are read off the characters that each token stands for, where the tokenizer says it; else they are searched
    for by decoding beginnings of the prompt, and proved: the tokens decode to a text that holds the subject.

    Args:
        samples: The samples as they were given.
        rendered: The same in a chat template, where that was asked for.
        cuts: Their token ids.
        tokenizer: The tokenizer; None if all samples are ids.
        add_special_tokens: Whether the tokenizer puts its own start token before them.

    Returns:
        A span for each; None where the sample names no subject, or it was not found.
    """
    spans = [sample.subject_span for sample in samples]
    if tokenizer is None:
        return spans
    asked = [i for i, sample in enumerate(samples) if sample.subject is not None and rendered[i].prompt is not None]
    start = _find_start([str(rendered[i].prompt) for i in asked], tokenizer) if add_special_tokens else ()
    every = _read_offsets([rendered[i] for i in asked], tokenizer, add_special_tokens=add_special_tokens)
    for i, readings in zip(asked, every, strict=True):
        place = _locate_rendered(samples[i], str(rendered[i].prompt))
        if place is not None:
            ids = cuts[i].prompt_ids
            span = _from_offsets(ids, readings, place)
            n_start = len(start) if ids[: len(start)] == start else 0
            spans[i] = _prove(span, ids, str(rendered[i].prompt), place, tokenizer, n_start=n_start)
    return spans


def _find_start(texts: Sequence[str], tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens that the tokenizer puts before a text."""
    return find_added_tokens(tokenizer, max(texts, key=len))[0] if texts else ()


def _locate_rendered(sample: Sample, text: str) -> Span | None:
    """The characters of the subject in a prompt that a chat template may have been put around."""
    place = locate_subject(sample)
    prompt = str(sample.prompt)
    if place is None or text == prompt:
        return place
    stripped = prompt.strip()
    base = text.rfind(stripped) - (len(prompt) - len(prompt.lstrip()))
    return (base + place[0], base + place[1]) if stripped in text else None


def _places(text: str, subject: str, start: int) -> Iterator[int]:
    """Where the subject stands in a text, from a character on."""
    place = text.find(subject, start)
    while place >= 0:
        yield place
        place = text.find(subject, place + 1)


def _is_word(text: str, begin: int, end: int) -> bool:
    """Whether characters are no part of a longer word at either end."""
    opens = begin == 0 or not (text[begin - 1].isalnum() and text[begin].isalnum())
    return opens and (end == len(text) or not (text[end].isalnum() and text[end - 1].isalnum()))


_Reading = tuple[list[int], list[Span]]
"""Token ids of a text, and the characters that each stands for."""


def _read_offsets(samples: Sequence[Sample], tokenizer: Tokenizer, *, add_special_tokens: bool) -> list[list[_Reading]]:
    """Each prompt alone and with its answer, as tokens with their characters; nothing where the tokenizer has none."""
    texts = [[str(one.prompt), *(str(one.prompt) + answer for answer in one.all_answers)] for one in samples]
    call: Any = tokenizer
    try:
        with panics_as_errors():
            encoding = call(
                [text for one in texts for text in one],
                add_special_tokens=add_special_tokens,
                return_offsets_mapping=True,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )
        ids = [[int(token) for token in one] for one in encoding["input_ids"]]
        offsets = [[(int(begin), int(end)) for begin, end in one] for one in encoding["offset_mapping"]]
    except Exception:  # noqa: BLE001 - tokenizers without offsets raise what they like, and are searched instead
        return [[] for _ in samples]
    readings = iter(zip(ids, offsets, strict=True))
    return [[next(readings) for _ in one] for one in texts]


def _from_offsets(ids: tuple[int, ...], readings: Sequence[_Reading], place: Span) -> Span | None:
    """The tokens that stand for any of the characters at a place; None where no reading has the prompt's tokens."""
    for read, offsets in readings:
        if tuple(read[: len(ids)]) == ids and len(offsets) >= len(ids):
            begin, end = place
            inside = [i for i, (b, e) in enumerate(offsets[: len(ids)]) if max(b, begin) < min(e, end)]
            if inside:
                return inside[0], inside[-1] + 1
    return None


def _prove(
    span: Span | None, ids: tuple[int, ...], text: str, place: Span, tokenizer: Tokenizer, *, n_start: int
) -> Span | None:
    """The span where its tokens hold the subject's characters, else the one that decoding finds, else the first."""
    try:
        with panics_as_errors():
            if span is not None and _holds(ids, span, text[slice(*place)], tokenizer):
                return _shrink(ids, span, text[slice(*place)], tokenizer)
            searched = _search(ids, text, place, tokenizer, n_start=n_start)
    except Exception:  # noqa: BLE001 - whatever a tokenizer raises that cannot decode
        return span
    return span if searched is None else searched


def _holds(ids: tuple[int, ...], span: Span, subject: str, tokenizer: Tokenizer) -> bool:
    """Whether the tokens of a span decode to a text that holds the subject."""
    return _squeezed(subject) in _squeezed(str(tokenizer.decode(list(ids[slice(*span)]))))


def _shrink(ids: tuple[int, ...], span: Span, subject: str, tokenizer: Tokenizer) -> Span:
    """The span without tokens at its beginning of which the subject has nothing: a space that stands by itself."""
    begin, end = span
    while end - begin > 1 and _holds(ids, (begin + 1, end), subject, tokenizer):
        begin += 1
    return begin, end


def _search(ids: tuple[int, ...], text: str, place: Span, tokenizer: Tokenizer, *, n_start: int) -> Span | None:
    """The tokens whose decoded characters are the subject's; None where the proof fails.

    Decoding may move white space and change case, so that both are left aside. Beginnings of the prompt decode to
    beginnings of its text, but for a character that is not complete yet.
    """
    own, subject = list(ids[n_start:]), _squeezed(text[slice(*place)])
    whole, written = _squeezed(str(tokenizer.decode(own))), _squeezed(text)
    there, here = list(_places(whole, subject, 0)), list(_places(written, subject, 0))
    # The answer's first tokens may have taken the prompt's last characters off.
    number = sum(begin < len(_squeezed(text[: place[0]])) for begin in here)
    if number >= len(there) or len(here) - len(there) not in (0, 1):
        return None
    begin = there[number]

    def reach(n_tokens: int) -> Span:
        """How many characters are complete after so many tokens, and how many are begun."""
        read = _squeezed(str(tokenizer.decode(own[:n_tokens]))) if n_tokens else ""
        differing = (n for n, (one, other) in enumerate(zip(read, whole, strict=False)) if one != other)
        complete = next(differing, min(len(read), len(whole)))
        return complete, min(complete + (len(read) > complete), len(whole))

    counts = range(len(own) + 1)
    first = bisect_right(counts, begin, key=lambda n: reach(n)[1]) - 1
    end = bisect_left(counts, begin + len(subject), key=lambda n: reach(n)[0])
    span = first + n_start, end + n_start
    return span if first < end <= len(own) and _holds(ids, span, subject, tokenizer) else None


def _squeezed(text: str) -> str:
    """A text without white space and case."""
    return "".join(text.split()).casefold()
