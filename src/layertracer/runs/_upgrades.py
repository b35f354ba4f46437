"""Old run formats brought to the present one, a version at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from layertracer.runs._columns import describe_columns
from layertracer.runs._schema import RUN_FORMAT_VERSION, TABLES


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRun:
    """A run as it lies on the disk, its checksums verified.

    Attributes:
        header: The content of `run.json`.
        tables: The bytes of every table, by file name.
    """

    header: Mapping[str, Any]
    tables: Mapping[str, bytes]


Upgrade = Callable[[StoredRun], StoredRun]
"""Turns a run of one version into the same run of the next.

Nothing has been checked before but the list of files, and tables that could not be read are missing: what is not of its
type is left as it is, for who reads it to find.
"""


def _name_columns(stored: StoredRun) -> StoredRun:
    """From version 1, whose columns were all known, to 2, which names them, and has several effects and lenses."""
    header = dict(stored.header)
    for name, added in (("shape", ("n_further_draws",)), ("spec", ("further_perturbations", "lenses"))):
        if isinstance(header.get(name), dict):
            header[name] = {**header[name], **{one: [] for one in added}}
    if isinstance(files := header.get("files"), dict):
        columns = {table.file: describe_columns(table) for table in TABLES}
        header["files"] = {
            name: {**entry, "columns": columns[name]} if isinstance(entry, dict) and name in columns else entry
            for name, entry in files.items()
        }
    return StoredRun(header={**header, "lenses": []}, tables=stored.tables)


UPGRADES: Mapping[int, Upgrade] = MappingProxyType({1: _name_columns})
"""The upgrade from each version to the next; version 1 is the first there ever was."""


def upgrade_run(
    stored: StoredRun, upgrades: Mapping[int, Upgrade] = UPGRADES, *, version: int = RUN_FORMAT_VERSION
) -> StoredRun:
    """The run in the format of `version`.

    Laws: a run of that version comes back as it is; every upgrade raises the version by exactly one.

    Args:
        stored: A run of that version or an older one.
        upgrades: The upgrade from each version to the next.
        version: The version wanted.
    """
    for older in range(stored.header["format_version"], version):
        upgraded = upgrades[older](stored)
        stored = StoredRun(header=dict(upgraded.header) | {"format_version": older + 1}, tables=upgraded.tables)
    return stored
