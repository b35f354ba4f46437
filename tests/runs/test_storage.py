"""Runs on a disk: what is read is what was saved, or nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layertracer import DamagedRunError, RunError, RunFormatError
from layertracer.runs import (
    HEADER_FIELDS,
    HEADER_FILE,
    RUN_FORMAT_VERSION,
    TABLES,
    TraceRecord,
    describe_format,
    read_run,
    save_run,
)
from layertracer.runs._header import encode_header
from layertracer.runs._upgrades import UPGRADES, StoredRun, upgrade_run

from tests.strategies import trace_records
from tests.support.records.sample_records import make_record

FILES = [HEADER_FILE, *(table.file for table in TABLES)]
SMALL = make_record(n_prompts=2, n_layers=3, n_draws=2, top_k=2, hostile=True)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small run."""
    return _contents(save_run(SMALL, tmp_path_factory.mktemp("small") / "run"))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(record=trace_records())
def test_a_run_is_read_as_it_was_saved(record: TraceRecord) -> None:
    """Reading what was saved gives the same record: any size, NaN, infinities, any text, any status. Saving what was
    read gives the same bytes in every file.
    """
    with tempfile.TemporaryDirectory() as folder:
        first = save_run(record, Path(folder) / "first")
        read = read_run(first)
        assert read == record
        assert _contents(save_run(read, Path(folder) / "second")) == _contents(first)


def test_order_of_mappings_does_not_reach_the_disk(tmp_path: Path) -> None:
    """Records that differ only in the order of a mapping's keys are equal and give the same bytes."""
    record = make_record()
    turned = dataclasses.replace(
        record,
        provenance=dict(reversed(record.provenance.items())),
        tokens=dict(reversed(record.tokens.items())),
    )
    assert turned == record
    assert _contents(save_run(record, tmp_path / "a")) == _contents(save_run(turned, tmp_path / "b"))


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_any_altered_byte_is_noticed(small_run: dict[str, bytes], data: st.DataObject) -> None:
    """A run in which one byte of one file is another one is refused."""
    name = data.draw(st.sampled_from(FILES))
    content = bytearray(small_run[name])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        for other, original in small_run.items():
            (Path(folder) / other).write_bytes(bytes(content) if other == name else original)
        with pytest.raises((DamagedRunError, RunFormatError), match=rf"{name}|format"):
            read_run(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "longer"])
def test_a_damaged_file_is_named(small_run: dict[str, bytes], tmp_path: Path, name: str, damage: str) -> None:
    """A missing, empty, cut or lengthened file makes the run unreadable, and the message names the file."""
    for other, content in small_run.items():
        (tmp_path / other).write_bytes(content)
    path = tmp_path / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "longer": content + b"\n"}[damage])
    with pytest.raises(DamagedRunError, match=rf"is damaged: {name} cannot be used, .* run the trace again"):
        read_run(tmp_path)


def test_tables_of_another_run_are_refused(small_run: dict[str, bytes], tmp_path: Path) -> None:
    """Whole tables of another run beside this one's header are noticed."""
    other = save_run(make_record(n_prompts=2, n_layers=3, n_draws=2, top_k=2, seed=1), tmp_path / "other")
    (other / HEADER_FILE).write_bytes(small_run[HEADER_FILE])
    with pytest.raises(DamagedRunError, match=r"dimensions.parquet cannot be used, its checksum"):
        read_run(other)


def test_a_consistent_header_with_wrong_shape_is_refused(small_run: dict[str, bytes], tmp_path: Path) -> None:
    """A header whose checksums fit but whose sizes do not fit the tables is refused."""
    for name, content in small_run.items():
        (tmp_path / name).write_bytes(content)
    header = json.loads(small_run[HEADER_FILE])
    header["sha256"] = "0" * 64
    header["shape"]["n_draws"] = header["spec"]["perturbation"]["draws"] = 1
    (tmp_path / HEADER_FILE).write_bytes(encode_header(header))
    with pytest.raises(DamagedRunError, match=r"files\.perturbations\.parquet\.n_rows is 12, and 6 follow from shape"):
        read_run(tmp_path)
    header["files"]["perturbations.parquet"]["n_rows"] = 6
    (tmp_path / HEADER_FILE).write_bytes(encode_header(header))
    with pytest.raises(DamagedRunError, match=r"perturbations.parquet .*its rows are not one per prompt"):
        read_run(tmp_path)


def test_a_newer_format_is_refused(small_run: dict[str, bytes], tmp_path: Path) -> None:
    """A run of a format that this version does not know is refused with both versions."""
    header = json.loads(small_run[HEADER_FILE]) | {"format_version": RUN_FORMAT_VERSION + 1, "sha256": "0" * 64}
    (tmp_path / HEADER_FILE).write_bytes(encode_header(header))
    with pytest.raises(
        RunFormatError, match=rf"format {RUN_FORMAT_VERSION + 1}, .* up to {RUN_FORMAT_VERSION}\. Upgrade"
    ):
        read_run(tmp_path)


def test_every_older_format_has_an_upgrade() -> None:
    """There is an upgrade from every format that was ever written to the next."""
    assert sorted(UPGRADES) == list(range(1, RUN_FORMAT_VERSION))


def test_upgrades_are_applied_one_after_the_other() -> None:
    """An old run passes through every version up to the present one; a present one is left as it is."""
    stored = StoredRun(header={"format_version": 1, "trail": ""}, tables={"a": b"1"})

    def mark(letter: str, run: StoredRun) -> StoredRun:
        return StoredRun(header={**run.header, "trail": run.header["trail"] + letter}, tables=run.tables)

    chain = {1: lambda run: mark("x", run), 2: lambda run: mark("y", run)}
    upgraded = upgrade_run(stored, chain, version=3)
    assert upgraded.header == {"format_version": 3, "trail": "xy"}
    assert upgraded.tables == {"a": b"1"}
    assert upgrade_run(upgraded, chain, version=3) is upgraded


def test_there_is_no_run_where_there_is_nothing(tmp_path: Path) -> None:
    """A path without a run is told apart from a damaged run."""
    with pytest.raises(RunError, match=r"There is no run at .*absent\. Give the folder"):
        read_run(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RunError, match=r"is not a run: it holds no run\.json"):
        read_run(tmp_path)
    with pytest.raises(RunError, match="is a file, and a run is a folder"):
        read_run(tmp_path / "notes.txt")


def test_an_existing_run_is_not_replaced_unasked(tmp_path: Path) -> None:
    """Saving where a run lies is refused and leaves it as it was."""
    path = save_run(SMALL, tmp_path / "run")
    before = _contents(path)
    with pytest.raises(RunError, match=r"There is a run at .* already\. Give another path, or overwrite=True"):
        save_run(make_record(), path)
    assert _contents(path) == before


def test_overwriting_keeps_what_is_not_the_runs_own(tmp_path: Path) -> None:
    """An overwritten run is replaced whole; a user's own files in the folder stay, the old report goes."""
    path = save_run(SMALL, tmp_path / "run")
    (path / "notes.txt").write_text("mine")
    (path / "figures").mkdir()
    (path / "figures" / "curve.svg").write_text("<svg/>")
    (path / "report.html").write_text("of the old run")
    replaced = save_run(make_record(), path, overwrite=True)
    assert read_run(replaced) == make_record()
    assert _names(path) == {*FILES, "notes.txt", "figures"}
    assert (path / "figures" / "curve.svg").read_text() == "<svg/>"
    assert _names(tmp_path) == {"run"}


def test_overwriting_where_nothing_lies_saves(tmp_path: Path) -> None:
    """`overwrite=True` is no condition that something is there."""
    assert read_run(save_run(SMALL, tmp_path / "a" / "b" / "run", overwrite=True)) == SMALL


def test_a_folder_of_other_things_is_never_replaced(tmp_path: Path) -> None:
    """A folder that holds no run is not replaced, not even with `overwrite=True`."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"holds other things \(thesis\.tex\) and no run"):
        save_run(SMALL, tmp_path, overwrite=True)
    assert _names(tmp_path) == {"thesis.tex"}


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    """An empty folder is as good as none."""
    (tmp_path / "run").mkdir()
    assert read_run(save_run(SMALL, tmp_path / "run")) == SMALL


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    """A file at the path, or where a parent folder should be, is an error with the reason, and stays."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="is a file, and a run is a folder"):
        save_run(SMALL, tmp_path / "file", overwrite=True)
    with pytest.raises(RunError, match=r"run cannot be made: .*file is a file"):
        save_run(SMALL, tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "x"
    assert _names(tmp_path) == {"file"}


def test_what_the_disk_refuses_is_one_error(tmp_path: Path) -> None:
    """Where the system refuses to write, the error carries its reason, and nothing is left behind."""
    with pytest.raises(RunError, match=r"could not be written to .*: File name too long\. Nothing was changed there"):
        save_run(SMALL, tmp_path / ("x" * 300))
    assert _names(tmp_path) == set()


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    """Saving through a link replaces the run that it points to, not the link."""
    save_run(SMALL, tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    save_run(make_record(), tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert read_run(tmp_path / "real") == make_record()


def test_a_killed_save_leaves_the_old_run_or_the_new_one(tmp_path: Path) -> None:
    """A process that is killed at any moment of saving leaves a whole run at the path, or none."""
    program = """
import os, sys, threading
from layertracer.runs import save_run
from tests.support.records.sample_records import make_record
record, path = make_record(n_prompts=64, n_layers=48), sys.argv[1]
threading.Timer(float(sys.argv[2]), lambda: os._exit(9)).start()
while True:
    save_run(record, path, overwrite=True)
"""
    root = Path(__file__).parents[2]
    expected = make_record(n_prompts=64, n_layers=48)
    for delay_s in (0.05, 0.11, 0.17):
        path = tmp_path / f"run{delay_s}"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-c", program, str(path), str(delay_s)]
        done = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True)
        assert done.returncode == 9, done.stderr.decode()
        if path.exists():
            assert read_run(path) == expected


def test_extra_files_are_tolerated(tmp_path: Path) -> None:
    """A report or notes beside the run do not keep it from being read."""
    path = save_run(SMALL, tmp_path / "run")
    (path / "report.html").write_text("<html></html>")
    assert read_run(path) == SMALL


def test_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` means the user's home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    save_run(SMALL, "~/run")
    assert read_run("~/run") == SMALL
    assert (tmp_path / "run" / HEADER_FILE).exists()


def test_tables_are_readable_by_others(tmp_path: Path) -> None:
    """The tables hold what the documented columns promise, for any reader of Parquet."""
    record = make_record(n_prompts=2, n_layers=3, n_draws=4)
    path = save_run(record, tmp_path / "run")
    layers = pq.read_table(path / "layers.parquet").to_pandas()
    row = layers[(layers["prompt"] == 1) & (layers["layer"] == 2)].iloc[0]
    assert row["target_log_prob"] == record.target_log_prob[1, 2]
    np.testing.assert_array_equal(row["top_ids"], record.top_ids[1, 2])
    perturbations = pq.read_table(path / "perturbations.parquet").to_pandas().set_index(["prompt", "draw", "layer"])
    assert perturbations.loc[(1, 3, 0), "js_bits"] == record.js_bits[1, 3, 0]
    dimensions = pq.read_table(path / "dimensions.parquet").to_pandas()
    np.testing.assert_array_equal(np.stack(dimensions["dominant_hit"]).T, record.dominant_hit)


def test_summary_holds_the_answers(tmp_path: Path) -> None:
    """`run.json` holds the answers over all prompts and over the solved ones."""
    record = make_record(n_prompts=10)
    summary = json.loads((save_run(record, tmp_path / "run") / HEADER_FILE).read_text())["summary"]
    assert summary["all"]["task_particle"]["layer"] == record.task_particle.layer
    assert summary["all"]["vulnerable_layer"]["stability"] == record.vulnerable_layer.stability
    assert summary["solved"]["n_prompts"] == record.solved_only().n_prompts
    assert summary["solved_share"] == record.solved_share


def test_numbers_without_an_answer_are_saved_all_the_same(tmp_path: Path) -> None:
    """A run whose curves hold NaN is saved, and its summary says why there is no answer."""
    record = dataclasses.replace(make_record(), js_bits=np.full((8, 5, 12), np.nan))
    path = save_run(record, tmp_path / "run")
    summary = json.loads((path / HEADER_FILE).read_text())["summary"]
    assert summary["all"]["error"] == "js_bits holds 480 NaN, so there is no answer. Trace in float32."
    assert read_run(path) == record


def test_values_without_a_json_form_are_refused(tmp_path: Path) -> None:
    """Provenance that JSON cannot hold is refused before anything is written."""
    record = dataclasses.replace(make_record(), provenance={"model": object()})
    with pytest.raises(ValueError, match="A run can hold JSON values only, got <object object"):
        save_run(record, tmp_path / "run")
    assert _names(tmp_path) == set()


def test_format_description_names_every_field_and_column(small_run: dict[str, bytes]) -> None:
    """The described format and the written one have the same fields and columns."""
    text = describe_format()
    written = [field.name for field in HEADER_FIELDS if field.name != "certificate"]  # of certified traces alone
    assert written == list(json.loads(small_run[HEADER_FILE]))
    for field in HEADER_FIELDS:
        assert f"| `{field.name}` |" in text
    for table in TABLES:
        assert f"## `{table.file}`" in text
        for column in table.columns:
            assert f"| `{column.name}` | `{column.type}`" in text


# ---------------------------------------------------------------- columns that came later


def _as_older(run: dict[str, bytes], folder: Path) -> None:
    """Write a run as it was written before prompts had the columns of whole answers."""
    table = pq.read_table(io.BytesIO(run["prompts.parquet"]))
    sink = io.BytesIO()
    newer = ["begins", "n_lead", "other_answer_ids", "other_answer_texts"]
    pq.write_table(table.drop_columns(newer), sink, compression="zstd")
    header = json.loads(run[HEADER_FILE])
    header["sha256"] = "0" * 64
    header["files"]["prompts.parquet"]["sha256"] = hashlib.sha256(sink.getvalue()).hexdigest()
    for name, content in (run | {"prompts.parquet": sink.getvalue(), HEADER_FILE: encode_header(header)}).items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("answer_ids", "target_tokens", "top_id", "stored", "solved", "begins"),
    [
        ((7,), "first", 7, True, True, True),
        ((7,), "first", 8, False, False, False),
        ((7, 9), "first", 7, True, None, True),
        ((7, 9), "first", 8, False, False, False),
        ((7, 9), "all", 7, True, True, True),
        ((7, 9), "all", 7, False, False, True),
        ((), "first", 7, None, None, None),
    ],
)
def test_older_runs_say_no_more_than_they_know(
    tmp_path: Path,
    answer_ids: tuple[int, ...],
    target_tokens: str,
    top_id: int,
    stored: bool | None,
    solved: bool | None,
    begins: bool | None,
) -> None:
    """Runs that compared the followed tokens alone begin with the answer; that they solve it they may not know."""
    prompts = tuple(
        dataclasses.replace(prompt, answer_ids=answer_ids, top_id=top_id, solved=stored) for prompt in SMALL.prompts
    )
    spec = dataclasses.replace(SMALL.spec, target_tokens=target_tokens)
    record = dataclasses.replace(SMALL, prompts=prompts, spec=spec)
    _as_older(_contents(save_run(record, tmp_path / "new")), tmp_path)
    old = read_run(tmp_path)
    assert [(prompt.solved, prompt.begins) for prompt in old.prompts] == [(solved, begins)] * 2
    assert [(prompt.n_lead, prompt.other_answer_ids, prompt.other_answer_texts) for prompt in old.prompts] == [
        (0, (), ())
    ] * 2
    assert old.solved_share == (None if solved is None else float(solved))
    assert old.begins_share == (None if begins is None else float(begins))
    assert read_run(save_run(old, tmp_path / "again")) == old
