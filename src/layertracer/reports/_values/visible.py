"""Text that a model or a file brought, made visible: nothing hides, nothing reorders, nothing is markup."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from layertracer._errors import joins

_SPACE = "␣"  # U+2423
_NAMED = {"\n": "⏎", "\t": "⇥", "\r": "␍"}
_VARIED = {"So", "Sm", "Po", "Nd", "Lo"}
"""What a variation selector chooses a form of: symbols, digits of keys, ideographs."""

_ISOLATE, _POP = "\u2068", "\u2069"
_JOINERS = ("\u200c", "\u200d")
_SPACES = "Zs"
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@lru_cache(maxsize=65536)
def _show_character(character: str) -> str:
    """One character as itself, or as a name where it would be invisible or would act on its neighbours."""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    category = unicodedata.category(character)
    if category in _HIDDEN or (category == "Zs" and character != " ") or _is_variation_selector(code):
        return f"⟨U+{code:04X}⟩"
    return character


def _is_variation_selector(code: int) -> bool:
    return 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF


def _show(text: str, place: int) -> str:
    """The character at a place of a text; spaces of any width, and what a script or an emoji needs, as themselves."""
    character = text[place]
    before, after = text[place - 1 : place] if place else "", text[place + 1 : place + 2]
    if character in _JOINERS and joins(before, after):
        return character
    if _is_variation_selector(ord(character)) and before and unicodedata.category(before) in _VARIED:
        return character
    return character if unicodedata.category(character) == _SPACES else _show_character(character)


def visible_text(text: str) -> str:
    """Running text with hidden characters named; spaces, line ends and tabs stay.

    Joiners and variation selectors stay where letters or emoji need them.

    Laws: the result holds no control, format or surrogate character except line feed, tab and such joiners; text
    without such characters comes back unchanged.

    Example:
        >>> visible_text("left\\u202eright\\x00")
        'left⟨U+202E⟩right␀'
    """
    unified = text.replace("\r\n", "\n")
    return "".join(char if char in "\n\t" else _show(unified, place) for place, char in enumerate(unified))


def visible_line(text: str) -> str:
    """As `visible_text`, on one line: line ends and tabs are named too.

    Example:
        >>> visible_line("a\\nb")
        'a⏎b'
    """
    return "".join(_NAMED.get(char) or _show(text, place) for place, char in enumerate(text))


def visible_token(text: str) -> str:
    """A token as a label: hidden characters named, spaces shown, a lone accent given a carrier.

    Example:
        >>> visible_token(" cold")
        '␣cold'
        >>> visible_token("")
        '∅'
    """
    if not text:
        return "∅"
    line = visible_line(text).replace(" ", _SPACE)
    shown = "".join(_show_character(char) if unicodedata.category(char) == _SPACES else char for char in line)
    return f"◌{shown}" if unicodedata.category(shown[0]).startswith("M") else shown


def isolate(label: str) -> str:
    """A label that holds right-to-left letters, fenced so that it cannot reorder what stands beside it."""
    if any(unicodedata.bidirectional(char) in ("R", "AL", "AN") for char in label):
        return f"{_ISOLATE}{label}{_POP}"
    return label


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, the last of them an ellipsis where something was cut off.

    Example:
        >>> shorten("abcdef", 4)
        'abc…'
    """
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


MAX_NAME = 32


def plain(text: str, limit: int = MAX_NAME) -> str:
    """A name that a model or a file brought, on one line and of a length."""
    return shorten(visible_line(text), limit)


def shorten_middle(text: str, limit: int) -> str:
    """At most about `limit` characters: the beginning and the end, with a note of how many are left out.

    Example:
        >>> shorten_middle("a" * 5 + "b" * 100 + "c" * 5, 10)
        'aaaaa … 100 characters left out … ccccc'
    """
    if len(text) <= limit:
        return text
    head, tail = limit // 2, limit - limit // 2
    return f"{text[:head]} … {len(text) - limit:,} characters left out … {text[-tail:]}"
