"""`run.json` as somebody else may have made it, its checksum right: read as what it says, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from layertracer import DamagedRunError, RunFormatError
from layertracer.runs import HEADER_FILE, read_run, save_run

from tests.runs.alterations import Files, contents, seal_text, with_altered_header, with_header, write_files
from tests.support.records.sample_records import make_record


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a small run."""
    record = make_record(n_prompts=2, n_layers=3, n_draws=2, top_k=2)
    return contents(save_run(record, tmp_path_factory.mktemp("runs") / "run"))


# ---------------------------------------------------------------- a run.json that is no such thing


def _json(run: Files) -> str:
    """The text of `run.json`, its checksum as zeros."""
    header = json.loads(run[HEADER_FILE]) | {"sha256": "0" * 64}
    return json.dumps(header, indent=2)


def _in_place_of_elapsed(text: str) -> Callable[[Files], bytes]:
    return lambda run: seal_text(_json(run).replace('"elapsed_s": 41.5', f'"elapsed_s": {text}'))


NO_HEADERS: dict[str, tuple[Callable[[Files], bytes], str]] = {
    "empty": (lambda _: b"", "Expecting value"),
    "binary": (lambda _: bytes(range(256)), "decode byte 0x80"),
    "a list": (lambda _: b"[1, 2]", "does not say"),
    "a text": (lambda _: b'"layertracer-run"', "does not say"),
    "deep lists": (lambda _: b"[" * 10**5, "nested too deeply"),
    "deep objects": (_in_place_of_elapsed('{"x":' * 10**5 + "1" + "}" * 10**5), "nested too deeply"),
    "deep lists, closed": (_in_place_of_elapsed("[" * 10**5 + "]" * 10**5), "nested too deeply"),
    "lists that can be read": (_in_place_of_elapsed("[" * 50 + "]" * 50), "elapsed_s is a list of 1, and must be a"),
    "a number of 5,000 digits": (_in_place_of_elapsed("9" * 5000), "Exceeds the limit"),
    "a number of 4,000 digits": (
        _in_place_of_elapsed("9" * 4000),
        "elapsed_s is a whole number of more than 60 digits",
    ),
    "a number beyond floats": (_in_place_of_elapsed("1e999"), "elapsed_s is inf"),
    "NaN": (_in_place_of_elapsed("NaN"), "it has NaN, which is no JSON"),
    "Infinity": (_in_place_of_elapsed("-Infinity"), "it has -Infinity, which is no JSON"),
    "another float": (_in_place_of_elapsed('{"$float": "1e5"}'), r'it has a "\$float" that is not'),
    "a float of a list": (_in_place_of_elapsed('{"$float": []}'), r'it has a "\$float" that is not'),
    "a name twice": (_in_place_of_elapsed('1, "elapsed_s": 2'), "it has a name twice"),
    "a name twice, deep": (_in_place_of_elapsed('{"a": {"b": 1, "b": 2}}'), "it has a name twice"),
    "another encoding": (lambda run: _json(run).encode("utf-16"), "decode byte"),
    "surrogates as bytes": (_in_place_of_elapsed('"\ud800"'), "decode byte"),
    "a mark at its beginning": (lambda run: b"\xef\xbb\xbf" + run[HEADER_FILE], "BOM"),
    "cut": (lambda run: run[HEADER_FILE][:-200], "Unterminated string|Expecting"),
    "more behind it": (lambda run: run[HEADER_FILE] + b"{}", "Extra data"),
}


@pytest.mark.parametrize(("make", "words"), NO_HEADERS.values(), ids=NO_HEADERS.keys())
def test_what_is_no_header_is_refused(make: Callable[[Files], bytes], words: str, run: Files, tmp_path: Path) -> None:
    """Bytes that are no JSON object of the format are one error that names `run.json` and says why."""
    folder = write_files({**run, HEADER_FILE: make(run)}, tmp_path / "run")
    with pytest.raises(DamagedRunError, match=rf"run\.json cannot be used, .*({words})"):
        read_run(folder)


def test_lone_surrogates_are_replaced(run: Files, tmp_path: Path) -> None:
    """Half a character, which no terminal and no page can show, is read as the replacement character."""
    files = with_header(run, lambda header: header["model"].update(name="a\ud800b"))
    assert read_run(write_files(files, tmp_path / "run")).model.name == "a\ufffdb"


# ---------------------------------------------------------------- alterations of run.json, checksums made anew


def test_any_alteration_of_the_header_is_read_or_refused(run: Files, tmp_path: Path) -> None:
    """A header with any value replaced, left out or added is read whole, as what it says, or refused as damaged."""
    n_scored = 0
    for seed in range(300):
        folder = write_files(with_altered_header(run, seed), tmp_path / str(seed))
        try:
            record = read_run(folder)
        except (DamagedRunError, RunFormatError):
            continue
        n_scored += 1
        if n_scored % 10 == 0:
            assert read_run(save_run(record, tmp_path / f"{seed}-again")) == record
    assert 20 < n_scored < 150  # both happen: what is free text may be any, what has a meaning may not
