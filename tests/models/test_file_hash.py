"""Hashes of files that are computed once, and for as long as nothing says that the file is another."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from layertracer.models._converted import file_hash as _file_hash
from layertracer.models._converted.file_hash import _sealed, forget_hash, hash_file, remembered_hash

OLD_FILE = Path(json.__file__)
"""A file that changed long ago."""


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are taken for settled as soon as they are written, so that no test has to wait two seconds."""
    monkeypatch.setattr(_file_hash, "_SETTLED_NS", -(10**18))


def memos(cache: Path) -> list[Path]:
    """What is remembered."""
    return list((cache / "hashes").iterdir()) if (cache / "hashes").exists() else []


def say(memo: Path, digest: object) -> None:
    """Another hash in a memo, by somebody who knows its seal."""
    remembered = json.loads(memo.read_text()) | {"sha256": digest}
    del remembered["seal"]
    memo.write_text(_sealed(remembered))


def test_an_altered_memo(cache_folder: Path) -> None:
    """A memo in which one digit was altered, or that holds another file's hash, is not believed."""
    remembered_hash(OLD_FILE)
    (memo,) = memos(cache_folder)
    known = json.loads(memo.read_text())
    digest = known["sha256"]
    for other in (digest[:-1] + "0123456789abcdef"[int(digest[-1], 16) - 1], "0" * 64):
        memo.write_text(json.dumps(known | {"sha256": other}, sort_keys=True))
        assert remembered_hash(OLD_FILE) == hash_file(OLD_FILE)
        assert json.loads(memo.read_text()) == known


def test_is_sha256(tmp_path: Path, cache_folder: Path) -> None:
    """The hash is SHA-256 of the content, remembered or not."""
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    expected = hashlib.sha256(b"abc").hexdigest()
    assert hash_file(path) == remembered_hash(path) == remembered_hash(path) == expected
    assert remembered_hash(OLD_FILE) == remembered_hash(OLD_FILE) == hash_file(OLD_FILE)
    assert len(memos(cache_folder)) == 1


def test_is_remembered(cache_folder: Path) -> None:
    """A file that is known is not read again until it is forgotten."""
    remembered_hash(OLD_FILE)
    (memo,) = memos(cache_folder)
    say(memo, "0" * 64)
    assert remembered_hash(OLD_FILE) == "0" * 64
    forget_hash(OLD_FILE)
    assert remembered_hash(OLD_FILE) == hash_file(OLD_FILE)


def test_a_recent_change_is_not_trusted(tmp_path: Path, cache_folder: Path) -> None:
    """A file that changed within the last two seconds may change again unseen, and one from the future likewise."""
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    remembered_hash(path)
    os.utime(path, ns=(2**62, 2**62))
    remembered_hash(path)
    assert memos(cache_folder) == []


def rewrite(path: Path) -> None:
    """Another content in the same file."""
    path.write_bytes(b"xyz")


def replace(path: Path) -> None:
    """Another file in its place."""
    other = path.with_name("other")
    other.write_bytes(b"xyz")
    other.replace(path)


@pytest.mark.usefixtures("at_once")
@pytest.mark.skipif(sys.platform == "win32", reason="there is no time of change of an entry")
@pytest.mark.parametrize("change", [rewrite, replace])
def test_same_size_and_time(tmp_path: Path, cache_folder: Path, change: Callable[[Path], None]) -> None:
    """A file of the same path, size and time of change is hashed again if it was written to or is another."""
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    os.utime(path, ns=(10**18, 10**18))
    remembered_hash(path)
    assert len(memos(cache_folder)) == 1
    change(path)
    os.utime(path, ns=(10**18, 10**18))
    assert remembered_hash(path) == hashlib.sha256(b"xyz").hexdigest()


@pytest.mark.usefixtures("at_once")
def test_a_change_while_it_is_read(tmp_path: Path, cache_folder: Path) -> None:
    """What is written to while it is hashed is not remembered."""
    path, done, begun = tmp_path / "f", threading.Event(), threading.Event()
    path.write_bytes(bytes(2**25))

    def write() -> None:
        with path.open("r+b", buffering=0) as file:
            while not done.is_set():
                os.utime(file.fileno())
                begun.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert begun.wait(10)
    remembered_hash(path)
    done.set()
    writer.join(10)
    assert memos(cache_folder) == []


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"sha256": 1}', "[" * 100_000, "x" * 2**20],
    ids=["empty", "array", "object", "number", "nested", "large"],
)
def test_a_damaged_memo(tmp_path: Path, cache_folder: Path, text: str) -> None:
    """A memo that is damaged is made again."""
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    remembered_hash(path)
    (memo,) = memos(cache_folder)
    good = memo.read_text()
    memo.write_text(text)
    assert remembered_hash(path) == hash_file(path)
    assert memo.read_text() == good


@pytest.mark.parametrize("digest", ["../" * 21 + "x", "A" * 64, "0" * 63 + "\n", ["0"] * 64], ids=str)
def test_a_hash_that_is_none(cache_folder: Path, digest: object) -> None:
    """What is remembered becomes part of a path, so only 64 hexadecimal digits are a hash."""
    remembered_hash(OLD_FILE)
    (memo,) = memos(cache_folder)
    say(memo, digest)
    assert remembered_hash(OLD_FILE) == hash_file(OLD_FILE)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")
@pytest.mark.parametrize("kind", ["pipe", "endless", "folder"])
def test_a_memo_that_is_no_file(cache_folder: Path, kind: str) -> None:
    """A pipe, a link to an endless device or a folder in a memo's place is neither read nor waited for."""
    remembered_hash(OLD_FILE)
    (memo,) = memos(cache_folder)
    memo.unlink()
    {"pipe": os.mkfifo, "endless": lambda path: path.symlink_to("/dev/zero"), "folder": os.mkdir}[kind](memo)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(remembered_hash(OLD_FILE)), daemon=True)
    thread.start()
    thread.join(20)
    with contextlib.suppress(OSError):
        memo.unlink()
    assert found == [hash_file(OLD_FILE)]
