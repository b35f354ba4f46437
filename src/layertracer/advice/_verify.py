"""Whether stored advice is as it was written, and all that speaks against it."""

from __future__ import annotations

from pathlib import Path

from layertracer.advice._schema import ADVICE_FILE
from layertracer.advice._storage import advice_folder, examine_advice
from layertracer.runs import ADVICE, Fault, Verification, checked_digest, find_extra_files, kinds_at


def is_advice(path: Path) -> bool:
    """Whether a folder holds design advice, whole or not, and no run."""
    return [kind.noun for kind in kinds_at(path)] == [ADVICE.noun]


def verify_advice(path: str | Path, *, expect: str | None = None) -> Verification:
    """Whether stored advice is as it was written.

    Checksums, types and ranges of all files are looked at, and whether the numbers go together. No checksum is a
    signature: who can alter the files can make new ones, and only a digest that was kept elsewhere shows it.

    Args:
        path: The folder, or `advice.json` in it.
        expect: The digest that it should have, as an earlier `Verification.digest`.

    Raises:
        RunError: If there is no advice at `path`, or a file may not be read.
        RunFormatError: If it was written by a newer version of LayerTracer.
        UsageError: If `expect` is no digest.
    """
    folder = advice_folder(Path(path))
    expected = None if expect is None else checked_digest(expect)
    examined = examine_advice(folder)
    faults = list(examined.faults)
    if expected is not None and examined.digest != expected:
        faults.append(Fault(file=ADVICE_FILE, reason=f"its digest is {examined.digest}, and {expected} was expected"))
    is_read = examined.record is not None
    return Verification(
        path=str(path),
        faults=tuple(faults),
        notes=tuple(find_extra_files(folder, ADVICE)),
        digest=examined.digest,
        format_version=examined.format_version if is_read else None,
        written_by=examined.written_by,
        status="complete" if is_read else None,
        n_prompts=None,
        n_requested=None,
        summary_agrees=True if is_read else None,
    )
