"""The cache's folder, hashes and entries."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layertracer.models._cache import (
    cache_folder as folder_of_cache,
)
from layertracer.models._cache import (
    find_entry,
    hash_file,
    locked,
    remembered_hash,
    remove_entry,
    write_entry,
)


def files(**contents: str) -> Callable[[Path], None]:
    """A function that writes files into a folder."""

    def write(folder: Path) -> None:
        for name, text in contents.items():
            (folder / name).write_text(text)

    return write


class TestFolder:
    """Where the cache lies."""

    def test_order_of_the_variables(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """LAYERTRACER_CACHE goes before XDG_CACHE_HOME, which goes before ~/.cache."""
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        monkeypatch.setenv("LAYERTRACER_CACHE", str(tmp_path / "own"))
        assert folder_of_cache() == tmp_path / "own"
        monkeypatch.delenv("LAYERTRACER_CACHE")
        assert folder_of_cache() == tmp_path / "xdg" / "layertracer"
        monkeypatch.setenv("XDG_CACHE_HOME", "")
        assert folder_of_cache() == tmp_path / "home" / ".cache" / "layertracer"
        assert list(tmp_path.iterdir()) == []


class TestHashes:
    """Hashes that are computed once."""

    def test_is_sha256(self, tmp_path: Path, cache_folder: Path) -> None:
        """The hash is SHA-256 of the content, remembered or not."""
        path = tmp_path / "f"
        path.write_bytes(b"abc")
        expected = hashlib.sha256(b"abc").hexdigest()
        assert hash_file(path) == remembered_hash(path) == remembered_hash(path) == expected
        assert len(list((cache_folder / "hashes").iterdir())) == 1

    def test_is_remembered(self, tmp_path: Path, cache_folder: Path) -> None:
        """A file whose path, size and time of change are known is not read again."""
        path = tmp_path / "f"
        path.write_bytes(b"abc")
        remembered_hash(path)
        memo = next((cache_folder / "hashes").iterdir())
        memo.write_text(json.dumps(json.loads(memo.read_text()) | {"sha256": "0" * 64}))
        assert remembered_hash(path) == "0" * 64

    @pytest.mark.usefixtures("cache_folder")
    @pytest.mark.parametrize("content", [b"abcd", b"abd"], ids=["another size", "another time"])
    def test_follows_changes(self, tmp_path: Path, content: bytes) -> None:
        """A file that changed is hashed again."""
        path = tmp_path / "f"
        path.write_bytes(b"abc")
        remembered_hash(path)
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
        assert remembered_hash(path) == hashlib.sha256(content).hexdigest()

    @pytest.mark.parametrize("memo", ["", "[]", "{}", '{"sha256": 1}'])
    def test_survives_a_damaged_memo(self, tmp_path: Path, cache_folder: Path, memo: str) -> None:
        """A memo that is damaged is made again."""
        path = tmp_path / "f"
        path.write_bytes(b"abc")
        remembered_hash(path)
        written = next((cache_folder / "hashes").iterdir())
        good = written.read_text()
        written.write_text(memo)
        assert remembered_hash(path) == hash_file(path)
        assert written.read_text() == good


class TestEntries:
    """Entries that are there whole or not at all."""

    def test_is_there_when_written(self, tmp_path: Path) -> None:
        """An entry holds what was written and nothing unfinished lies beside it."""
        entry = tmp_path / "cache" / "e"
        assert not find_entry(entry)
        write_entry(entry, files(a="1", b="2"))
        assert find_entry(entry)
        assert (entry / "b").read_text() == "2"
        assert list(entry.parent.iterdir()) == [entry]

    def test_is_not_there_when_writing_failed(self, tmp_path: Path) -> None:
        """Where writing fails nothing is left."""
        entry = tmp_path / "cache" / "e"

        def fail(folder: Path) -> None:
            (folder / "a").write_text("half")
            raise OSError("no space left")

        with pytest.raises(OSError, match="no space left"):
            write_entry(entry, fail)
        assert list(entry.parent.iterdir()) == []

    def test_who_comes_second_keeps_what_is_there(self, tmp_path: Path) -> None:
        """An entry that somebody else finished meanwhile stays, and the other copy is discarded."""
        entry = tmp_path / "e"

        def write_while_another_finishes(folder: Path) -> None:
            write_entry(entry, files(a="first"))
            (folder / "a").write_text("second")

        write_entry(entry, write_while_another_finishes)
        assert (entry / "a").read_text() == "first"
        assert list(tmp_path.iterdir()) == [entry]

    def test_a_damaged_entry_is_replaced(self, tmp_path: Path) -> None:
        """Writing replaces an entry of which a file was altered."""
        entry = tmp_path / "e"
        write_entry(entry, files(a="1"))
        (entry / "a").write_text("2")
        assert not find_entry(entry)
        write_entry(entry, files(a="3"))
        assert find_entry(entry)
        assert (entry / "a").read_text() == "3"

    def test_an_empty_entry_is_none(self, tmp_path: Path) -> None:
        """A folder without a list of files, or with an empty one, is no entry."""
        entry = tmp_path / "e"
        entry.mkdir()
        assert not find_entry(entry)
        (entry / "entry.json").write_text('{"files": {}}')
        assert not find_entry(entry)

    def test_is_removed(self, tmp_path: Path) -> None:
        """A removed entry is gone; removing what is not there is no error."""
        entry = tmp_path / "e"
        write_entry(entry, files(a="1"))
        remove_entry(entry)
        remove_entry(entry)
        assert list(tmp_path.iterdir()) == []

    def test_the_lock_sweeps(self, tmp_path: Path) -> None:
        """Whoever holds the lock finds nothing unfinished of the same entry, and other entries untouched."""
        for name in (".e-killed.part", ".other-running.part"):
            (tmp_path / name).mkdir()
        with locked(tmp_path / "e"):
            assert {path.name for path in tmp_path.iterdir()} == {".other-running.part", "e.lock"}
