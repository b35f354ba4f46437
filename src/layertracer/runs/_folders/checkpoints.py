"""Finished measurements, kept as they come: numbered parts in the folder where what they are for will lie."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layertracer._errors import RunError, printable_name
from layertracer.runs._parts import Parts, read_parts, write_part

_META = "meta"
_SHOWN = 60


class Checkpoints:
    """What was finished of a long measurement: numbers with the words that say what they are.

    Only one process at a time may add to a folder.

    Args:
        folder: Where they are kept, which need not exist; None where nothing is kept.
        question: What the numbers depend on, as JSON values; a folder that holds those of another one is refused.
        noun: What they are measured for, e.g. "design".

    Raises:
        RunError: If the folder cannot be read, or holds the measurements of another question.
    """

    def __init__(self, folder: Path | None, question: Mapping[str, Any], *, noun: str) -> None:
        self._folder, self._noun = folder, noun
        self._found: Parts | None = None if folder is None else read_parts(folder)
        self._next = 0
        self.notes: tuple[str, ...] = ()
        if self._found is None:
            return
        numbers = {*self._found.whole, *self._found.damaged}
        self._next = max(numbers, default=-1) + 1
        if self._found.damaged:
            self.notes = (f"{len(self._found.damaged)} checkpoints were damaged, and are measured again.",)
        if self._next == 0:
            self.add({"what": "question", **question}, {})
        else:
            self._refuse_another(question)

    def add(self, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep numbers; when this returns, they are on the disk.

        Args:
            meta: What they are, as JSON values; what was named first is named first when it is found again.
            arrays: The numbers.

        Raises:
            RunError: If the disk refuses.
        """
        if self._folder is None:
            return
        content = io.BytesIO()
        words = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        np.savez(content, allow_pickle=False, **{_META: words, **arrays})
        write_part(self._folder, self._next, content.getvalue())
        self._next += 1

    def found(self, what: str) -> Iterator[tuple[dict[str, Any], dict[str, NDArray[Any]]]]:
        """What was kept earlier of one sort, in the order in which it was finished."""
        for content in () if self._found is None else self._found.whole.values():
            meta, arrays = _unpack(content)
            if meta.get("what") == what:
                yield meta, arrays

    def _refuse_another(self, question: Mapping[str, Any]) -> None:
        earlier = next(self.found("question"), ({}, {}))[0]
        asked = json.loads(json.dumps(question))
        names = [name for name in asked if earlier.get(name) != asked[name]]
        if names:
            differences = "; ".join(
                f"{name} was {_shown(earlier.get(name))} and is {_shown(asked[name])}" for name in names
            )
            raise RunError(
                f"{printable_name(self._folder)} holds the unfinished measurements of another {self._noun}: "
                f"{differences}. Ask what was asked then, or give another folder."
            )


def _unpack(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    meta: dict[str, Any] = json.loads(arrays.pop(_META).tobytes())
    return meta, arrays


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
