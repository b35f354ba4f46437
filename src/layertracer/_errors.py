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

_MARKS = 4
"""So many accents on one letter are a language's; more of them cover the lines above and below."""


def printable(text: str) -> str:
    r"""A text whose control characters are written as escapes, so that a file cannot move the cursor.

    Written so are, too, what turns the direction of text, what cannot be seen, separators of lines and paragraphs,
    surrogates, and accents piled upon one letter. Line feeds stay.

    Laws: what it gives holds no control or format character but line feed, and comes back unchanged from a second call.

    Example:
        >>> print(printable("a\x1b[31mb"))
        a\x1b[31mb
    """
    if text.isprintable() and text.isascii():
        return text
    shown: list[str] = []
    n_marks = 0
    for char in text:
        n_marks = n_marks + 1 if unicodedata.category(char)[0] == "M" else 0
        is_shown = char == "\n" or (char.isprintable() and n_marks <= _MARKS)
        shown.append(char if is_shown else char.encode("unicode_escape", "surrogatepass").decode("ascii"))
    return "".join(shown)


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
