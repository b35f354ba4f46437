"""What is removed from the cache, and what is not."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from layertracer.models._converted.sweep import sweep_copies

OWN, OTHER = "a" * 64, "b" * 64
ENTRY = f"{OWN}-converter6-transformers5"


def make(folder: Path, *names: str, age_s: float = 0.0) -> None:
    """Folders with a file in each, and files for what is called a lock."""
    for name in names:
        path = folder / name
        if name.endswith(".lock"):
            path.touch()
        else:
            path.mkdir()
            (path / "model.safetensors").write_text("x")
        os.utime(path, times=(time.time() - age_s,) * 2)


def names(folder: Path) -> set[str]:
    """What lies in a folder."""
    return set(os.listdir(folder))


def test_what_nobody_uses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Copies by earlier converters, their locks, and what was left unfinished a day ago are removed, and named."""
    kept = {
        ENTRY,
        f"{ENTRY}.lock",
        f"{OWN}-converter5-transformers4",  # another environment's
        f"{OWN}-converter7-transformers5",  # a later one's
        f"{OTHER}-converter5-transformers5",  # of another file, which may be used until that is converted again
        f"{OTHER}-converter5-transformers5.lock",
    }
    doomed = {
        f"{OWN}-converter5-transformers5",
        f"{OWN}-converter5-transformers5.lock",
        f"{OWN}-converter4-transformers5",
        f"{OTHER}-converter3-transformers5.lock",
    }
    old = {f".{OWN[:16]}-abcd_123.part", ".removed-abcd_123.part"}
    young = {f".{OWN[:16]}-12345678.part", ".removed-12345678.part"}
    foreign = {"notes", ".other.part", "x.lock", f"{OWN}-converter5-transformers5-mine", f".{OWN[:16]}-x.part.lock"}
    make(tmp_path, *kept, *doomed, *young)
    make(tmp_path, *old, *foreign, age_s=90_000)
    with caplog.at_level(logging.INFO, logger="layertracer"):
        sweep_copies(tmp_path / ENTRY)
    assert names(tmp_path) == kept | young | foreign
    assert all(name in caplog.text for name in doomed | old)


def test_nothing_to_remove(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where there is nothing, nothing is said; a folder that is gone is no error."""
    make(tmp_path, ENTRY)
    with caplog.at_level(logging.INFO, logger="layertracer"):
        sweep_copies(tmp_path / ENTRY)
        sweep_copies(tmp_path / "gone" / ENTRY)
    assert names(tmp_path) == {ENTRY}
    assert caplog.text == ""


@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
def test_links(tmp_path: Path) -> None:
    """A link under one of our names is neither followed nor removed, and one inside is not followed."""
    cache, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    cache.mkdir()
    make(tmp_path, "elsewhere")
    make(cache, f"{OWN}-converter5-transformers5")
    (cache / f"{OWN}-converter5-transformers5" / "inside").symlink_to(elsewhere)
    links = {f"{OWN}-converter4-transformers5", ".removed-abcd_123.part", f"{OTHER}-converter4-transformers5.lock"}
    for name in links:
        (cache / name).symlink_to(elsewhere)
        os.utime(cache / name, times=(0, 0), follow_symlinks=False)
    sweep_copies(cache / ENTRY)
    assert names(cache) == links
    assert names(elsewhere) == {"model.safetensors"}


def test_a_lock_that_is_held(tmp_path: Path) -> None:
    """The lock of somebody who is converting stays."""
    path = tmp_path / f"{OTHER}-converter6-transformers5.lock"
    with FileLock(path):
        sweep_copies(tmp_path / ENTRY)
        assert path.exists()
