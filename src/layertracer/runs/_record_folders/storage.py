"""Records on a disk: saved whole, read whole or refused."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import numpy as np

from layertracer._errors import DamagedRunError, LayerTracerError, RunError, RunFormatError, printable_cause
from layertracer.runs._equality import same_values
from layertracer.runs._folders.full_paths import expand_home, full_path
from layertracer.runs._folders.whole_folders import write_folder
from layertracer.runs._header import decode_header, encode_header, has_valid_checksum, stored_checksum, to_json_value
from layertracer.runs._json_rules import described
from layertracer.runs._record_folders.flat_rows import Columns
from layertracer.runs._record_folders.record_format import Kept, RecordFormat
from layertracer.runs._record_folders.trees import from_tree
from layertracer.runs._tables import decode_rows, encode_rows
from layertracer.runs._verification.examine import UNUSABLE, Fault, ReadFile, reason_of
from layertracer.runs._verification.opening import read_of_folder, require_folder

_NO_CHECKSUM = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminedRecord(Generic[Kept]):
    """A stored record as far as it can be used.

    Attributes:
        record: The record; None where it has faults.
        faults: All that is wrong with it, as far as it can be read.
        digest: The checksum that its header states of itself, and so of all files; None where it states none.
        format_version: The version in which it is stored; None where that cannot be read.
        written_by: The version of LayerTracer that wrote it, as it says; None where it does not.
    """

    record: Kept | None
    faults: tuple[Fault, ...]
    digest: str | None = None
    format_version: int | None = None
    written_by: str | None = None


def save_record(stored_as: RecordFormat[Kept], record: Kept, path: str | Path, *, overwrite: bool) -> Path:
    """Save a record as a folder, whole or not at all.

    One that contradicts itself, which `read_record` refuses, is kept all the same, with a warning: finished work is not
    lost.

    Args:
        stored_as: How.
        record: The record.
        path: The folder to make. Parents are made as needed.
        overwrite: Whether a record of the kind that lies there is replaced. Files that LayerTracer did not write stay.

    Returns:
        The folder.

    Raises:
        RunError: If something lies at `path` that may not be replaced, the current folder is gone, or the disk refuses.
        UsageError: If `path` begins with a home folder that the system does not know.
    """
    folder, header_file = full_path(Path(path)), stored_as.kind.header
    left, columns = stored_as.take_tables(record)
    tables = {table.file: encode_rows(table, columns[table.file]) for table in stored_as.tables}
    entries = {
        table.file: {
            "sha256": hashlib.sha256(tables[table.file]).hexdigest(),
            "n_bytes": len(tables[table.file]),
            "n_rows": len(columns[table.file][table.columns[0].name]),
        }
        for table in stored_as.tables
    }
    head = {"format": stored_as.called, "format_version": stored_as.version, "sha256": _NO_CHECKSUM}
    content = {"kind": stored_as.holds, **left, "files": entries}
    header = head | {name: to_json_value(value) for name, value in content.items()}
    files = {**tables, header_file: encode_header(header)}
    write_folder(folder, files, overwrite=overwrite, kind=stored_as.kind)
    _warn_of_faults(stored_as, folder, files)
    return Path(path).expanduser()


def _warn_of_faults(stored_as: RecordFormat[Kept], folder: Path, files: Mapping[str, bytes]) -> None:
    """Read what was written from its bytes, and say where it could not be read again."""
    faults = examine_record_files(stored_as, lambda name, _: files[name], where=str(folder)).faults
    if faults:
        warnings.warn(
            f"The {stored_as.kind.noun} at {folder} was saved, but {faults[0].file} contradicts itself, so that it "
            f"will not be read: {faults[0].reason}. `layertracer verify` says all of it. If LayerTracer made these "
            "numbers, please report it.",
            stacklevel=4,
        )


def record_folder(stored_as: RecordFormat[Any], path: Path) -> Path:
    """The folder of a record, given by itself or by its header."""
    folder = expand_home(path)
    return folder.parent if folder.name == stored_as.kind.header and folder.is_file() else folder


def read_record(stored_as: RecordFormat[Kept], path: str | Path) -> Kept:
    """Read a folder.

    Args:
        stored_as: What it should be.
        path: The folder, or the header in it.

    Returns:
        The record that was saved.

    Raises:
        RunError: If there is none at `path`; the message says what there is.
        DamagedRunError: If a file is missing, cut short or altered, or holds what cannot be; the message names it.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    folder = record_folder(stored_as, Path(path))
    examined = examine_record(stored_as, folder)
    if examined.record is not None:
        return examined.record
    fault, n_others, kind = examined.faults[0], len(examined.faults) - 1, stored_as.kind
    others = f" (and {n_others} more faults; `layertracer verify` lists them)" if n_others else ""
    raise DamagedRunError(
        f"The {kind.noun} at {folder} is damaged: {fault.file} cannot be used, {fault.reason}{others}. "
        f"{kind.one.capitalize()} is read whole or not at all. Restore the folder from a copy, or run the "
        f"{kind.made_by} again ({kind.header}, where readable, says with which command)."
    )


def examine_record(stored_as: RecordFormat[Kept], folder: Path) -> ExaminedRecord[Kept]:
    """The record in a folder, and all that is wrong with it.

    Raises:
        RunError: If there is none, a file may not be read, or it does not fit into memory.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    require_folder(folder, stored_as.kind)

    def read(name: str, limit: int) -> bytes:
        return read_of_folder(folder, name, limit)

    try:
        return examine_record_files(stored_as, read, where=str(folder))
    except MemoryError as error:
        raise RunError(
            f"The {stored_as.kind.noun} at {folder} does not fit into the memory that is left. Read it where there is "
            "more."
        ) from printable_cause(error)


def examine_record_files(stored_as: RecordFormat[Kept], read: ReadFile, *, where: str) -> ExaminedRecord[Kept]:
    """A record out of its files. No other is opened than the header and the tables of the format.

    Args:
        stored_as: What it should be.
        read: Reads a file; what is in `UNUSABLE`, where it raises that, says why it cannot be used.
        where: Where it lies, for messages.

    Raises:
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    header_file = stored_as.kind.header
    try:
        content = read(header_file, stored_as.largest_header_bytes)
        header = decode_header(content, called=stored_as.called)
    except UNUSABLE as error:
        return ExaminedRecord(record=None, faults=(Fault(file=header_file, reason=reason_of(error)),))
    is_intact, version = has_valid_checksum(content), header["format_version"]
    _refuse_newer(stored_as, version, is_intact=is_intact, where=where)
    faults = [] if is_intact else [Fault(file=header_file, reason="its checksum does not fit its content")]
    faults += _collect(stored_as, lambda: stored_as.head.faults(header, ""))
    record = None
    if not any(True for _ in stored_as.files.faults(header.get("files"), "files")):
        columns = _read_tables(stored_as, read, header["files"], faults)
        if len(columns) == len(stored_as.tables):
            record = _assemble(stored_as, header, columns, faults)
    provenance = header.get("provenance")
    written_by = provenance.get("layertracer") if isinstance(provenance, dict) else None
    return ExaminedRecord(
        record=None if faults else record,
        faults=tuple(dict.fromkeys(faults)),
        digest=stored_checksum(content),
        format_version=version,
        written_by=written_by if isinstance(written_by, str) else None,
    )


def _refuse_newer(stored_as: RecordFormat[Kept], version: int, *, is_intact: bool, where: str) -> None:
    if version > stored_as.version:
        doubt = "" if is_intact else f" (or {stored_as.kind.header} was altered: its checksum does not fit)"
        raise RunFormatError(
            f"The {stored_as.kind.noun} at {where} has format {described(version)}, and this version of LayerTracer "
            f"reads formats up to {stored_as.version}{doubt}. Upgrade LayerTracer to read it."
        )


def _collect(stored_as: RecordFormat[Kept], find: Callable[[], Iterator[str]]) -> list[Fault]:
    try:
        return [Fault(file=stored_as.file_of(reason), reason=reason) for reason in find()]
    except UNUSABLE as error:
        reason = f"its fields are not those of the format ({reason_of(error)})"
        return [Fault(file=stored_as.kind.header, reason=reason)]


def _read_tables(
    stored_as: RecordFormat[Kept], read: ReadFile, files: Mapping[str, Mapping[str, Any]], faults: list[Fault]
) -> dict[str, Columns]:
    """The columns of every table that is as it was written; of the others the fault is added to `faults`."""
    columns, limit = {}, stored_as.largest_table_bytes
    for table in stored_as.tables:
        entry = files[table.file]
        try:
            content = read(table.file, entry["n_bytes"])
            if hashlib.sha256(content).hexdigest() != entry["sha256"]:
                raise ValueError(
                    f"its checksum does not fit its content ({len(content)} bytes, {entry['n_bytes']} were written)"
                )
            columns[table.file] = decode_rows(
                table, content, n_rows=entry["n_rows"], limit_bytes=limit, as_arrays=stored_as.has_arrays
            )
        except UNUSABLE as error:
            faults.append(Fault(file=table.file, reason=reason_of(error)))
    return columns


def _assemble(
    stored_as: RecordFormat[Kept], header: Mapping[str, Any], columns: dict[str, Columns], faults: list[Fault]
) -> Kept | None:
    """The record of a header and its tables; what is wrong with it is added to `faults`."""
    header_file = stored_as.kind.header
    if any(fault.file == header_file for fault in faults):
        return None
    try:
        tree = stored_as.put_back(dict(header), columns)
    except UNUSABLE as error:
        faults.append(Fault(file=header_file, reason=f"it and the tables do not go together ({reason_of(error)})"))
        return None
    rule = stored_as.rules.of(stored_as.record)
    tree = {name: tree[name] for name in {**rule.required, **rule.optional} if name in tree}
    found = _collect(stored_as, lambda: rule.faults(tree, ""))
    if found:
        faults += found
        return None
    try:
        record = from_tree(stored_as.record, tree)
        found = _collect(stored_as, lambda: stored_as.contradictions(record))
        faults += found or _find_other_rows(stored_as, record, columns)
    except (LayerTracerError, *UNUSABLE) as error:
        faults.append(Fault(file=header_file, reason=reason_of(error)))
        return None
    return record


def _find_other_rows(stored_as: RecordFormat[Kept], record: Kept, columns: Mapping[str, Columns]) -> Iterator[Fault]:
    """Tables whose cells are not those that follow from the record: an objective that is none, rows out of order."""
    _, expected = stored_as.take_tables(record)
    for table in stored_as.tables:
        for name, cells in columns[table.file].items():
            must = expected[table.file][name]
            row = _first_difference(cells, must)
            if row is not None:
                said = f"{name} of row {row} is {_shown(cells, row)}, and must be {_shown(must, row)}"
                yield Fault(file=table.file, reason=said)


def _first_difference(cells: Any, expected: Any) -> int | None:
    """The first row in which two columns differ; None where they do not."""
    if isinstance(cells, np.ndarray) and isinstance(expected, np.ndarray) and cells.shape == expected.shape:
        differ = (cells != expected) & ~((cells != cells) & (expected != expected))  # noqa: PLR0124 - NaN is NaN
        return int(np.flatnonzero(differ)[0]) if differ.any() else None
    for row, one in enumerate(cells):
        if row >= len(expected) or not same_values(one, expected[row]):
            return row
    return None if len(cells) == len(expected) else len(cells)


def _shown(cells: Any, row: int) -> str:
    if row >= len(cells):
        return "absent"
    cell = cells[row]
    return described(cell.item() if isinstance(cell, np.generic) else cell)
