"""Whether a space is missing between a prompt and its answer."""

from __future__ import annotations

import unicodedata
from typing import Literal

Seam = Literal["letter", "mark"]
"""What an answer follows without a space: a letter of a word, or a mark behind which words have one."""

_SPACED_SCRIPTS = frozenset(
    "LATIN GREEK CYRILLIC ARMENIAN GEORGIAN HEBREW ARABIC DEVANAGARI BENGALI TAMIL TELUGU DIGIT".split()  # noqa: SIM905
)
"""First words of the names of letters that stand in words with spaces between; Chinese, Japanese and Thai have none."""

NO_SPACE = (
    "answers begin right behind a colon, an arrow or the like: where a space belongs there, add it with "
    "answer_prefix=' ' (--answer-prefix ' '), or in the template."
)
"""What is said of answers that follow a mark."""

_ENDS = frozenset(":;,.?!…)]}»”’→⇒⟶➔")
_ARROWS = ("->", "=>", "~>", ">>")
_QUOTES = frozenset("\"'`")


def find_seam(prompt: str | None, answer: str | None) -> Seam | None:
    """What the answer follows without a space where words would have one; None where nothing is amiss.

    Example:
        >>> find_seam("Q: capital of France?\\nA:", "Paris"), find_seam("A:", " Paris"), find_seam("12:", "30")
        ('mark', None, None)
    """
    if not prompt or not answer or not _opens_word(answer[0]):
        return None
    if _opens_word(prompt[-1]):
        return "letter"
    if not _is_spaced(prompt):
        return None
    if prompt[-1] in _QUOTES:
        return "mark" if _closes(prompt) else None
    return "mark" if _ends_in_mark(prompt, answer) and not _is_usual(prompt, answer) else None


def _is_usual(prompt: str, answer: str) -> bool:
    """Whether words follow the same mark without a space earlier in the prompt, as in demonstrations."""
    mark = prompt[-2:] if prompt.endswith(_ARROWS) else prompt[-1]
    following = (piece[:1] for piece in prompt.split(mark)[1:-1])
    return any(_opens_word(char) and char.isdigit() == answer[0].isdigit() for char in following if char)


def _opens_word(character: str) -> bool:
    """Whether a character is a letter or digit of a script that puts spaces between words."""
    return character.isalnum() and unicodedata.name(character, "").split(" ")[0] in _SPACED_SCRIPTS


def _is_spaced(prompt: str) -> bool:
    """Whether the last word of a prompt is of such a script."""
    letters = (character for character in reversed(prompt) if character.isalnum())
    return _opens_word(next(letters, "a"))


def _ends_in_mark(prompt: str, answer: str) -> bool:
    """Whether a prompt ends in a mark behind which a word has a space."""
    mark, before = prompt[-1], prompt[-2:-1]
    if mark in ".,:" and before.isdigit() and answer[0].isdigit():
        return False  # 3.14, 1,000 and 12:30
    if mark == "=":
        return before.isspace()  # x=1 is code, "1 + 1 =" is not
    return mark in _ENDS or prompt.endswith(_ARROWS)


def _closes(prompt: str) -> bool:
    """Whether the quote at a prompt's end closes: it is the second, fourth, … on its line, and stands behind a word."""
    line, mark = prompt.rpartition("\n")[2], prompt[-1]
    return line.count(mark) % 2 == 0 and not prompt[-2:-1].isspace()
