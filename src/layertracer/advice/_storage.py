"""Design advice on a disk: saved whole, read whole or refused."""

from __future__ import annotations

from pathlib import Path

from layertracer.advice._laws import find_contradictions
from layertracer.advice._limits import RULES
from layertracer.advice._records import AdviceRecord
from layertracer.advice._schema import ADVICE_FORMAT, ADVICE_FORMAT_VERSION, ADVICE_KIND, ADVICE_TABLES
from layertracer.advice._tables import file_of, put_back, take_tables
from layertracer.runs import (
    ADVICE,
    RecordFormat,
    Verification,
    kinds_at,
    read_record,
    same_values,
    save_record,
    to_tree,
    verify_record,
)

STORED_AS = RecordFormat(
    kind=ADVICE,
    called=ADVICE_FORMAT,
    version=ADVICE_FORMAT_VERSION,
    holds=ADVICE_KIND,
    record=AdviceRecord,
    tables=ADVICE_TABLES,
    rules=RULES,
    take_tables=take_tables,
    put_back=put_back,
    contradictions=find_contradictions,
    file_of=file_of,
)
"""How advice is stored."""


def same_advice(one: AdviceRecord, other: AdviceRecord) -> bool:
    """Whether two records hold the same advice: arrays element by element, NaN equal to NaN, in whatever order."""
    return same_values(to_tree(one), to_tree(other))


def save_advice(record: AdviceRecord, path: str | Path, *, overwrite: bool = False) -> Path:
    """Save advice as a folder, whole or not at all.

    Laws: `same_advice(read_advice(save_advice(record, path)), record)`; the same record gives the same bytes.

    A record that contradicts itself, which `read_advice` refuses, is kept all the same, with a warning: finished work
    is not lost.

    Args:
        record: The advice.
        path: The folder to make. Parents are made as needed.
        overwrite: Whether advice that lies there is replaced. Files that LayerTracer did not write stay.

    Returns:
        The folder.

    Raises:
        RunError: If something lies at `path` that may not be replaced, the current folder is gone, or the disk refuses.
        UsageError: If `path` begins with a home folder that the system does not know.
    """
    return save_record(STORED_AS, record, path, overwrite=overwrite)


def read_advice(path: str | Path) -> AdviceRecord:
    """Read an advice folder.

    Laws: any byte altered in any of its files is noticed; what is read is whole; every number is of its type and within
    its range, as the format states them, and none contradicts another.

    Args:
        path: The folder, or `advice.json` in it.

    Returns:
        The advice that was saved.

    Raises:
        RunError: If there is no advice at `path`; the message says what there is.
        DamagedRunError: If a file is missing, cut short or altered, or holds what cannot be; the message names it.
        RunFormatError: If the advice was written by a newer version of LayerTracer.
    """
    return read_record(STORED_AS, path)


def is_advice(path: Path) -> bool:
    """Whether a folder holds design advice, whole or not, and nothing else of LayerTracer's."""
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
    return verify_record(STORED_AS, path, expect=expect)
