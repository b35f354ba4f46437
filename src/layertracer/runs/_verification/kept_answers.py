"""The answers that a stored run keeps, held against those that follow from its tables."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from layertracer.runs._header import to_json_value
from layertracer.runs._json_rules import described
from layertracer.runs._provenance import package_version
from layertracer.runs._record import TraceRecord
from layertracer.runs._summary import summarize_record

_ROUNDING = 1e-6
_MOST = 100
"""So many differences are told one by one."""

_ALWAYS_KEPT = ("n_prompts", "n_requested", "solved_share", "all", "solved")
"""What every version has written. Of these the numbers of prompts never meant anything else."""
_COUNTS = ("n_prompts", "n_requested")


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptAnswers:
    """What comparing kept answers with computed ones showed.

    Attributes:
        agree: True where they are those that follow from the tables, False where they cannot be what was written, None
            where other versions or an older form leave that open.
        differences: Every place where both have a value, and not the same one.
        faults: Why they cannot be what was written.
        is_other_form: Whether fields of today's form are missing in them, as in those of older versions.
    """

    agree: bool | None
    differences: tuple[str, ...]
    faults: tuple[str, ...]
    is_other_form: bool


def compare_answers(record: TraceRecord, header: Mapping[str, Any]) -> KeptAnswers:
    """The answers that `run.json` keeps beside those that follow from the tables.

    The same versions give the same answers, and no field that is unknown to them; an older form has fewer fields. What
    other versions computed may differ, and nothing tells that from an alteration.

    Args:
        record: What the tables hold.
        header: The content of `run.json`.
    """
    # As it comes back from JSON, where non-finite numbers are objects and tuples are lists.
    stored: Any = to_json_value(header["summary"])
    computed = json.loads(json.dumps(to_json_value(summarize_record(record))))
    found = list(_compare(stored, computed, "summary"))
    differences, missing, unknown = (
        [words for kind, words in found if kind == wanted] for wanted in ("value", "missing", "unknown")
    )
    faults = [f"summary.{name} is missing, which every version writes" for name in _ALWAYS_KEPT if name not in stored]
    if _is_written_by_these_versions(header["provenance"]):
        faults += [f"{place} is nothing that this version writes" for place in unknown]
        # An older form of the same version is one of a day before its release: nothing says which answers it gave.
        faults += differences if not missing or unknown else []
    faults += [words for words in differences if words.split(" ", 1)[0] in {f"summary.{name}" for name in _COUNTS}]
    agree = False if faults else None if differences or missing or unknown else True
    return KeptAnswers(
        agree=agree,
        differences=tuple(differences[:_MOST]),
        faults=tuple(dict.fromkeys(faults)),
        is_other_form=bool(missing or unknown),
    )


def _is_written_by_these_versions(provenance: Mapping[str, Any]) -> bool:
    """Whether the code that computes answers was the same, and NumPy's random numbers."""
    was = {"layertracer": provenance.get("layertracer"), "numpy": provenance.get("packages", {}).get("numpy")}
    return all(version == package_version(name) for name, version in was.items())


def _compare(stored: object, computed: object, place: str) -> Iterator[tuple[str, str]]:
    """Every difference: its kind ("value", "missing" or "unknown"), and its place with what both are."""
    if isinstance(stored, dict) and isinstance(computed, dict):
        yield from (("missing", f"{place}.{name}") for name in computed if name not in stored)
        yield from (("unknown", f"{place}.{_plain(name)}") for name in stored if name not in computed)
        for name in computed:
            if name in stored:
                yield from _compare(stored[name], computed[name], f"{place}.{name}")
    elif isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        for index, (one, other) in enumerate(zip(stored, computed, strict=True)):
            yield from _compare(one, other, f"{place}[{index}]")
    elif not _is_same(stored, computed):
        yield "value", f"{place} is {described(stored)} and not {described(computed)}"


def _plain(name: str) -> str:
    return name if name.isidentifier() else described(name)


def _is_same(stored: object, computed: object) -> bool:
    is_number = [isinstance(one, int | float) and not isinstance(one, bool) for one in (stored, computed)]
    if all(is_number):
        return math.isclose(stored, computed, rel_tol=_ROUNDING, abs_tol=_ROUNDING)  # type: ignore[arg-type]
    return type(stored) is type(computed) and stored == computed
