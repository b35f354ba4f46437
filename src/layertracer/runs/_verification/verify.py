"""Whether a stored run is as it was written, and all that speaks against it."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layertracer._errors import UsageError
from layertracer.runs._columns import find_other_words
from layertracer.runs._folders.full_paths import expand_home
from layertracer.runs._folders.kinds import RUN, FolderKind
from layertracer.runs._json_rules import described
from layertracer.runs._record import TraceRecord
from layertracer.runs._schema import HEADER_FILE, REPORT_FILE
from layertracer.runs._storage import assemble
from layertracer.runs._verification.certificates import find_false_certificate
from layertracer.runs._verification.examine import UNUSABLE, Examined, Fault, examine_folder, reason_of
from layertracer.runs._verification.kept_answers import KeptAnswers, compare_answers
from layertracer.runs._verification.laws import find_contradictions, find_oddities, is_lawful

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
        summary_agrees: Whether the answers that `run.json` keeps are those that follow from the tables; False only
            beside a fault; None where they were not verified: another version wrote them, or they have an older form,
            and nothing tells their differences from alterations.
        differences: The places where both have a value, and not the same one.
        holds: What the folder holds: "run", "advice", "evidence", "causal trace".
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
    differences: tuple[str, ...] = ()
    holds: str = RUN.noun

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong with it. Its kept answers are verified only where `summary_agrees`, too."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """The findings as JSON values."""
        lists = {"notes": list(self.notes), "differences": list(self.differences)}
        return dataclasses.asdict(self) | {"is_intact": self.is_intact, **lists}


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
    expected = None if expect is None else checked_digest(expect)
    examined = examine_folder(folder)
    faults, notes = list(examined.faults), find_extra_files(folder, RUN)
    if expected is not None and examined.digest != expected:
        faults.append(Fault(file=HEADER_FILE, reason=f"its digest is {examined.digest}, and {expected} was expected"))
    kept = _verify_answers(examined, faults, notes) if not examined.faults else None
    header: Mapping[str, Any] = {} if any(fault.file == HEADER_FILE for fault in examined.faults) else examined.header
    shape = header.get("shape", {})
    return Verification(
        path=str(path),
        faults=tuple(faults),
        notes=tuple(notes),
        digest=examined.digest,
        format_version=examined.format_version if header else None,
        written_by=header.get("provenance", {}).get("layertracer"),
        status=header.get("status"),
        n_prompts=shape.get("n_prompts"),
        n_requested=header.get("n_requested"),
        summary_agrees=None if kept is None else kept.agree,
        differences=() if kept is None else kept.differences,
    )


def checked_digest(text: str) -> str:
    """A digest as it is compared.

    Raises:
        UsageError: If it is none.
    """
    digest = text.strip().lower().removeprefix("sha256:")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise UsageError(
            f"A run's digest has 64 hexadecimal digits, got {described(text)}. Give what an earlier verification of "
            "the run printed."
        )
    return digest


def find_extra_files(folder: Path, kind: FolderKind) -> list[str]:
    """What is said of files that no checksum covers."""
    names = sorted(set(os.listdir(folder)) - kind.files)
    notes = []
    if REPORT_FILE in names:
        notes.append(f"{REPORT_FILE} is drawn from the {kind.noun} and no part of it: no checksum covers it.")
        names.remove(REPORT_FILE)
    if names:
        shown = ", ".join(map(described, names[:_NAMED])) + (", …" if len(names) > _NAMED else "")
        notes.append(f"The folder holds other things, which no checksum covers: {shown}.")
    return notes


def _verify_answers(examined: Examined, faults: list[Fault], notes: list[str]) -> KeptAnswers | None:
    """What comes of the answers that are kept; what speaks against the run is added to faults or notes."""
    try:
        record = assemble(examined)
    except UNUSABLE as error:
        faults.append(Fault(file=HEADER_FILE, reason=f"its fields do not fit the tables ({reason_of(error)})"))
        return None
    _verify_sites(record, examined.header, faults)
    faults += [Fault(file=HEADER_FILE, reason=reason) for reason in find_false_certificate(record, examined.header)]
    notes += [*find_oddities(record), *find_other_words(examined.header)]
    if not is_lawful(examined.header) and record.n_prompts:
        notes.append(_why_lawless(examined))
    kept = compare_answers(record, examined.header)
    told = kept.faults[:_NAMED]
    faults += [Fault(file=HEADER_FILE, reason=f"{reason}, as follows from the tables") for reason in told]
    if kept.agree is None:
        notes.append(_why_open(kept, examined.header["provenance"]))
    return kept


def _why_lawless(examined: Examined) -> str:
    """What is said of tables that nobody asked to go together when they were written."""
    try:
        found = [f"{file}: {words}" for file, words in find_contradictions(examined.header, examined.columns)]
    except UNUSABLE as error:
        found = [reason_of(error)]
    how = f"do not go together ({'; '.join(found[:_NAMED])})" if found else "go together"
    return (
        f"It measured nothing again, as runs of older versions; its tables are read without being compared. They {how}."
    )


def _why_open(kept: KeptAnswers, provenance: Mapping[str, Any]) -> str:
    """Why it cannot be told whether kept answers are those that were written."""
    shown = "; ".join(kept.differences[:_NAMED]) + ("; …" if len(kept.differences) > _NAMED else "")
    form = "have another form than" if kept.is_other_form else "are not in every place"
    differ = f"Where both have a value, these differ: {shown}." if shown else "Where both have a value, they agree."
    return (
        f"The answers in {HEADER_FILE} {form} those that this version computes from the tables, so that nothing says "
        f"whether they were altered; LayerTracer {described(provenance.get('layertracer'))} wrote them, it says. "
        f"{differ} Reports and comparisons always compute them anew."
    )


def _verify_sites(record: TraceRecord, header: Mapping[str, Any], faults: list[Fault]) -> None:
    stored, found = header.get("layers_without_site"), list(record.layers_without_site)
    if stored is not None and stored != found:
        reason = f"layers_without_site is {described(stored)} that are not the layers of NaN in the table, {found[:9]}"
        faults.append(Fault(file=HEADER_FILE, reason=reason))
