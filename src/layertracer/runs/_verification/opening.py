"""Folders of what LayerTracer wrote, opened: that there is one of a kind at all, and the bytes of its files."""

from __future__ import annotations

import os
from pathlib import Path

from layertracer._errors import RunError, printable_cause
from layertracer._types import FileTooLargeError, NotAFileError, read_plain_file
from layertracer.runs._folders.kinds import LENS, FolderKind, kinds_at
from layertracer.runs._folders.recovery import recover_run


def require_folder(folder: Path, kind: FolderKind) -> None:
    """End the saves to a folder that were killed, and refuse it where it is none of the kind.

    Raises:
        RunError: If it is none; the message says what it is.
    """
    left = recover_run(folder)
    if left is not None:
        raise RunError(f"There is no {kind.noun} at {folder}: {left}")
    if not os.path.lexists(folder):
        raise RunError(
            f"There is no {kind.noun} at {folder}. Give the folder that a {kind.made_by} printed, which holds "
            f"{kind.header}."
        )
    if not folder.is_dir():
        raise RunError(f"{folder} is a file, and {kind.one} is a folder. Give the folder that holds {kind.header}.")
    others = [other for other in kinds_at(folder) if other is not kind]
    if others and not os.path.lexists(folder / kind.header):
        raise _other_kind(folder, kind, others[0])
    if not any(os.path.lexists(folder / name) for name in kind.files):
        raise RunError(
            f"{folder} is not {kind.one}: it holds no {kind.header}. Give the folder that a {kind.made_by} "
            f"printed{kind.lies}."
        )


def _other_kind(folder: Path, kind: FolderKind, other: FolderKind) -> RunError:
    drawn = "" if LENS in (kind, other) else " `layertracer report` draws either."
    return RunError(
        f"{folder} is {other.in_full}, not {kind.in_full}: it holds {other.header} and no {kind.header}. Read it "
        f"with {other.read_by}, or give the folder that a {kind.made_by} printed.{drawn}"
    )


def read_of_folder(folder: Path, name: str, limit: int) -> bytes:
    """The bytes of a file of a run, or of another folder of ours.

    Raises:
        RunError: If it may not be read.
        ValueError: If it is missing.
        OSError: If it is no regular file, or too large.
    """
    try:
        return read_plain_file(folder / name, limit=limit)
    except FileNotFoundError:
        raise ValueError("it is missing") from None
    except (FileTooLargeError, NotAFileError):
        raise
    except OSError as error:
        raise RunError(
            f"{folder / name} could not be read: {error.strerror or error}. Check its permissions."
        ) from printable_cause(error)
