"""What was read of a source, and what was left out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath

from layertracer.tasks._files.material import Material, Records, Row
from layertracer.tasks._files.recognize import Fields
from layertracer.tasks._files.values import DOUBTFUL, MissingMark

_MAX_PLACES = 5
"""So many places are named for each reason; of the others, the number."""


class Tally:
    """Counts what is left out of records, with the place of each."""

    def __init__(self, records: Records, fields: Fields) -> None:
        self._records = records
        self._fields = fields
        self._places: dict[str, list[str]] = {}
        self._n_missing = 0

    def leave_out(self, reason: str, row: Row, *, is_missing: bool = False) -> None:
        """Note that a record is left out, and why."""
        self._places.setdefault(reason, []).append(row.place)
        self._n_missing += is_missing

    def finish(self, material: Material) -> Material:
        """The material with what was left out of it, in numbers and in a sentence."""
        return replace(
            material,
            left_out={reason: len(places) for reason, places in self._places.items()},
            description=self._describe(),
            notes=(*self._records.notes, *self._doubt()),
            n_missing=self._n_missing,
        )

    def _doubt(self) -> Iterator[str]:
        """What is said of cells that may stand for a missing value."""
        if self._records.part != "column":
            return
        for name in (self._fields.prompt, self._fields.answer):
            found = [row for row in self._records.rows if _is_doubtful(row.values.get(str(name)))]
            if found:
                places = _places([row.place for row in found])
                spellings = ", ".join(dict.fromkeys(repr(row.values[str(name)]) for row in found))
                yield (
                    f"{count(len(found), 'cell')} of column {self._name(str(name))} read as words, though programs "
                    f"write them where there is no value: {spellings} ({places}). Leave such cells "
                    f"empty"
                )

    def _describe(self) -> str:
        """One sentence: how much was read, from which fields, and what was left out."""
        n = len(self._records.rows)
        n_out = sum(len(places) for places in self._places.values())
        part, fields = self._records.part, self._fields
        read = f"prompt from {part} {self._name(fields.prompt)}"
        answer = "no answers" if fields.answer is None else f"answer from {part} {self._name(fields.answer)}"
        unit = "row" if part == "column" else "record"
        beside = "".join(
            f", {name.replace('_', ' ')} from {part} {self._name(field)}" for name, field in fields.beside.items()
        )
        what = f"read {n - n_out} of {count(n, unit)} of {_short(self._records.source)}: {read}, {answer}{beside}"
        reasons = "".join(f"; {count(len(p), unit)} left out: {r} ({_places(p)})" for r, p in self._places.items())
        return what + reasons

    def _name(self, field: str) -> str:
        """A field as it is named; columns without names have numbers."""
        return repr(field) if self._records.is_named else field


def _is_doubtful(value: object) -> bool:
    """Whether a cell holds a word that may stand for a missing value; marks that certainly do are left out anyway."""
    return isinstance(value, str) and not isinstance(value, MissingMark) and value in DOUBTFUL


def count(n: int, unit: str) -> str:
    """A number with its unit, as in "1 row" and "2 rows"."""
    return f"{n} {unit}" if n == 1 else f"{n} {unit}s"


def _short(source: str) -> str:
    """A file's name without its folder; a dataset's as it is."""
    return source if source.startswith("hf:") else PurePath(source).name


def _places(places: list[str]) -> str:
    """Places, as in "lines 7, 9 and 2 more"."""
    kind = places[0].rpartition(" ")[0]
    numbers = ", ".join(place.rpartition(" ")[2] for place in places[:_MAX_PLACES])
    more = f" and {len(places) - _MAX_PLACES} more" if len(places) > _MAX_PLACES else ""
    return f"{kind}{'s' if len(places) > 1 else ''} {numbers}{more}"
