"""The cache's folder and its entries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from layertracer.models._converted.copies import DamagedEntryError, locked, open_entry, remove_entry, write_entry
from layertracer.models._converted.folder import cache_folder as folder_of_cache


def files(**contents: str) -> Callable[[Path], dict[str, str]]:
    """A function that writes files into a folder, and has something to say of weights."""

    def write(folder: Path) -> dict[str, str]:
        for name, text in contents.items():
            (folder / name).write_text(text)
        return {"w": "as it is"}

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


class TestEntries:
    """Entries that are there whole or not at all."""

    def test_is_there_when_written(self, tmp_path: Path) -> None:
        """An entry holds what was written and nothing unfinished lies beside it."""
        entry = tmp_path / "cache" / "e"
        assert open_entry(entry) is None
        write_entry(entry, files(a="1", b="2"))
        opened = open_entry(entry)
        assert opened is not None
        assert (opened.files.keys(), opened.weights) == ({"a", "b"}, {"w": "as it is"})
        assert (entry / "b").read_text() == "2"
        assert list(entry.parent.iterdir()) == [entry]

    def test_is_not_there_when_writing_failed(self, tmp_path: Path) -> None:
        """Where writing fails nothing is left."""
        entry = tmp_path / "cache" / "e"

        def fail(folder: Path) -> dict[str, str]:
            (folder / "a").write_text("half")
            raise OSError("no space left")

        with pytest.raises(OSError, match="no space left"):
            write_entry(entry, fail)
        assert list(entry.parent.iterdir()) == []

    def test_who_comes_second_keeps_what_is_there(self, tmp_path: Path) -> None:
        """An entry that somebody else finished meanwhile stays, and the other copy is discarded."""
        entry = tmp_path / "e"

        def write_while_another_finishes(folder: Path) -> dict[str, str]:
            write_entry(entry, files(a="first"))
            return files(a="second")(folder)

        write_entry(entry, write_while_another_finishes)
        assert (entry / "a").read_text() == "first"
        assert list(tmp_path.iterdir()) == [entry]

    def test_a_damaged_entry_is_replaced(self, tmp_path: Path) -> None:
        """Writing replaces an entry of which a file was altered."""
        entry = tmp_path / "e"
        write_entry(entry, files(a="1"))
        (entry / "a").write_text("2")
        with pytest.raises(DamagedEntryError, match="content of 'a' was altered"):
            open_entry(entry)
        write_entry(entry, files(a="3"))
        assert open_entry(entry) is not None
        assert (entry / "a").read_text() == "3"

    def test_an_empty_entry_is_none(self, tmp_path: Path) -> None:
        """A folder without a list of files, or with an empty one, is no entry."""
        entry = tmp_path / "e"
        entry.mkdir()
        with pytest.raises(DamagedEntryError, match=r"cannot be read \(.*entry\.json"):
            open_entry(entry)
        (entry / "entry.json").write_text('{"name": "e", "files": {}, "weights": {}}')
        with pytest.raises(DamagedEntryError, match=r"entry\.json was altered"):
            open_entry(entry)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [("a", "content of 'a' was altered"), ("w.safetensors", "header of 'w.safetensors' was altered")],
    )
    def test_says_what_was_altered(self, tmp_path: Path, name: str, reason: str) -> None:
        """The reason names the file, and which part of it; of weight files only the header is read at once."""
        entry = tmp_path / "e"
        header = b"\2\0\0\0\0\0\0\0{}"
        write_entry(entry, files(**{"a": "1", "w.safetensors": header.decode() + "values"}))
        opened = open_entry(entry)
        assert opened is not None
        content = (entry / name).read_bytes()
        (entry / name).write_bytes(content[:1][::-1] + b"!" * (len(content) - 1) if name != "a" else b"2")
        with pytest.raises(DamagedEntryError, match=reason):
            open_entry(entry)
        if name != "a":
            (entry / name).write_bytes(content[:-1] + b"!")
            assert open_entry(entry) is not None
            with pytest.raises(DamagedEntryError, match=r"content of 'w\.safetensors' was altered"):
                opened.check_weight_files()

    def test_is_removed(self, tmp_path: Path) -> None:
        """A removed entry is gone; removing what is not there is no error."""
        entry = tmp_path / "e"
        write_entry(entry, files(a="1"))
        remove_entry(entry)
        remove_entry(entry)
        assert list(tmp_path.iterdir()) == []

    def test_the_lock_sweeps(self, tmp_path: Path) -> None:
        """Whoever holds the lock finds nothing unfinished of the same entry, and other entries untouched."""
        for name in (".e-0a1b2c3d.part", ".other-4e5f6a7b.part"):
            (tmp_path / name).mkdir()
        with locked(tmp_path / "e"):
            assert {path.name for path in tmp_path.iterdir()} == {".other-4e5f6a7b.part", "e.lock"}
