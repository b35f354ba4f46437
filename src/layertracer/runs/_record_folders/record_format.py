"""How the records of one kind are stored: files, tables, rules, and what may not contradict what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from layertracer.runs._folders.kinds import FolderKind
from layertracer.runs._header_fields import PROVENANCE
from layertracer.runs._json_rules import Anything, Entries, Fields, Items, Rule, Text, Whole
from layertracer.runs._record_folders.flat_rows import Columns, Tree
from layertracer.runs._record_folders.rules import RecordRules
from layertracer.runs._schema import Table

Kept = TypeVar("Kept")

_SHA256 = Text(pattern=("[0-9a-f]{64}", "64 hexadecimal digits"))
_MODEL = Fields(
    required={"name": Text(), "n_layers": Whole(low=1, high=2**31 - 1)},
    optional={"mixers": Items(Text()), "fingerprint": Text()},
)
_MIB = 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordFormat(Generic[Kept]):
    """How the records of one kind are stored.

    Attributes:
        kind: The folder.
        called: What its header says it is.
        version: The version that is written. Every version up to this one can be read.
        holds: What its header says that it holds.
        record: The record.
        tables: Every table, whose files are in `kind`.
        rules: What its fields may be.
        take_tables: A record's tree without what stands in tables, and the columns of each of them, by file.
        put_back: The whole tree out of the header and the tables; what is not of its form raises one of `UNUSABLE`.
        contradictions: What of a record contradicts the rest of it, each with its place.
        file_of: The file in which stands what a sentence begins with.
        has_arrays: Whether columns of numbers are read as arrays, not as lists.
        largest_header_bytes: The largest header that is read.
        largest_table_bytes: The largest table that is read, and how much its rows may take.
    """

    kind: FolderKind
    called: str
    version: int
    holds: str
    record: type[Kept]
    tables: tuple[Table, ...]
    rules: RecordRules
    take_tables: Callable[[Kept], tuple[Tree, dict[str, Columns]]]
    put_back: Callable[[Tree, Mapping[str, Columns]], Tree]
    contradictions: Callable[[Kept], Iterator[str]]
    file_of: Callable[[str], str]
    has_arrays: bool = False
    largest_header_bytes: int = 32 * _MIB
    largest_table_bytes: int = 256 * _MIB

    @property
    def files(self) -> Fields:
        """What the header says of the tables, and of nothing else: no other name is ever opened."""
        entry: dict[str, Rule] = {
            "sha256": _SHA256,
            "n_bytes": Whole(high=self.largest_table_bytes),
            "n_rows": Whole(high=2**31 - 1),
        }
        tables = {table.file: Fields(required=entry, closed=True) for table in self.tables}
        return Fields(required=tables, closed=True)

    @property
    def head(self) -> Fields:
        """What is the same of every record. Fields that later versions of LayerTracer add are left alone."""
        required: dict[str, Rule] = {
            "format": Text(choices=(self.called,)),
            "format_version": Whole(low=1, high=self.version),
            "sha256": _SHA256,
            "kind": Text(choices=(self.holds,)),
            "model": _MODEL,
            "provenance": PROVENANCE,
            "spec": Entries(Anything()),
            "files": self.files,
        }
        return Fields(required=required)
