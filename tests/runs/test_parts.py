"""Parts of a run that is not finished: whole on the disk or not there, and gone with the finished run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from layertracer import RunError
from layertracer.runs import save_run
from layertracer.runs._folders.whole_folders import write_folder
from layertracer.runs._parts import PARTS_FOLDER, holds_only_parts, read_parts, remove_parts, write_part

from tests.support.records.sample_records import make_record

CONTENTS = {0: b"", 1: b"one\r\n\x00", 2: bytes(range(256)) * 40, 7: b"sieben"}

WRITER = """
import sys
from pathlib import Path
from layertracer.runs._parts import write_part
run, number = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
while True:
    write_part(run, number, bytes([number % 251]) * 200_000)
    print(number, flush=True)
    number += 1
"""
"""Writes parts until it is killed, and says of each when it is on the disk."""

HALTED = """
import os, sys
from pathlib import Path
from layertracer import RunError
from layertracer.runs._parts import write_part
if sys.argv[2] == "full":
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
elif os.geteuid() == 0:  # what is read-only is not for the one who may write everything
    os.setegid(65534)
    os.seteuid(65534)
try:
    write_part(Path(sys.argv[1]), 3, b"x" * 100_000)
except RunError as error:
    print(error)
"""
"""Writes a part where files may have 50,000 bytes, or where the folder is read-only, and prints the error."""


def _write_all(run: Path) -> None:
    for number, content in CONTENTS.items():
        write_part(run, number, content)


def _part(run: Path, number: int) -> Path:
    return run / PARTS_FOLDER / f"{number:06d}.part"


def _run_program(source: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Parts come back with their contents, in the order of their numbers, whatever the order of writing."""
    for number in (7, 0, 2, 1):
        write_part(tmp_path / "a" / "run", number, CONTENTS[number])
    parts = read_parts(tmp_path / "a" / "run")
    assert list(parts.whole.items()) == list(CONTENTS.items())
    assert (parts.damaged, parts.missing) == ({}, (3, 4, 5, 6))
    assert {path.name for path in (tmp_path / "a" / "run").iterdir()} == {PARTS_FOLDER}


def test_no_parts_are_none(tmp_path: Path) -> None:
    """A run without parts, or that is not there, has none, none damaged, none missing; reading makes nothing."""
    (tmp_path / "run").mkdir()
    for run in (tmp_path / "run", tmp_path / "nowhere"):
        parts = read_parts(run)
        assert (parts.whole, parts.damaged, parts.missing) == ({}, {}, ())
        remove_parts(run)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_part_is_replaced(tmp_path: Path) -> None:
    """A part that is written again has the new content."""
    _write_all(tmp_path)
    write_part(tmp_path, 1, b"again")
    assert read_parts(tmp_path).whole == CONTENTS | {1: b"again"}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_altered_parts_are_noticed(number: int, tmp_path: Path) -> None:
    """Any altered bit, any cut, anything appended, another part under its name: damaged, and the others are whole."""
    _write_all(tmp_path)
    path, rng = _part(tmp_path, number), random.Random(number)
    written = path.read_bytes()
    altered = [written + b"\x00", b"", written[1:], _part(tmp_path, 7).read_bytes()]
    altered += [written[: rng.randrange(len(written))] for _ in range(20)]
    n_bits = len(written) * 8
    for at in (*range(0, 59 * 8, 7), *(rng.randrange(n_bits) for _ in range(60))):
        flipped = bytearray(written)
        flipped[at // 8] ^= 1 << at % 8
        altered.append(bytes(flipped))
    for content in altered:
        path.write_bytes(content)
        parts = read_parts(tmp_path)
        assert (set(parts.damaged), set(parts.whole)) == ({number}, set(CONTENTS) - {number})
        assert parts.missing == (3, 4, 5, 6)
    path.write_bytes(written)
    assert read_parts(tmp_path).whole == CONTENTS


def test_the_reason_of_damage_is_said(tmp_path: Path) -> None:
    """What is cut, foreign, altered or another part says so; links and folders are no parts."""
    _write_all(tmp_path)
    _part(tmp_path, 0).write_bytes(b"short")
    _part(tmp_path, 1).write_bytes(b"x" * 100)
    _part(tmp_path, 2).write_bytes(_part(tmp_path, 2).read_bytes()[:-1])
    _part(tmp_path, 3).write_bytes(_part(tmp_path, 7).read_bytes())
    _part(tmp_path, 4).mkdir()
    expected = {
        0: "it has 5 bytes, and begins with 59",
        1: "it does not begin as a part does",
        2: "its content is not what was written",
        3: "it is part 7",
        4: "it is not a regular file",
    }
    if os.name == "posix":
        _part(tmp_path, 5).symlink_to(_part(tmp_path, 7))
        expected[5] = "it is not a regular file"
    parts = read_parts(tmp_path)
    assert (parts.damaged, parts.whole) == (expected, {7: CONTENTS[7]})


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_kill_loses_the_part_in_flight_at_most(tmp_path: Path) -> None:
    """Killed at any moment, a writer leaves every part that it said was written, and none that is damaged."""
    run, rng, said, seen = tmp_path / "run", random.Random(0), -1, {}
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(run), str(said + 1)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.05))
            child.kill()
            said = max([said, *(int(line) for line in child.stdout if line.endswith("\n"))])
            child.wait()
        parts = read_parts(run)
        assert (parts.damaged, parts.missing) == ({}, ())
        assert list(parts.whole) in (list(range(said + 1)), list(range(said + 2)))
        assert all(content == bytes([number % 251]) * 200_000 for number, content in parts.whole.items())
        seen |= parts.whole
        said = max(parts.whole, default=-1)
    assert len(seen) > 4
    remove_parts(run)
    assert list(run.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="needs limits of POSIX")
def test_a_full_disk_leaves_what_was_written(tmp_path: Path) -> None:
    """Where the disk takes no more, the error names the part and the cure; earlier parts stay, and nothing else."""
    _write_all(tmp_path)
    names = sorted(path.name for path in (tmp_path / PARTS_FOLDER).iterdir())
    message = _run_program(HALTED, tmp_path, "full")
    assert message.startswith(f"Part 3 of the run could not be written to {tmp_path / PARTS_FOLDER}: File too large.")
    assert "disk has room" in message
    assert sorted(path.name for path in (tmp_path / PARTS_FOLDER).iterdir()) == names
    assert read_parts(tmp_path).whole == CONTENTS


@pytest.mark.skipif(os.name != "posix", reason="needs permissions of POSIX")
def test_a_read_only_folder_is_said() -> None:
    """Where the folder may not be written, the error says so; earlier parts stay."""
    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        _write_all(run)
        for folder, mode in ((run, 0o755), (run / PARTS_FOLDER, 0o555)):
            folder.chmod(mode)
        assert "could not be written" in _run_program(HALTED, run, "read-only")
        assert read_parts(run).whole == CONTENTS
        (run / PARTS_FOLDER).chmod(0o755)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    """A file or a link where the folder of parts should be is neither written through nor read."""
    (tmp_path / "target").mkdir()
    for run in (tmp_path / "file", tmp_path / "link"):
        run.mkdir()
    (tmp_path / "file" / PARTS_FOLDER).write_text("mine")
    (tmp_path / "link" / PARTS_FOLDER).symlink_to(tmp_path / "target")
    for run in (tmp_path / "file", tmp_path / "link"):
        with pytest.raises(RunError, match=r"Part 0 of the run could not be written to .*Not a directory"):
            write_part(run, 0, b"x")
        with pytest.raises(RunError, match="cannot be read: Not a directory"):
            read_parts(run)
        remove_parts(run)
        assert os.path.lexists(run / PARTS_FOLDER)
    assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.parametrize("number", [-1, 10**9])
def test_numbers_have_a_range(number: int, tmp_path: Path) -> None:
    """A number that no name of a part can hold is refused."""
    with pytest.raises(ValueError, match=f"no part has the number {number}"):
        write_part(tmp_path, number, b"")


def test_only_parts_are_removed(tmp_path: Path) -> None:
    """Parts and what killed writers left of them go; what somebody else put there stays, with the folder."""
    _write_all(tmp_path)
    folder = tmp_path / PARTS_FOLDER
    (folder / ".000003.part-0123abcd.part").write_bytes(b"half")
    assert holds_only_parts(folder)
    (folder / "notes.txt").write_text("mine")
    assert not holds_only_parts(folder)
    remove_parts(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_finished_run_has_no_parts(tmp_path: Path) -> None:
    """The run that is saved where its parts lie takes their place; in a run that is replaced they go, too."""
    run, record = tmp_path / "run", make_record(n_prompts=3, n_layers=4)
    _write_all(run)
    save_run(record, run)
    finished = {path.name for path in run.iterdir()}
    assert PARTS_FOLDER not in finished
    _write_all(run)
    (run / "notes.txt").write_text("mine")
    save_run(record, run, overwrite=True)
    assert {path.name for path in run.iterdir()} == finished | {"notes.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_else_lies_among_parts_is_kept(tmp_path: Path) -> None:
    """Parts beside files of the user's are no place for a run; what is put among parts is handed to the new run."""
    run = tmp_path / "run"
    _write_all(run)
    (run / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match=r"holds other things .*thesis\.tex.* and no run"):
        write_folder(run, {"run.json": b"{}"}, overwrite=True)
    (run / "thesis.tex").unlink()
    write_folder(run, {"run.json": b"{}"}, overwrite=False)
    _write_all(run)
    (run / PARTS_FOLDER / "notes.txt").write_text("mine")
    write_folder(run, {"run.json": b"{}"}, overwrite=True)
    assert (run / PARTS_FOLDER / "notes.txt").read_text() == "mine"


def test_the_next_writer_clears_what_killed_ones_left(tmp_path: Path) -> None:
    """What a killed writer left of a part of any number goes with the next part; names of other forms stay."""
    _write_all(tmp_path)
    folder = tmp_path / PARTS_FOLDER
    before = {path.name for path in folder.iterdir()}
    kept = {".000003.part-notes.part", ".mine-0123abcd.part", "notes.txt"}
    for name in (*kept, ".000003.part-0123abcd.part", ".000900.part-00000000.part"):
        (folder / name).write_bytes(b"half")
    write_part(tmp_path, 1, b"again")
    assert {path.name for path in folder.iterdir()} == before | kept
    assert read_parts(tmp_path).whole[1] == b"again"
