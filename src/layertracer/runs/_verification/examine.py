"""Everything that can be wrong with a stored run, found in the same way by those who read it and who verify it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyarrow.lib import ArrowException

from layertracer._errors import DamagedRunError, RunError, RunFormatError, printable_cause
from layertracer._types import FileTooLargeError
from layertracer.runs._columns import named_in, without_effect
from layertracer.runs._effects import effect_keys
from layertracer.runs._folders.kinds import RUN
from layertracer.runs._header import decode_header, has_valid_checksum, read_spec, stored_checksum
from layertracer.runs._json_rules import described
from layertracer.runs._schema import HEADER_FILE, LARGEST_HEADER_BYTES, RUN_FORMAT_VERSION, TABLES, Table
from layertracer.runs._tables import OF_EFFECTS, Sizes, load_table, split_effects, to_columns
from layertracer.runs._upgrades import StoredRun, upgrade_run
from layertracer.runs._verification.header_checks import find_file_faults, find_header_faults
from layertracer.runs._verification.laws import find_contradictions, is_lawful
from layertracer.runs._verification.opening import read_of_folder, require_folder
from layertracer.runs._verification.ranges import bounds_of, find_out_of_range

UNUSABLE = (
    ArrowException,
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading raises where a file's content is not what it should be. It is the file's fault, whatever it is."""

_LEAST_LIMIT_BYTES = 256 * 2**20
_MOST_INFLATION = 100
"""How many times its files a run's rows may take. Measured numbers take up to ten times, constant ones more."""

_LONGEST_REASON = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that is wrong with a run.

    Attributes:
        file: The file's name.
        reason: What is wrong, with its place.
    """

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """A stored run as far as it can be used.

    Attributes:
        header: The content of `run.json`; empty where it cannot be read.
        columns: The columns of every table that can be used, by its file's name; of those with rows for every
            perturbation the columns of each, by its key.
        faults: All that is wrong with it; empty where it can be read whole.
        digest: The checksum that `run.json` states of itself, and so of all files; None where it states none.
        format_version: The version in which it is stored; None where it cannot be read.
    """

    header: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    digest: str | None = None
    format_version: int | None = None


ReadFile = Callable[[str, int], bytes]
"""The bytes of a file of a run, by its name and the most that it may have."""


def examine_folder(folder: Path) -> Examined:
    """A run in a folder.

    Raises:
        RunError: If there is no run, a file may not be read, or it does not fit into memory.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    require_folder(folder, RUN)
    try:
        return examine_files(lambda name, limit: read_of_folder(folder, name, limit), where=str(folder))
    except MemoryError as error:
        raise RunError(
            f"The run at {folder} does not fit into the memory that is left. Read it where there is more."
        ) from printable_cause(error)


def examine_files(read: ReadFile, *, where: str) -> Examined:
    """A run out of its files. No other is opened than `run.json` and the tables of the format.

    Args:
        read: Reads a file; what is in `UNUSABLE`, where it raises that, says why it cannot be used.
        where: Where the run lies, for messages.

    Raises:
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    try:
        content = read(HEADER_FILE, LARGEST_HEADER_BYTES)
        header = decode_header(content)
    except UNUSABLE as error:
        return Examined(faults=(Fault(file=HEADER_FILE, reason=reason_of(error)),))
    digest, is_intact = stored_checksum(content), has_valid_checksum(content)
    _refuse_newer(header, is_intact=is_intact, where=where)
    reasons = [] if is_intact else ["its checksum does not fit its content"]
    unlisted = _collect(find_file_faults, header)
    faults = [Fault(file=HEADER_FILE, reason=reason) for reason in (*reasons, *unlisted)]
    tables = {} if unlisted else _read_tables(read, header["files"], faults)
    return _examine_content(StoredRun(header=header, tables=tables), faults, digest)


def _examine_content(stored: StoredRun, faults: list[Fault], digest: str | None) -> Examined:
    """What the files hold whose checksums fit."""
    version = stored.header["format_version"]
    stored = upgrade_run(stored)
    header = stored.header
    wrong = _collect(find_header_faults, header)
    faults += [Fault(file=HEADER_FILE, reason=reason) for reason in wrong]
    columns: dict[str, Mapping[str, Any]] = {}
    for table in named_in(header).tables if not wrong else ():
        if table.file in stored.tables:
            try:
                columns[table.file], reasons = _decode(table, stored)
            except UNUSABLE as error:
                reasons = [f"it does not hold what it should ({reason_of(error)})"]
            faults += [Fault(file=table.file, reason=reason) for reason in reasons]
    if not faults and len(columns) == len(TABLES) and is_lawful(header):
        try:
            faults += [Fault(file=file, reason=reason) for file, reason in find_contradictions(header, columns)]
        except UNUSABLE as error:
            faults.append(Fault(file=HEADER_FILE, reason=f"its fields do not fit the tables ({reason_of(error)})"))
    unique = tuple(dict.fromkeys(faults))
    return Examined(header=header, columns=columns, faults=unique, digest=digest, format_version=version)


def _decode(table: Table, stored: StoredRun) -> tuple[Mapping[str, Any], list[str]]:
    """The columns of a table, and which of their values cannot be."""
    header, sizes = stored.header, Sizes.of_header(stored.header)
    limit = max(_LEAST_LIMIT_BYTES, _MOST_INFLATION * sum(map(len, stored.tables.values())))
    n_rows = header["files"][table.file]["n_rows"]
    rows = load_table(table, stored.tables[table.file], sizes, n_rows=n_rows, limit_bytes=limit)
    plain, blocks = without_effect(table), split_effects(table, rows, sizes)
    faults, found = [], []
    for number, (block, shape) in enumerate(blocks):
        bounds = bounds_of(header, n_draws=sizes.draws[number])
        where = f"in effect {number}, " if len(blocks) > 1 else ""
        wrong = [f"{where}{reason}" for reason in find_out_of_range(plain, block, shape, bounds)]
        faults += wrong
        found.append({} if wrong else to_columns(plain, block, shape))
    if table.file not in OF_EFFECTS:
        return found[0], faults
    return dict(zip(effect_keys(read_spec(header).perturbations), found, strict=True)), faults


def _read_tables(read: ReadFile, files: Mapping[str, Mapping[str, Any]], faults: list[Fault]) -> dict[str, bytes]:
    """The bytes of every table that is as it was written; of the others the fault is added to `faults`."""
    tables = {}
    for name in sorted(table.file for table in TABLES):
        n_written = files[name]["n_bytes"]
        try:
            content = read(name, n_written)
            if hashlib.sha256(content).hexdigest() != files[name]["sha256"]:
                raise ValueError(_altered(len(content), n_written))
            tables[name] = content
        except FileTooLargeError as error:
            faults.append(Fault(file=name, reason=_altered(error.n_bytes, n_written)))
        except UNUSABLE as error:
            faults.append(Fault(file=name, reason=reason_of(error)))
    return tables


def _altered(n_found: int, n_written: int) -> str:
    return f"its checksum does not fit its content ({n_found} bytes, {n_written} were written)"


def _collect(find: Callable[[Mapping[str, Any]], list[str]], header: Mapping[str, Any]) -> list[str]:
    try:
        return find(header)
    except UNUSABLE as error:
        return [f"its fields are not those of the format ({reason_of(error)})"]


def _refuse_newer(header: Mapping[str, Any], *, is_intact: bool, where: str) -> None:
    if header["format_version"] > RUN_FORMAT_VERSION:
        doubt = "" if is_intact else f" (or {HEADER_FILE} was altered: its checksum does not fit)"
        raise RunFormatError(
            f"The run at {where} has format {described(header['format_version'])}, and this version of LayerTracer "
            f"reads formats up to {RUN_FORMAT_VERSION}{doubt}. Upgrade LayerTracer to read it."
        )


def reason_of(error: Exception) -> str:
    """What an exception says of a file."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError):
        return f"it has no {described(error.args[0] if error.args else None)}"
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__


def damaged(where: str, fault: Fault, n_others: int = 0) -> DamagedRunError:
    """The error for a run that cannot be read whole."""
    others = f" (and {n_others} more faults; `layertracer verify` lists them)" if n_others else ""
    return DamagedRunError(
        f"The run at {where} is damaged: {fault.file} cannot be used, {fault.reason}{others}. A run is read whole or "
        "not at all. Restore the folder from a copy, or run the trace again (run.json, where readable, says with which "
        "command)."
    )
