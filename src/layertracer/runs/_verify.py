"""Whether a stored run is as it was written, and all that speaks against it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layertracer._errors import UsageError
from layertracer.runs._examine import UNUSABLE, Examined, Fault, examine_folder, reason_of
from layertracer.runs._full_paths import expand_home
from layertracer.runs._header import to_json_value
from layertracer.runs._json_rules import described
from layertracer.runs._provenance import package_version
from layertracer.runs._record import TraceRecord
from layertracer.runs._schema import HEADER_FILE, OWN_FILES, REPORT_FILE
from layertracer.runs._storage import assemble
from layertracer.runs._summary import summarize_record

_ROUNDING = 1e-6
_NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What was found of a stored run.

    Attributes:
        path: Its folder.
        faults: All that is wrong with it, as far as it can be read.
        notes: What is to be known beside: files that belong to nobody, a summary that another version computed.
        digest: The checksum that stands for all of the run, 64 hexadecimal digits; None where it states none. It says
            that nothing was altered since only where it was kept elsewhere: who can alter the files can make it anew.
        format_version: The version of the run format; None where it cannot be read.
        written_by: The version of LayerTracer that wrote it, as the run says; None where it does not.
        status: How the run ended; None where it cannot be read.
        n_prompts: How many prompts were finished; None where it cannot be read.
        n_requested: How many were asked for; None where it cannot be read.
        summary_agrees: Whether the answers that `run.json` keeps are those that follow from the tables; None where that
            cannot be told.
    """

    path: str
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    digest: str | None
    format_version: int | None
    written_by: str | None
    status: str | None
    n_prompts: int | None
    n_requested: int | None
    summary_agrees: bool | None

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """The findings as JSON values."""
        return dataclasses.asdict(self) | {"is_intact": self.is_intact, "notes": list(self.notes)}


def verify_run(path: str | Path, *, expect: str | None = None) -> Verification:
    """Whether a stored run is as it was written.

    Checksums, types, sizes and ranges of all files are looked at, whatever is found before, and the answers that
    `run.json` keeps are computed anew from the tables. No checksum is a signature: who can alter the files can make new
    ones, and only a digest that was kept elsewhere shows it.

    Args:
        path: The folder.
        expect: The digest that it should have, as an earlier `Verification.digest`.

    Raises:
        RunError: If there is no run at `path`, or a file may not be read.
        RunFormatError: If the run was written by a newer version of LayerTracer.
        UsageError: If `expect` is no digest.
    """
    folder = expand_home(Path(path))
    expected = None if expect is None else _checked_digest(expect)
    examined = examine_folder(folder)
    faults, notes = list(examined.faults), _find_extra_files(folder)
    if expected is not None and examined.digest != expected:
        faults.append(Fault(file=HEADER_FILE, reason=f"its digest is {examined.digest}, and {expected} was expected"))
    agrees = _verify_answers(examined, faults, notes) if not examined.faults else None
    header: Mapping[str, Any] = {} if any(fault.file == HEADER_FILE for fault in examined.faults) else examined.header
    shape = header.get("shape", {})
    return Verification(
        path=str(path),
        faults=tuple(faults),
        notes=tuple(notes),
        digest=examined.digest,
        format_version=header.get("format_version"),
        written_by=header.get("provenance", {}).get("layertracer"),
        status=header.get("status"),
        n_prompts=shape.get("n_prompts"),
        n_requested=header.get("n_requested"),
        summary_agrees=agrees,
    )


def _checked_digest(text: str) -> str:
    digest = text.strip().lower().removeprefix("sha256:")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise UsageError(
            f"A run's digest has 64 hexadecimal digits, got {described(text)}. Give what an earlier verification of "
            "the run printed."
        )
    return digest


def _find_extra_files(folder: Path) -> list[str]:
    """What is said of files that no checksum covers."""
    names = sorted(set(os.listdir(folder)) - OWN_FILES)
    notes = []
    if REPORT_FILE in names:
        notes.append(f"{REPORT_FILE} is drawn from the run and no part of it: no checksum covers it.")
        names.remove(REPORT_FILE)
    if names:
        shown = ", ".join(map(described, names[:_NAMED])) + (", …" if len(names) > _NAMED else "")
        notes.append(f"The folder holds other things, which no checksum covers: {shown}.")
    return notes


def _verify_answers(examined: Examined, faults: list[Fault], notes: list[str]) -> bool | None:
    """Whether the answers that are kept follow from the tables; what speaks against it is added to faults or notes."""
    try:
        record = assemble(examined)
    except UNUSABLE as error:
        faults.append(Fault(file=HEADER_FILE, reason=f"its fields do not fit the tables ({reason_of(error)})"))
        return None
    _verify_sites(record, examined.header, faults)
    stored = examined.header["summary"]
    # As it comes back from JSON, where non-finite numbers are objects and tuples are lists.
    computed = json.loads(json.dumps(to_json_value(summarize_record(record))))
    difference = _first_difference(to_json_value(stored), computed, "summary")
    if difference is None:
        return True
    provenance = examined.header["provenance"]
    if _is_written_by_these_versions(provenance) and not difference.is_other_form:
        faults.append(Fault(file=HEADER_FILE, reason=f"{difference.words}, as follows from the tables"))
    else:
        notes.append(
            f"The answers in {HEADER_FILE} are not in every place those that this version computes from the tables "
            f"({difference.words}); LayerTracer {described(provenance.get('layertracer'))} wrote them. Reports and "
            "comparisons always compute them anew."
        )
    return False


def _is_written_by_these_versions(provenance: Mapping[str, Any]) -> bool:
    """Whether the code that computes answers was the same, and NumPy's random numbers."""
    was = {"layertracer": provenance.get("layertracer"), "numpy": provenance.get("packages", {}).get("numpy")}
    return all(version == package_version(name) for name, version in was.items())


def _verify_sites(record: TraceRecord, header: Mapping[str, Any], faults: list[Fault]) -> None:
    stored, found = header.get("layers_without_site"), list(record.layers_without_site)
    if stored is not None and stored != found:
        reason = f"layers_without_site is {described(stored)} that are not the layers of NaN in the table, {found[:9]}"
        faults.append(Fault(file=HEADER_FILE, reason=reason))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Difference:
    """Where two JSON values differ first.

    Attributes:
        words: The place and what both are.
        is_other_form: Whether they have other fields or lengths, as those of different versions may.
    """

    words: str
    is_other_form: bool = False


def _first_difference(stored: object, computed: object, place: str) -> _Difference | None:
    if isinstance(stored, dict) and isinstance(computed, dict):
        if stored.keys() != computed.keys():
            return _Difference(words=f"{place} has other fields", is_other_form=True)
        pairs = [(stored[name], computed[name], f"{place}.{name}") for name in computed]
    elif isinstance(stored, list) and isinstance(computed, list) and len(stored) == len(computed):
        pairs = [
            (one, other, f"{place}[{index}]") for index, (one, other) in enumerate(zip(stored, computed, strict=True))
        ]
    else:
        if _is_same(stored, computed):
            return None
        return _Difference(words=f"{place} is {described(stored)} and not {described(computed)}")
    return next((found for pair in pairs if (found := _first_difference(*pair)) is not None), None)


def _is_same(stored: object, computed: object) -> bool:
    is_number = [isinstance(one, int | float) and not isinstance(one, bool) for one in (stored, computed)]
    if all(is_number):
        return math.isclose(stored, computed, rel_tol=_ROUNDING, abs_tol=_ROUNDING)  # type: ignore[arg-type]
    return type(stored) is type(computed) and stored == computed
