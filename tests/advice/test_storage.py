"""Design advice on a disk: saved whole, read whole or refused with what is wrong and where."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layertracer import DamagedRunError, RunError, RunFormatError
from layertracer._types import Interval
from layertracer.advice import ADVICE_FILE, ADVICE_TABLES, AdviceRecord, read_advice, same_advice, save_advice
from layertracer.advice._limits import LIMITS, TEXTS
from layertracer.runs import hints_of, read_run, same_values, save_run

from tests.runs.alterations import Files, contents, with_column, with_header, with_table_bytes, write_files
from tests.support.limits import numbers_of
from tests.support.records.advice_records import ADVICE_RECORDS, large_advice, make_advice, rich_advice
from tests.support.records.sample_records import make_record

STORED = Path(__file__).parents[1] / "stored_advice"


@pytest.fixture(scope="module")
def rich() -> AdviceRecord:
    """Advice with every field in use."""
    return rich_advice()


@pytest.fixture(scope="module")
def files(rich: AdviceRecord, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Its files."""
    return contents(save_advice(rich, tmp_path_factory.mktemp("advice") / "a"))


def _refused(files: Files, folder: Path, match: str) -> None:
    with pytest.raises(DamagedRunError, match=match):
        read_advice(write_files(files, folder))


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("name", ADVICE_RECORDS)
def test_what_is_read_is_what_was_saved(name: str, tmp_path: Path) -> None:
    """`read_advice(save_advice(x))` is x, types and NaN and arrays included, and no warning is given."""
    record = ADVICE_RECORDS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = read_advice(save_advice(record, tmp_path / "a"))
    assert same_advice(again, record)
    assert type(again.substitute) is type(record.substitute)
    assert set(again.placements) == set(record.placements)
    assert again.singles.removed_kl_nats["recall"].dtype == np.float64
    for n_kept, placement in again.placements.items():
        assert type(placement.layers) is tuple
        assert same_values(placement, record.placements[n_kept])


@pytest.mark.parametrize("name", ADVICE_RECORDS)
def test_the_same_record_has_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Saved twice, once out of its own folder, every file has the same bytes."""
    record = ADVICE_RECORDS[name]()
    first = contents(save_advice(record, tmp_path / "a"))
    assert first == contents(save_advice(read_advice(tmp_path / "a"), tmp_path / "b"))
    assert set(first) == {ADVICE_FILE, *(table.file for table in ADVICE_TABLES)}


def test_another_number_is_other_advice(rich: AdviceRecord) -> None:
    """One number that differs, anywhere, makes two records differ."""
    random_ones = rich.baselines[2]["random"]
    moved = random_ones.objective.copy()
    moved[3] += 1e-9
    changed = {**rich.baselines[2], "random": dataclasses.replace(random_ones, objective=moved)}
    other = dataclasses.replace(rich, baselines={**rich.baselines, 2: changed})
    assert not same_advice(rich, other)
    assert same_advice(rich, rich_advice())


def test_any_altered_byte_is_noticed(files: Files, tmp_path: Path) -> None:
    """A byte that is altered in any file, wherever, makes the whole unreadable, and the message names the file."""
    generator = random.Random(0)
    for name in sorted(files):
        for place in sorted({0, len(files[name]) - 1, *(generator.randrange(len(files[name])) for _ in range(12))}):
            altered = bytearray(files[name])
            altered[place] ^= 0x11
            folder = tmp_path / f"{name}-{place}"
            with pytest.raises((DamagedRunError, RunFormatError), match=name):
                read_advice(write_files({**files, name: bytes(altered)}, folder))


def test_tables_are_read_by_anybody(rich: AdviceRecord, files: Files) -> None:
    """Pandas and json alone find the numbers where the format says that they stand."""
    judged = pd.read_parquet(io.BytesIO(files["judgements.parquet"]))
    drawn = judged[(judged["role"] == "random") & (judged["n_kept"] == 3)]
    assert drawn["objective"].tolist() == rich.baselines[3]["random"].objective.tolist()
    assert [tuple(kept) for kept in drawn["kept"]] == list(rich.baselines[3]["random"].placements)
    advised = judged[(judged["role"] == "advised") & (judged["n_kept"] == 4)].iloc[0]
    interval = rich.placements[4].kl_interval
    assert interval is not None
    assert (advised["kl_interval_low"], advised["kl_interval_high"]) == (interval.low, interval.high)
    singles = pd.read_parquet(io.BytesIO(files["singles.parquet"]))
    of_recall = singles[singles["rows"] == "recall"]["restored_kl_nats"].tolist()
    assert of_recall == rich.singles.restored_kl_nats["recall"].tolist()
    header = json.loads(files[ADVICE_FILE])
    assert header["placements"]["4"]["layers"] == list(rich.placements[4].layers)
    assert header["kind"] == "design advice"


# ---------------------------------------------------------------- the folder


def test_advice_is_replaced_only_where_it_is_asked(rich: AdviceRecord, tmp_path: Path) -> None:
    """Advice that lies there stays unless it is to be overwritten; the user's own files stay even then."""
    folder = save_advice(rich, tmp_path / "a")
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match=r"There is advice at .* already"):
        save_advice(large_advice(), folder)
    save_advice(large_advice(), folder, overwrite=True)
    assert same_advice(read_advice(folder), large_advice())
    assert (folder / "mine.txt").read_text() == "mine"


def test_tables_of_a_user_in_a_run_stay(tmp_path: Path) -> None:
    """A file that would be advice's own is the user's in the folder of a run, and stays when the run is replaced."""
    record = make_record(n_prompts=2, n_layers=3, n_draws=2, top_k=2)
    folder = save_run(record, tmp_path / "run")
    (folder / "singles.parquet").write_text("mine")
    save_run(record, folder, overwrite=True)
    assert (folder / "singles.parquet").read_text() == "mine"


def test_neither_replaces_the_other(rich: AdviceRecord, tmp_path: Path) -> None:
    """Advice never takes the place of a run, nor a run that of advice, whatever is asked."""
    run = save_run(make_record(n_prompts=2, n_layers=3, n_draws=2, top_k=2), tmp_path / "run")
    advice = save_advice(rich, tmp_path / "advice")
    with pytest.raises(RunError, match="holds a run and no advice, so it is not replaced"):
        save_advice(rich, run, overwrite=True)
    with pytest.raises(RunError, match="holds advice and no run, so it is not replaced"):
        save_run(make_record(n_prompts=2, n_layers=3, n_draws=2, top_k=2), advice, overwrite=True)
    assert same_advice(read_advice(advice), rich)


def test_each_says_what_the_other_is(rich: AdviceRecord, tmp_path: Path) -> None:
    """Who reads a run as advice, or advice as a run, is told what it is and what reads it."""
    run = save_run(make_record(n_prompts=2, n_layers=3, n_draws=2, top_k=2), tmp_path / "run")
    advice = save_advice(rich, tmp_path / "advice")
    with pytest.raises(RunError, match=r"is design advice, not the run of a trace: .* Read it with load_advice"):
        read_run(advice)
    with pytest.raises(RunError, match=r"is the run of a trace, not design advice: .* Read it with load_run"):
        read_advice(run)


def test_nothing_there(tmp_path: Path) -> None:
    """A path without advice is refused by what it is."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, match in (
        ("none", "There is no advice at"),
        ("file", "is a file, and advice is a folder"),
        ("empty", "is not advice: it holds no advice.json"),
    ):
        with pytest.raises(RunError, match=match):
            read_advice(tmp_path / name)


# ---------------------------------------------------------------- files that somebody else made, checksums right


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    """What sets a field of the header, by the names on the way to it, to the last one given."""

    def change(header: dict[str, Any]) -> None:
        inner: Any = header
        for name in path[:-2]:
            inner = inner[name]
        inner[path[-2]] = path[-1]

    return change


HEADERS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a share beyond 1": (
        _set("placements", "2", "kv_cache_share", 1.5),
        r"placements.2.kv_cache_share is 1.5, and must be a finite number in \[0, 1\], or null",
    ),
    "a percentile beyond 100": (_set("placements", "2", "percentile", 101), r"placements.2.percentile is 101"),
    "a layer twice": (_set("placements", "2", "layers", [1, 1]), "placements.2.layers are not ascending"),
    "a layer beyond": (_set("placements", "2", "layers", [1, 8]), "placements.2.layers has layer 8"),
    "as many as are kept": (_set("placements", "2", "layers", [1]), "has 1 entries, and the layers to keep are 2"),
    "other layers than judged": (_set("placements", "2", "layers", [0, 1]), "what was judged keeps"),
    "another number kept": (lambda h: h["placements"].update({"02": h["placements"].pop("2")}), "names must be whole"),
    "a number that is none": (lambda h: h["placements"].update({"x": h["placements"].pop("2")}), "invalid literal"),
    "a verdict": (_set("placements", "2", "verdict", "best"), "verdict is 'best', and must be \"better\" or"),
    "sure of nothing": (_set("placements", "2", "percentile", None), "verdict is 'better', and it has no percentile"),
    "a model of other layers": (_set("model", "n_layers", 9), "model.mixers are 8, and model.n_layers is 9"),
    "a substitute": (_set("substitute", {"kind": "widow"}), "widow"),
    "a window of no token": (_set("substitute", "size", 0), "size must be at least 1"),
    "another model": (_set("placements", "2", "model", "other"), "placements.2.model is not that of the advice"),
    "a baseline": (
        lambda h: h["baselines"]["2"].update({"chance": h["baselines"]["2"].pop("uniform")}),
        "judgements.parquet has a row of 'uniform' that keeps 2 layers",
    ),
    "regions with a gap": (
        _set("divisions", "regions", 1, "first", 3),
        "divisions.regions do not follow one another from layer 0 to layer 7",
    ),
    "a curve cut short": (_set("divisions", "curves", "entropy", [1.0]), "divisions.curves.entropy has 1 entries"),
    "gates beyond 1": (
        _set("gates", "early_exit", "agreement", [2.0] * 8),
        r"agreement\[0\] is 2.0, and must be a finite number in \[0, 1\]",
    ),
    "what stays is more": (_set("gates", "early_exit", "stays", [1.0] * 8), "stays is more than agreement"),
    "an overlap": (_set("published", "2", 0, "overlap", 2), "overlap is 2, and"),
    "a p": (_set("published", "2", 0, "p", -0.1), r"published.2\[0\].p is -0.1, and must be"),
    "a correction": (_set("published", "2", 0, "p_holm", 0.1), "a correction makes none smaller"),
    "a knee that is no point": (_set("ratio", "knee", 99), "ratio.knee is 99"),
    "no reason": (_set("snippets", "2", None), "snippet_reason is empty, and there is no snippet"),
    "a snippet of nothing": (_set("snippets", "5", {}), "snippets has one for 5 layers, and placements none"),
    "no layers": (_set("singles", "layers", []), "do not go together"),
    "pairs that were not asked for": (_set("pairs", None), "pairs.parquet has rows, and advice.json says"),
    "a field missing": (lambda h: h.pop("search"), "search is missing"),
    "a field more": (_set("placements", "2", "is_best", True), "has 'is_best', which is no field of it"),
    "another kind": (_set("kind", "horoscope"), "kind is 'horoscope', and must be \"design advice\""),
    "a text for a number": (_set("evaluations", "cpu_s", "long"), "evaluations.cpu_s is 'long'"),
    "a negative time": (_set("evaluations", "cpu_s", -1), "evaluations.cpu_s is -1"),
    "NaN where none may be": (_set("ratio", "n_kept", [{"$float": "nan"}]), "do not go together"),
    "a file elsewhere": (_set("files", "../../etc/passwd", {}), "cannot be used"),
    "a seed below 0": (_set("seed", -1), "seed is -1"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_cannot_be_is_refused(name: str, files: Files, tmp_path: Path) -> None:
    """What is out of range or contradicts itself is refused with its place, though every checksum is right."""
    change, match = HEADERS[name]
    _refused(with_header(files, change, name=ADVICE_FILE), tmp_path / "a", match)


def _first(value: Any) -> Callable[[list[Any]], None]:
    def change(values: list[Any]) -> None:
        values[0] = value

    return change


CELLS: dict[str, tuple[str, str, Callable[[list[Any]], object], str]] = {
    "a KL below 0": (
        "judgements.parquet",
        "kl_nats",
        _first(-1e-3),
        r"judgements.parquet cannot be used, placements.2.*kl_nats is -0.001",
    ),
    "an infinite KL": ("judgements.parquet", "kl_nats", _first(float("inf")), "kl_nats is inf"),
    "an objective": ("judgements.parquet", "objective", _first(9.0), "objective of row 0 is 9.0, and must be"),
    "a random objective of NaN": (
        "judgements.parquet",
        "objective",
        lambda values: values.__setitem__(-1, float("nan")),
        "objective",
    ),
    "a role": ("judgements.parquet", "role", _first("chosen"), "has a row of 'chosen' that keeps 2 layers"),
    "a role of another": ("judgements.parquet", "role", _first("random"), "judgements.parquet|what was judged"),
    "layers that were not placeable": (
        "judgements.parquet",
        "kept",
        lambda values: values.__setitem__(-1, [0, 1, 2, 77]),
        "has layer 77, which is none of those",
    ),
    "half an interval": ("judgements.parquet", "kl_interval_low", _first(None), "kl_interval.low is null"),
    "an interval backwards": ("judgements.parquet", "kl_interval_low", _first(99.0), "kl_interval goes from 99 to"),
    "an accuracy beyond 1": ("accuracy.parquet", "share", _first(1.01), "share is 1.01"),
    "a task twice": ("accuracy.parquet", "task", _first("recall"), "has a task twice for one placement"),
    "a single below 0": (
        "singles.parquet",
        "removed_kl_nats",
        _first(-1.0),
        r"singles.parquet cannot be used, .*'antonym'\[0\] is -1.0",
    ),
    "a single that is lost": ("singles.parquet", "removed_kl_nats", _first(None), "removed_kl_nats.'antonym'"),
    "singles out of order": ("singles.parquet", "layer", _first(1), "has not one row per"),
    "pairs that differ": ("pairs.parquet", "kl_nats", lambda v: v.__setitem__(1, 3.0), "pairs.kl_nats is not symm"),
    "a layer with itself": ("pairs.parquet", "interaction", _first(0.5), "of a layer with itself is not 0"),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_that_cannot_be_is_refused(name: str, files: Files, tmp_path: Path) -> None:
    """Cells of tables are held to the same ranges and laws, with their places."""
    file, column, change, match = CELLS[name]
    _refused(with_column(files, file, column, change, header_name=ADVICE_FILE), tmp_path / "a", match)


def test_a_table_of_other_columns_is_refused(files: Files, tmp_path: Path) -> None:
    """A table with other columns, or more rows than it says, is refused by its name."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), sink)
    other = with_table_bytes(files, "pairs.parquet", sink.getvalue(), header_name=ADVICE_FILE)
    _refused(other, tmp_path / "a", r"pairs.parquet cannot be used, it has the columns 'a'")
    more = with_table_bytes(files, "pairs.parquet", files["pairs.parquet"], n_rows=10**9, header_name=ADVICE_FILE)
    _refused(more, tmp_path / "b", "pairs.parquet cannot be used, it has 64 rows and must have 1000000000")


@pytest.mark.parametrize("name", [ADVICE_FILE, "singles.parquet"])
def test_a_file_that_is_missing_is_named(name: str, files: Files, tmp_path: Path) -> None:
    """A file that is not there is named."""
    rest = {one: content for one, content in files.items() if one != name}
    _refused(rest, tmp_path / "a", f"{name} cannot be used, it is missing")


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"[" * 10**5, bytes(range(256)), b'{"format": "layertracer-run"}'])
def test_what_is_no_header_is_refused(text: bytes, files: Files, tmp_path: Path) -> None:
    """Whatever else stands in `advice.json` is refused with one clear error."""
    _refused({**files, ADVICE_FILE: text}, tmp_path / "a", "advice.json cannot be used")


def test_a_newer_format_is_refused(files: Files, tmp_path: Path) -> None:
    """Advice of a later version is refused with what to do."""
    newer = with_header(files, _set("format_version", 99), name=ADVICE_FILE)
    with pytest.raises(RunFormatError, match=r"has format 99, .* reads formats up to 1. Upgrade LayerTracer"):
        read_advice(write_files(newer, tmp_path / "a"))


def test_fields_of_later_versions_are_left_alone(rich: AdviceRecord, files: Files, tmp_path: Path) -> None:
    """A field that is not known beside the others changes nothing."""
    later = with_header(files, _set("horizon", [1, 2]), name=ADVICE_FILE)
    assert same_advice(read_advice(write_files(later, tmp_path / "a")), rich)


def test_advice_that_contradicts_itself_is_kept_and_said(rich: AdviceRecord, tmp_path: Path) -> None:
    """Finished work is not lost: what could not be read again is saved with a warning that says where it is wrong."""
    placement = dataclasses.replace(rich.placements[2], percentile_interval=Interval(low=-5.0, high=3.0))
    broken = dataclasses.replace(rich, placements={**rich.placements, 2: placement})
    with pytest.warns(UserWarning, match=r"was saved, but advice.json contradicts itself.*percentile_interval goes"):
        folder = save_advice(broken, tmp_path / "a")
    assert (folder / ADVICE_FILE).is_file()


def test_large_advice_is_small(tmp_path: Path) -> None:
    """Advice on 200 layers with 1,000 random placements of three sizes takes less than 4 MB and reads in seconds."""
    record = make_advice(200, (20, 50, 100), n_random=1000, pairs=None)
    folder = save_advice(record, tmp_path / "a")
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4_000_000
    assert same_advice(read_advice(folder), record)


# ---------------------------------------------------------------- the rules themselves


def test_every_number_has_its_limits() -> None:
    """Every number of a record is held to limits, and none are kept of what is no field of one."""
    assert numbers_of(AdviceRecord, TEXTS) == set(LIMITS)
    assert all(_is_field(place) for place in TEXTS)


def _is_field(place: str) -> bool:
    from layertracer import _types, advice

    kind, _, field = place.partition(".")
    return field in hints_of(getattr(advice, kind, None) or getattr(_types, kind))


# ---------------------------------------------------------------- old formats


def test_version_1_loads_for_ever() -> None:
    """Advice of version 1 loads with all its numbers and texts."""
    record = read_advice(STORED / "v1" / "rich")
    assert sorted(record.placements) == [2, 3, 4]
    assert record.placements[2].verdict == "better"
    assert record.substitute.describe() == "a window of 16 tokens and the first 4"
    assert len(record.baselines[3]["random"].placements) == 60
    assert record.gates is not None
    assert record.gates.early_exit.thresholds == (0.5, 0.8, 0.95)
    bare = read_advice(STORED / "v1" / "bare")
    assert bare.singles.layers == (1, 3, 5)
    assert np.isnan(bare.placements[1].kl_nats)
