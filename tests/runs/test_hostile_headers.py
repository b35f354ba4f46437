"""`run.json` as somebody else may have made it, its checksum right: read as what it says, or refused."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from layertracer import DamagedRunError, RunFormatError
from layertracer.runs import HEADER_FILE, read_run, save_run

from tests.runs.alterations import Files, contents, seal_text, with_header, write_files
from tests.sample_records import make_record


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

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, 10**40, -1e308, 0.5, "", "x", "\x1b[31m", "<script>", "a" * 5000, "\ud800",
    [], {}, [1], ["x"], {"x": 1}, {"$float": "nan"}, {"$float": "-inf"}, [[[]]], {"kind": "rise"}, {"\0": None},
)  # fmt: skip


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from _places(item, (*place, key))


def _alter(header: dict[str, Any], choose: random.Random) -> None:
    """Change one value to one of another type, leave it out, repeat it, or put something beside it."""
    places = [place for place in _places(header) if place != ("sha256",)]
    first = choose.choice(sorted({place[0] for place in places}))
    *way, last = choose.choice([place for place in places if place[0] == first])
    parent: Any = header
    for step in way:
        parent = parent[step]
    how = choose.choice(("replace", "replace", "replace", "leave out", "add"))
    if how == "leave out":
        del parent[last]
    elif how == "add" and isinstance(parent, dict):
        parent[choose.choice(("x", "\x1b", "kind"))] = copy.deepcopy(choose.choice(VALUES))
    else:
        parent[last] = copy.deepcopy(choose.choice(VALUES))


def _altered(files: Files, seed: int, folder: Path) -> Path:
    return write_files(with_header(files, lambda header: _alter(header, random.Random(seed))), folder)


@pytest.mark.parametrize("seed", range(300))
def test_any_alteration_of_the_header_is_read_or_refused(seed: int, run: Files, tmp_path: Path) -> None:
    """A header with any value replaced, left out or added is read whole, as what it says, or refused as damaged."""
    folder = _altered(run, seed, tmp_path / "run")
    try:
        record = read_run(folder)
    except (DamagedRunError, RunFormatError):
        return
    assert read_run(save_run(record, tmp_path / "again")) == record
