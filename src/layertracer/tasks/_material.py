"""What a source holds before prompts are made of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from layertracer._errors import TaskFileError
from layertracer._types import Sample

PAIR_TEMPLATE = "{input} -> {output}"
QUESTION_TEMPLATE = "Question: {input}\nAnswer: {output}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """An input and its output, without white space at their ends.

    Attributes:
        input: What is asked about.
        output: The answer, which demonstrations show.
        others: Other answers that are right as well.
    """

    input: str
    output: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One record of a source.

    Attributes:
        where: File and line, for messages.
        values: Fields by name.
    """

    where: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldNames:
    """Which fields of a record to read; None where they are to be recognised.

    Attributes:
        prompt: Field of the prompt.
        answer: Field of the answer.
        marker: Text after which the final answer stands, e.g. "####".
    """

    prompt: str | None = None
    answer: str | None = None
    marker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Pairs to make few-shot prompts of, or finished samples.

    Attributes:
        sha256: Hash of the content that was read.
        pairs: Pairs, where prompts are still to be made.
        samples: Samples, where the source holds finished prompts.
        template: Default template of the pairs.
        left_out: Number of records left out, by reason.
    """

    sha256: str
    pairs: tuple[Pair, ...] = ()
    samples: tuple[Sample, ...] | None = None
    template: str = PAIR_TEMPLATE
    left_out: Mapping[str, int] = field(default_factory=dict)


def drop_duplicates(pairs: Iterable[Pair]) -> tuple[tuple[Pair, ...], Counter[str]]:
    """The pairs without repetitions, in order, and the count of what was left out."""
    every = list(pairs)
    unique = tuple(dict.fromkeys(every))
    left_out = Counter({"repeats an earlier pair": len(every) - len(unique)})
    return unique, +left_out


def read_bytes(path: Path) -> bytes:
    """The content of a task file.

    Raises:
        TaskFileError: If there is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise TaskFileError(
            f"There is no task file {path}. Check the path, which is relative to {Path.cwd()}."
        ) from None
    except IsADirectoryError:
        raise TaskFileError(f"{path} is a folder, and a task is read from one file. Name a file in it.") from None
    except (OSError, ValueError) as error:
        raise TaskFileError(f"The task file {path} cannot be read ({error}). Check the path and its rights.") from None


def decode_text(content: bytes, path: Path) -> str:
    """The content as text, a byte order mark removed.

    Raises:
        TaskFileError: If the content is not UTF-8; the message names the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TaskFileError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8. Save the file as UTF-8 text."
        ) from None


def hash_content(content: bytes) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
