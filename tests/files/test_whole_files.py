"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from layertracer._files import (
    PRIVATE_FILE_MODE,
    PRIVATE_FOLDER_MODE,
    flush_folder,
    open_new,
    remove_unfinished,
    whole_folder,
    write_whole,
)

ROOT = Path(__file__).parents[2]
POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's")


@pytest.fixture
def umask() -> Iterator[int]:
    """A umask that takes writing from the group and everything from others."""
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _fill_disk(file: BinaryIO) -> None:
    """Write half, and fail as a full disk does: without the name of the file."""
    file.write(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    """Content is written as it is, from bytes or by a function; folders above are made, nothing is left beside."""
    path = tmp_path / "a" / "b" / "x.bin"
    write_whole(path, b"one\r\n")
    assert path.read_bytes() == b"one\r\n"
    write_whole(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    assert _names(path.parent) == {"x.bin"}


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """Where writing fails, the old file stays, nothing is left beside, and the error names the file."""
    path = tmp_path / "x"
    write_whole(path, b"old")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(path, _fill_disk)
    assert caught.value.filename == str(path)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    assert (path.read_bytes(), _names(tmp_path)) == (b"old", {"x"})


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    """A file that would take a folder's place is refused by the system, and nothing is left beside."""
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "x", b"content")
    assert _names(tmp_path) == {"x"}


@POSIX_ONLY
def test_a_link_is_replaced(tmp_path: Path) -> None:
    """A link at the path is replaced; what it leads to stays as it is."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"of somebody else")
    link.symlink_to(target)
    write_whole(link, b"new")
    assert (link.is_symlink(), link.read_bytes(), target.read_bytes()) == (False, b"new", b"of somebody else")


@POSIX_ONLY
def test_permissions_are_what_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    """Files and folders have the permissions that others made by this user have, or are private where that is asked."""
    write_whole(tmp_path / "file", b"")
    write_whole(tmp_path / "private", b"", mode=PRIVATE_FILE_MODE)
    with whole_folder(tmp_path / "folder"):
        pass
    with whole_folder(tmp_path / "own", mode=PRIVATE_FOLDER_MODE):
        pass
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"file": 0o666 & ~umask, "private": 0o600, "folder": 0o777 & ~umask, "own": 0o700}


def test_what_lies_there_is_not_opened_as_new(tmp_path: Path) -> None:
    """A new file is never one that lies there, nor one that a link there leads to."""
    (tmp_path / "x").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="exists"):
        open_new(tmp_path / "x")
    if os.name == "posix":
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        with pytest.raises(FileExistsError, match="exists"):
            open_new(tmp_path / "link")
    assert (tmp_path / "x").read_bytes() == b"mine"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    """A folder is at its place when the block ends, and not before; after an error it is nowhere."""
    path = tmp_path / "above" / "folder"
    with whole_folder(path) as hidden:
        (hidden / "x").write_bytes(b"1")
        assert not path.exists()
    assert ((path / "x").read_bytes(), _names(path.parent)) == (b"1", {"folder"})
    other = tmp_path / "other"
    with pytest.raises(OSError, match="No space"), whole_folder(other) as hidden, (hidden / "x").open("wb") as file:
        _fill_disk(file)
    assert _names(tmp_path) == {"above"}
    with pytest.raises(OSError, match="not empty"), whole_folder(path) as hidden:
        (hidden / "y").write_bytes(b"2")
    assert (_names(path), _names(path.parent)) == ({"x"}, {"folder"})


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    """What is left of a file or folder goes; what is left of others, other hidden files and what links lead to stay."""
    (tmp_path / ".x-12345678.part").write_bytes(b"half")
    (tmp_path / ".x-abcdef01.part").mkdir()
    (tmp_path / ".x-abcdef01.part" / "inner").write_bytes(b"half")
    kept = {".y-12345678.part", ".x-notes", "x", "target", ".x-thesis.part", ".x-2-12345678.part", ".x-1234567g.part"}
    kept |= {".x-123456789.part", ".x-12345678.part.bak", ".x-1234ABCD.part"}
    for name in kept - {"target"}:
        (tmp_path / name).write_bytes(b"kept")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "inner").write_bytes(b"kept")
    (tmp_path / ".x-87654321.part").symlink_to(tmp_path / "target")
    remove_unfinished(tmp_path / "x")
    assert _names(tmp_path) == kept
    assert (tmp_path / "target" / "inner").read_bytes() == b"kept"


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """Killed at any moment, a process that writes one file again and again leaves one of its whole contents there."""
    path = tmp_path / "x"
    program = (
        "import sys\nfrom pathlib import Path\nfrom layertracer._files import write_whole\n"
        "path, n = Path(sys.argv[1]), 0\n"
        "while True:\n    write_whole(path, bytes([n % 256]) * 300_000)\n    n += 1\n"
        "    if n == 3: print('started', flush=True)\n"
    )
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline() == b"started\n"
            for _ in range(50):
                content = path.read_bytes()
                assert (len(content), len(set(content))) == (300_000, 1)
            child.kill()
            child.wait()
        content = path.read_bytes()
        assert (len(content), len(set(content))) == (300_000, 1)
        remove_unfinished(path)
        assert _names(tmp_path) == {"x"}


def test_folders_can_be_flushed(tmp_path: Path) -> None:
    """A folder's names are flushed; one that is not there is an error."""
    flush_folder(tmp_path)
    if os.name == "posix":
        with pytest.raises(FileNotFoundError, match="nowhere"):
            flush_folder(tmp_path / "nowhere")


def test_nothing_else_writes_atomically() -> None:
    """Files are flushed and put in the place of others by `_files` alone."""
    pattern = re.compile(r"os\.(?:fsync|replace)\(|mkstemp\(|NamedTemporaryFile\(|with_suffix\(\"\.(?:part|tmp)")
    paths = (
        path
        for folder in ("src", "training", "study", "design_study", "scripts")
        for path in (ROOT / folder).rglob("*.py")
    )
    found = [str(path.relative_to(ROOT)) for path in paths if pattern.search(path.read_text("utf-8"))]
    assert found == ["src/layertracer/_files.py"]
