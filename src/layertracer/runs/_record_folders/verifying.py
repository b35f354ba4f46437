"""Whether a stored record is as it was written, and all that speaks against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layertracer.runs._record_folders.record_format import RecordFormat
from layertracer.runs._record_folders.storage import examine_record, record_folder
from layertracer.runs._verification.examine import Fault
from layertracer.runs._verification.verify import Verification, checked_digest, find_extra_files


def verify_record(stored_as: RecordFormat[Any], path: str | Path, *, expect: str | None = None) -> Verification:
    """Whether a stored record is as it was written.

    Checksums, types and ranges of all files are looked at, and whether the numbers go together. No checksum is a
    signature: who can alter the files can make new ones, and only a digest that was kept elsewhere shows it.

    Args:
        stored_as: What it should be.
        path: The folder, or the header in it.
        expect: The digest that it should have, as an earlier `Verification.digest`.

    Raises:
        RunError: If there is none at `path`, or a file may not be read.
        RunFormatError: If it was written by a newer version of LayerTracer.
        UsageError: If `expect` is no digest.
    """
    folder = record_folder(stored_as, Path(path))
    expected = None if expect is None else checked_digest(expect)
    examined = examine_record(stored_as, folder)
    faults = list(examined.faults)
    if expected is not None and examined.digest != expected:
        reason = f"its digest is {examined.digest}, and {expected} was expected"
        faults.append(Fault(file=stored_as.kind.header, reason=reason))
    is_read = examined.record is not None
    return Verification(
        path=str(path),
        faults=tuple(faults),
        notes=tuple(find_extra_files(folder, stored_as.kind)),
        digest=examined.digest,
        format_version=examined.format_version if is_read else None,
        written_by=examined.written_by,
        status="complete" if is_read else None,
        n_prompts=None,
        n_requested=None,
        summary_agrees=True if is_read else None,
        holds=stored_as.kind.noun,
    )
