"""Evidence and causal traces on a disk: saved whole, read whole or refused."""

from __future__ import annotations

from pathlib import Path

from layertracer.evidence._causal_laws import find_causal_contradictions
from layertracer.evidence._causal_records import CausalRecord
from layertracer.evidence._causal_tables import CAUSAL_TABLES, causal_file_of, put_back_causal, take_causal_tables
from layertracer.evidence._laws import find_contradictions
from layertracer.evidence._limits import RULES
from layertracer.evidence._records import EvidenceRecord
from layertracer.evidence._schema import (
    CAUSAL_FORMAT,
    CAUSAL_FORMAT_VERSION,
    CAUSAL_KIND,
    EVIDENCE_FORMAT,
    EVIDENCE_FORMAT_VERSION,
    EVIDENCE_KIND,
    EVIDENCE_TABLES,
)
from layertracer.evidence._tables import file_of, put_back, take_tables
from layertracer.runs import (
    CAUSAL,
    EVIDENCE,
    RecordFormat,
    Verification,
    kinds_at,
    read_record,
    same_values,
    save_record,
    to_tree,
    verify_record,
)

_LARGEST_TABLE_BYTES = 8 * 2**30
"""Of cells there are as many as of layers and tokens."""

CAUSAL_STORED_AS = RecordFormat(
    kind=CAUSAL,
    called=CAUSAL_FORMAT,
    version=CAUSAL_FORMAT_VERSION,
    holds=CAUSAL_KIND,
    record=CausalRecord,
    tables=CAUSAL_TABLES,
    rules=RULES,
    take_tables=take_causal_tables,
    put_back=put_back_causal,
    contradictions=find_causal_contradictions,
    file_of=causal_file_of,
    has_arrays=True,
    largest_table_bytes=_LARGEST_TABLE_BYTES,
)
"""How a causal trace is stored."""

STORED_AS = RecordFormat(
    kind=EVIDENCE,
    called=EVIDENCE_FORMAT,
    version=EVIDENCE_FORMAT_VERSION,
    holds=EVIDENCE_KIND,
    record=EvidenceRecord,
    tables=EVIDENCE_TABLES,
    rules=RULES,
    take_tables=take_tables,
    put_back=put_back,
    contradictions=find_contradictions,
    file_of=file_of,
    has_arrays=True,
    largest_table_bytes=_LARGEST_TABLE_BYTES,
)
"""How evidence is stored."""


def same_evidence(one: EvidenceRecord, other: EvidenceRecord) -> bool:
    """Whether two records hold the same evidence: arrays element by element, NaN equal to NaN, in whatever order."""
    return same_values(to_tree(one, keep_arrays=True), to_tree(other, keep_arrays=True))


def save_evidence(record: EvidenceRecord, path: str | Path, *, overwrite: bool = False) -> Path:
    """Save evidence as a folder, whole or not at all.

    Laws: `same_evidence(read_evidence(save_evidence(record, path)), record)`; the same record gives the same bytes.

    A record that contradicts itself, which `read_evidence` refuses, is kept all the same, with a warning: finished work
    is not lost.

    Args:
        record: The evidence.
        path: The folder to make. Parents are made as needed.
        overwrite: Whether evidence that lies there is replaced. Files that LayerTracer did not write stay.

    Returns:
        The folder.

    Raises:
        RunError: If something lies at `path` that may not be replaced, the current folder is gone, or the disk refuses.
        UsageError: If `path` begins with a home folder that the system does not know.
    """
    return save_record(STORED_AS, record, path, overwrite=overwrite)


def read_evidence(path: str | Path) -> EvidenceRecord:
    """Read an evidence folder.

    Laws: any byte altered in any of its files is noticed; what is read is whole; every number is of its type and within
    its range, as the format states them, and none contradicts another.

    Args:
        path: The folder, or `evidence.json` in it.

    Returns:
        The evidence that was saved.

    Raises:
        RunError: If there is no evidence at `path`; the message says what there is.
        DamagedRunError: If a file is missing, cut short or altered, or holds what cannot be; the message names it.
        RunFormatError: If the evidence was written by a newer version of LayerTracer.
    """
    return read_record(STORED_AS, path)


def is_evidence(path: Path) -> bool:
    """Whether a folder holds evidence, whole or not, and nothing else of LayerTracer's."""
    return [kind.noun for kind in kinds_at(path)] == [EVIDENCE.noun]


def verify_evidence(path: str | Path, *, expect: str | None = None) -> Verification:
    """Whether stored evidence is as it was written: checksums, types, ranges, and whether the numbers go together.

    Args:
        path: The folder, or `evidence.json` in it.
        expect: The digest that it should have, as an earlier `Verification.digest`.

    Raises:
        RunError: If there is no evidence at `path`, or a file may not be read.
        RunFormatError: If it was written by a newer version of LayerTracer.
        UsageError: If `expect` is no digest.
    """
    return verify_record(STORED_AS, path, expect=expect)


def same_causal(one: CausalRecord, other: CausalRecord) -> bool:
    """Whether two records hold the same causal trace: arrays element by element, NaN equal to NaN."""
    return same_values(to_tree(one, keep_arrays=True), to_tree(other, keep_arrays=True))


def save_causal(record: CausalRecord, path: str | Path, *, overwrite: bool = False) -> Path:
    """Save a causal trace as a folder, whole or not at all.

    Laws: `same_causal(read_causal(save_causal(record, path)), record)`; the same record gives the same bytes.

    A record that contradicts itself, which `read_causal` refuses, is kept all the same, with a warning: finished work
    is not lost.

    Args:
        record: The causal trace.
        path: The folder to make. Parents are made as needed.
        overwrite: Whether a causal trace that lies there is replaced. Files that LayerTracer did not write stay.

    Returns:
        The folder.

    Raises:
        RunError: If something lies at `path` that may not be replaced, the current folder is gone, or the disk refuses.
        UsageError: If `path` begins with a home folder that the system does not know.
    """
    return save_record(CAUSAL_STORED_AS, record, path, overwrite=overwrite)


def read_causal(path: str | Path) -> CausalRecord:
    """Read the folder of a causal trace.

    Laws: any byte altered in any of its files is noticed; what is read is whole; every number is of its type and within
    its range, as the format states them, and NaN stands exactly where nothing was patched.

    Args:
        path: The folder, or `causal.json` in it.

    Returns:
        The causal trace that was saved.

    Raises:
        RunError: If there is none at `path`; the message says what there is.
        DamagedRunError: If a file is missing, cut short or altered, or holds what cannot be; the message names it.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    return read_record(CAUSAL_STORED_AS, path)


def is_causal(path: Path) -> bool:
    """Whether a folder holds a causal trace, whole or not, and nothing else of LayerTracer's."""
    return [kind.noun for kind in kinds_at(path)] == [CAUSAL.noun]


def verify_causal(path: str | Path, *, expect: str | None = None) -> Verification:
    """Whether a stored causal trace is as it was written: checksums, types, ranges, and whether numbers go together.

    Args:
        path: The folder, or `causal.json` in it.
        expect: The digest that it should have, as an earlier `Verification.digest`.

    Raises:
        RunError: If there is no causal trace at `path`, or a file may not be read.
        RunFormatError: If it was written by a newer version of LayerTracer.
        UsageError: If `expect` is no digest.
    """
    return verify_record(CAUSAL_STORED_AS, path, expect=expect)
