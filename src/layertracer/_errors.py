"""Every error that LayerTracer raises on purpose.

The tree::

    LayerTracerError            what a user can act upon; the command line prints it without a traceback
    ├── UsageError              an argument or a combination of arguments makes no sense (also a ValueError)
    ├── UnknownNameError        a model, task, criterion or site that does not exist, with near matches
    ├── TaskError               prompts that cannot be used
    │   ├── TaskFileError       a file of the wrong shape: says which file and line
    │   ├── EmptyTaskError      no sample is left
    │   ├── AnswerError         an answer that tokenises to nothing
    │   └── PromptTooLongError  a prompt that is longer than the model's context
    ├── ModelError              a model that cannot be loaded or traced
    │   ├── ModelLoadError      files missing, damaged, refused, or no network
    │   ├── RemoteCodeError     the checkpoint brings code and nobody allowed it to run
    │   ├── AnatomyError        no decoder stack, or more than one
    │   ├── SelfCheckError      the reading could not be proved right
    │   ├── SiteError           a site that this model does not have
    │   ├── NonFiniteError      NaN or infinity: says in which layer first
    │   └── OutOfMemoryError    not even one prompt fits (also a MemoryError)
    └── RunError                a run folder that cannot be read or written
        ├── DamagedRunError     incomplete or altered files, impossible values
        └── RunFormatError      a format newer than this version knows

A message has four parts: what failed, what was got, what was expected, what to do.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

_MARKS = 16
"""So many marks on one letter are a script's (Tibetan stacks have eight); more cover the lines above and below."""

_JOINERS = ("\u200c", "\u200d")
_FIRST_JOINING = 0x0590
"""Letters before this one (Latin, Greek, Cyrillic) are never joined."""


def printable(text: str) -> str:
    r"""A text whose control characters are written as escapes, so that a file cannot move the cursor.

    Written so are, too, what turns the direction of text, what cannot be seen, separators of lines and paragraphs,
    surrogates, and accents piled upon one letter. Line feeds stay, and so do spaces of any width, and joiners where
    a script or an emoji needs them.

    Laws: what it gives holds no control or format character but line feed and such joiners, and comes back unchanged
    from a second call.

    Example:
        >>> print(printable("a\x1b[31mb"))
        a\x1b[31mb
    """
    if text.isprintable() and text.isascii():
        return text
    shown: list[str] = []
    n_marks, before = 0, ""
    for place, char in enumerate(text):
        is_mark = is_combining(char)
        n_marks = n_marks + 1 if is_mark else n_marks if char in _JOINERS else 0
        if char in _JOINERS:
            after = text[place + 1 : place + 2]
            is_shown = joins(before, after) and not (is_combining(after) and n_marks >= _MARKS)
        else:
            is_shown = char == "\n" or (_is_visible(char) and n_marks <= _MARKS)
        shown.append(char if is_shown else char.encode("unicode_escape", "surrogatepass").decode("ascii"))
        before = char if is_shown else ""
    return "".join(shown)


def joins(before: str, after: str) -> bool:
    """Whether a joiner (U+200C, U+200D) between two characters is one that their script or emoji needs."""
    return _can_join(before) and (_can_join(after) or (not after.isalnum() and _is_virama(before)))


def is_combining(char: str) -> bool:
    """Whether a character is a mark on the one before it."""
    return char != "" and unicodedata.category(char)[0] == "M"


def _can_join(char: str) -> bool:
    if not char or ord(char) < _FIRST_JOINING:
        return False
    category = unicodedata.category(char)
    return category[0] in "LM" or category in ("So", "Sk")


def _is_virama(char: str) -> bool:
    """Whether a mark takes a consonant's vowel away: a joiner behind it may end a word."""
    return unicodedata.combining(char) == 9


def _is_visible(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def printable_name(name: object, *, at_most: int = 200) -> str:
    r"""A name that a file brought, on one line and not longer than a name is.

    Example:
        >>> printable_name("Llama\nError: x"), printable_name("a" * 9, at_most=4)
        ('Llama\\nError: x', 'aaa…')
    """
    text = str(name)
    text = printable(text if len(text) <= at_most else f"{text[: at_most - 1]}…")
    return text.replace("\n", "\\n")


class LayerTracerError(Exception):
    """Base of all errors that a user can act upon; by itself, a fault of LayerTracer's own, to be reported.

    Attributes:
        record: What was finished before the error, as a `TraceRecord`; None where nothing was begun.
    """

    record: object | None = None

    def __str__(self) -> str:
        """The message; it may quote files of unknown content, so that its control characters are written as escapes."""
        return printable(super().__str__())


def printable_cause(error: BaseException, *, at_most: int = 16) -> BaseException:
    """An error to raise another one from, in whose traceback nothing acts on a terminal.

    It is the error itself where its text, and those of the errors behind it, are harmless. Else it is a copy with the
    same name and traceback, whose text has its control characters written as escapes.

    Args:
        error: What another library raised: it may quote files of unknown content.
        at_most: So many errors behind one another are kept.
    """
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    shown_behind = printable_cause(behind, at_most=at_most - 1) if behind is not None and at_most > 0 else None
    notes = [printable(str(note)) for note in getattr(error, "__notes__", ())]
    text = _text_of(error)
    if shown_behind is behind and printable(text) == text and notes == list(getattr(error, "__notes__", ())):
        return error
    kind = type(printable_name(type(error).__name__), (Exception,), {"__module__": type(error).__module__})
    copied: Exception = kind(printable(text))
    for note in notes:
        copied.add_note(note)
    copied.__cause__ = shown_behind
    return copied.with_traceback(error.__traceback__)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an error of somebody's own class, whose text fails
        return "its text cannot be shown"


class UsageError(LayerTracerError, ValueError):
    """An argument, or a combination of arguments, that makes no sense."""


class UnknownNameError(LayerTracerError, LookupError):
    """A name that does not exist; the message carries near matches."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownNameError:
        """The error for `name`, with the nearest of the `known` names and a `hint` on what else would do."""
        names = sorted(map(printable_name, known))
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        did_you_mean = f" Did you mean {' or '.join(repr(match) for match in near)}?" if near else ""
        choices = f" Known: {', '.join(names)}." if names else ""
        return cls(f"Unknown {kind} {name!r}.{did_you_mean}{choices}{' ' + hint if hint else ''}")


class TaskError(LayerTracerError):
    """Prompts that cannot be used."""


class TaskFileError(TaskError):
    """A task file of the wrong shape; the message names the file and the line."""


class EmptyTaskError(TaskError):
    """A task in which no sample is left."""


class AnswerError(TaskError):
    """An answer that tokenises to nothing."""


class PromptTooLongError(TaskError):
    """A prompt that is longer than the model's context."""


class ModelError(LayerTracerError):
    """A model that cannot be loaded or traced."""


class ModelLoadError(ModelError):
    """Model files that are missing, damaged or refused, or a hub that cannot be reached."""


class RemoteCodeError(ModelError):
    """A checkpoint that brings its own code, which nobody allowed to run."""


class AnatomyError(ModelError):
    """A module in which no decoder stack was found, or more than one."""


class SelfCheckError(ModelError):
    """A model whose reading could not be proved right."""


class SiteError(ModelError):
    """A perturbation site that this model does not have, or where it cannot be proved right."""


class NonFiniteError(ModelError):
    """NaN or infinity in the stream or the logits; the message names the first layer."""


class OutOfMemoryError(ModelError, MemoryError):
    """Not even one prompt fits in memory; the message carries the numbers."""


class RunError(LayerTracerError):
    """A run folder that cannot be read or written."""


class DamagedRunError(RunError):
    """A run folder whose files are incomplete or altered, or hold what no trace can measure."""


class RunFormatError(RunError):
    """A run folder in a format that this version does not know."""
