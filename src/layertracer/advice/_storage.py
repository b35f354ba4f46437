"""Design advice on a disk: saved whole, read whole or refused."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layertracer._errors import DamagedRunError, LayerTracerError, RunError, RunFormatError, printable_cause
from layertracer.advice._fields import FILES, HEAD
from layertracer.advice._laws import find_contradictions
from layertracer.advice._records import AdviceRecord
from layertracer.advice._rules import rule_of
from layertracer.advice._schema import (
    ADVICE_FILE,
    ADVICE_FORMAT,
    ADVICE_FORMAT_VERSION,
    ADVICE_KIND,
    ADVICE_TABLES,
    LARGEST_ADVICE_BYTES,
)
from layertracer.advice._tables import Columns, file_of, put_back, take_tables
from layertracer.advice._trees import from_tree, to_tree
from layertracer.runs import (
    ADVICE,
    UNUSABLE,
    Fault,
    decode_header,
    decode_rows,
    described,
    encode_header,
    encode_rows,
    expand_home,
    full_path,
    has_valid_checksum,
    read_of_folder,
    reason_of,
    require_folder,
    same_values,
    stored_checksum,
    to_json_value,
    write_folder,
)

_NO_CHECKSUM = "0" * 64
ReadFile = Callable[[str, int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminedAdvice:
    """Stored advice as far as it can be used.

    Attributes:
        record: The advice; None where it has faults.
        faults: All that is wrong with it, as far as it can be read.
        digest: The checksum that `advice.json` states of itself, and so of all files; None where it states none.
        format_version: The version in which it is stored; None where that cannot be read.
        written_by: The version of LayerTracer that wrote it, as it says; None where it does not.
    """

    record: AdviceRecord | None
    faults: tuple[Fault, ...]
    digest: str | None = None
    format_version: int | None = None
    written_by: str | None = None


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
    folder = full_path(Path(path))
    left, columns = take_tables(record, to_tree(record))
    tables = {table.file: encode_rows(table, columns[table.file]) for table in ADVICE_TABLES}
    entries = {
        table.file: {
            "sha256": hashlib.sha256(tables[table.file]).hexdigest(),
            "n_bytes": len(tables[table.file]),
            "n_rows": len(columns[table.file][table.columns[0].name]),
        }
        for table in ADVICE_TABLES
    }
    head = {"format": ADVICE_FORMAT, "format_version": ADVICE_FORMAT_VERSION, "sha256": _NO_CHECKSUM}
    content = {"kind": ADVICE_KIND, **left, "files": entries}
    header = head | {name: to_json_value(value) for name, value in content.items()}
    files = {**tables, ADVICE_FILE: encode_header(header)}
    write_folder(folder, files, overwrite=overwrite, kind=ADVICE)
    _warn_of_faults(folder, files)
    return Path(path).expanduser()


def _warn_of_faults(folder: Path, files: Mapping[str, bytes]) -> None:
    """Read what was written from its bytes, and say where it could not be read again."""
    faults = examine_advice_files(lambda name, _: files[name], where=str(folder)).faults
    if faults:
        warnings.warn(
            f"The advice at {folder} was saved, but {faults[0].file} contradicts itself, so that it will not be read: "
            f"{faults[0].reason}. `layertracer verify` says all of it. If LayerTracer made these numbers, please "
            "report it.",
            stacklevel=3,
        )


def advice_folder(path: Path) -> Path:
    """The folder of advice, given by itself or by its `advice.json`."""
    folder = expand_home(path)
    return folder.parent if folder.name == ADVICE_FILE and folder.is_file() else folder


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
    folder = advice_folder(Path(path))
    examined = examine_advice(folder)
    if examined.record is not None:
        return examined.record
    fault, n_others = examined.faults[0], len(examined.faults) - 1
    others = f" (and {n_others} more faults; `layertracer verify` lists them)" if n_others else ""
    raise DamagedRunError(
        f"The advice at {folder} is damaged: {fault.file} cannot be used, {fault.reason}{others}. Advice is read whole "
        f"or not at all. Restore the folder from a copy, or run the design again ({ADVICE_FILE}, where readable, says "
        "with which command)."
    )


def examine_advice(folder: Path) -> ExaminedAdvice:
    """Advice in a folder, and all that is wrong with it.

    Raises:
        RunError: If there is none, a file may not be read, or it does not fit into memory.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    require_folder(folder, ADVICE)
    try:
        return examine_advice_files(lambda name, limit: read_of_folder(folder, name, limit), where=str(folder))
    except MemoryError as error:
        raise RunError(
            f"The advice at {folder} does not fit into the memory that is left. Read it where there is more."
        ) from printable_cause(error)


def examine_advice_files(read: ReadFile, *, where: str) -> ExaminedAdvice:
    """Advice out of its files. No other is opened than `advice.json` and the tables of the format.

    Args:
        read: Reads a file; what is in `UNUSABLE`, where it raises that, says why it cannot be used.
        where: Where the advice lies, for messages.

    Raises:
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    try:
        content = read(ADVICE_FILE, LARGEST_ADVICE_BYTES)
        header = decode_header(content, called=ADVICE_FORMAT)
    except UNUSABLE as error:
        return ExaminedAdvice(record=None, faults=(Fault(file=ADVICE_FILE, reason=reason_of(error)),))
    is_intact, version = has_valid_checksum(content), header["format_version"]
    _refuse_newer(version, is_intact=is_intact, where=where)
    faults = [] if is_intact else [Fault(file=ADVICE_FILE, reason="its checksum does not fit its content")]
    faults += _collect(lambda: HEAD.faults(header, ""))
    record = None
    if not any(True for _ in FILES.faults(header.get("files"), "files")):
        columns = _read_tables(read, header["files"], faults)
        if len(columns) == len(ADVICE_TABLES):
            record = _assemble(header, columns, faults)
    provenance = header.get("provenance")
    written_by = provenance.get("layertracer") if isinstance(provenance, dict) else None
    return ExaminedAdvice(
        record=None if faults else record,
        faults=tuple(dict.fromkeys(faults)),
        digest=stored_checksum(content),
        format_version=version,
        written_by=written_by if isinstance(written_by, str) else None,
    )


def _refuse_newer(version: int, *, is_intact: bool, where: str) -> None:
    if version > ADVICE_FORMAT_VERSION:
        doubt = "" if is_intact else f" (or {ADVICE_FILE} was altered: its checksum does not fit)"
        raise RunFormatError(
            f"The advice at {where} has format {described(version)}, and this version of LayerTracer reads formats up "
            f"to {ADVICE_FORMAT_VERSION}{doubt}. Upgrade LayerTracer to read it."
        )


def _collect(find: Callable[[], Iterator[str]]) -> list[Fault]:
    try:
        return [Fault(file=file_of(reason), reason=reason) for reason in find()]
    except UNUSABLE as error:
        return [Fault(file=ADVICE_FILE, reason=f"its fields are not those of the format ({reason_of(error)})")]


def _read_tables(read: ReadFile, files: Mapping[str, Mapping[str, Any]], faults: list[Fault]) -> dict[str, Columns]:
    """The columns of every table that is as it was written; of the others the fault is added to `faults`."""
    columns = {}
    for table in ADVICE_TABLES:
        entry = files[table.file]
        try:
            content = read(table.file, entry["n_bytes"])
            if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                raise ValueError(
                    f"its checksum does not fit its content ({len(content)} bytes, {entry['n_bytes']} were written)"
                )
            columns[table.file] = decode_rows(table, content, n_rows=entry["n_rows"])
        except UNUSABLE as error:
            faults.append(Fault(file=table.file, reason=reason_of(error)))
    return columns


def _assemble(header: Mapping[str, Any], columns: dict[str, Columns], faults: list[Fault]) -> AdviceRecord | None:
    """The record of a header and its tables; what is wrong with it is added to `faults`."""
    if any(fault.file == ADVICE_FILE for fault in faults):
        return None
    try:
        tree = put_back(dict(header), columns)
    except UNUSABLE as error:
        faults.append(Fault(file=ADVICE_FILE, reason=f"it and the tables do not go together ({reason_of(error)})"))
        return None
    rule = rule_of(AdviceRecord)
    tree = {name: tree[name] for name in {**rule.required, **rule.optional} if name in tree}
    found = _collect(lambda: rule.faults(tree, ""))
    if found:
        faults += found
        return None
    try:
        record = from_tree(AdviceRecord, tree)
        found = _collect(lambda: find_contradictions(record))
        faults += found or _find_other_rows(record, columns)
    except (LayerTracerError, *UNUSABLE) as error:
        faults.append(Fault(file=ADVICE_FILE, reason=reason_of(error)))
        return None
    return record


def _find_other_rows(record: AdviceRecord, columns: Mapping[str, Columns]) -> Iterator[Fault]:
    """Tables whose cells are not those that follow from the advice: an objective that is none, rows out of order."""
    _, expected = take_tables(record, to_tree(record))
    for table in ADVICE_TABLES:
        for name, cells in columns[table.file].items():
            wrong = [row for row, one in enumerate(cells) if not same_values(one, expected[table.file][name][row])]
            if wrong:
                must = expected[table.file][name][wrong[0]]
                said = f"{name} of row {wrong[0]} is {described(cells[wrong[0]])}, and must be {described(must)}"
                yield Fault(file=table.file, reason=said)
