"""Places that are claimed before a run is made, and hidden siblings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layertracer import RunError
from layertracer.runs import claim_folder, read_run, save_run
from layertracer.runs._folders.locks import hold, let_go
from layertracer.runs._folders.siblings import NEW, sibling_of
from layertracer.runs._folders.whole_folders import write_file, write_folder

from tests.support.records.sample_records import make_record

FILES = {"run.json": b"{}"}


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_a_path_is_claimed_once(tmp_path: Path) -> None:
    """Who comes second gets nothing until the first one lets go; then nothing is left, made folders neither."""
    claim = claim_folder(tmp_path / "a" / "b" / "run", overwrite=False)
    assert claim is not None
    assert claim_folder(tmp_path / "a" / "b" / "run", overwrite=False) is None
    claim.release()
    assert _names(tmp_path) == set()
    again = claim_folder(tmp_path / "run", overwrite=False)
    assert again is not None
    save_run(make_record(n_prompts=1, n_layers=2), tmp_path / "run")
    again.release()
    assert _names(tmp_path) == {"run"}


def test_the_claim_of_a_killed_process_is_none(tmp_path: Path) -> None:
    """A claim that nobody holds any more keeps nobody out, and the next save removes it."""
    claim = claim_folder(tmp_path / "run", overwrite=False)
    assert claim is not None
    os.close(claim.descriptor)  # as the system does when a process ends
    assert len(_names(tmp_path)) == 1
    again = claim_folder(tmp_path / "run", overwrite=False)
    assert again is not None
    os.close(again.descriptor)
    write_folder(tmp_path / "other", FILES, overwrite=False)
    assert _names(tmp_path) == {"other"}


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, "名" * 85], ids=["1 byte", "2 bytes", "3 bytes"])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path, name: str) -> None:
    """Runs and files of the longest names are claimed, saved, replaced and read; one byte more is refused at once."""
    claim = claim_folder(tmp_path / name, overwrite=False)
    assert claim is not None
    record = make_record(n_prompts=1, n_layers=2)
    for _ in range(2):
        save_run(record, tmp_path / name, overwrite=True)
    claim.release()
    assert read_run(tmp_path / name) == record
    assert _names(tmp_path) == {name}
    write_file(tmp_path / "pages" / name, b"page")
    assert (tmp_path / "pages" / name).read_bytes() == b"page"
    with pytest.raises(RunError, match=r"its name has 25[67] bytes, and the file system takes 255"):
        claim_folder(tmp_path / f"{name}{'n' * (256 - len(name.encode()))}", overwrite=False)


def test_a_path_that_is_too_long_is_refused_at_once(tmp_path: Path) -> None:
    """The system's limit for whole paths counts before anything is computed."""
    path = tmp_path.joinpath(*["d" * 200] * 25)
    with pytest.raises(RunError, match=r"the path is longer \(\d+ bytes\) than the system takes"):
        claim_folder(path, overwrite=False)
    assert _names(tmp_path) == set()


def test_what_is_not_ours_or_alive_stays(tmp_path: Path) -> None:
    """Cleaning up leaves links, other names, folders with other things, and what a living process writes."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "run.json").write_bytes(b"{}")
    link = sibling_of(tmp_path / "linked", NEW)
    link.symlink_to(target)
    other = tmp_path / ".run.0123456789abcdef.new"
    other.mkdir()
    filled = sibling_of(tmp_path / "filled", NEW)
    filled.mkdir()
    (filled / "thesis.tex").write_text("years of work")
    living, dead = (sibling_of(tmp_path / name, NEW) for name in ("living", "dead"))
    for folder in (living, dead):
        folder.mkdir()
        (folder / "run.json").write_bytes(b"{}")
    descriptor = hold(living)
    write_folder(tmp_path / "run", FILES, overwrite=False)
    assert _names(tmp_path) == {"run", "target", link.name, other.name, filled.name, living.name}
    assert (target / "run.json").exists()
    let_go(descriptor)
    write_folder(tmp_path / "run", FILES, overwrite=True)
    assert living.name not in _names(tmp_path)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """A file that cannot be written leaves the one that was there, and nothing beside it."""
    path = tmp_path / "page.html"
    write_file(path, b"first")
    left = sibling_of(path, "tmp")
    left.write_bytes(b"of a killed process")
    write_file(path, b"second")
    assert (path.read_bytes(), _names(tmp_path)) == (b"second", {"page.html"})
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_file(tmp_path / "folder", b"x")
    assert _names(tmp_path) == {"page.html", "folder"}
