"""Placements as files: what is written is read back, and what is no placement is refused with the reason."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import layertracer as lt
from layertracer._types import Interval
from layertracer.advice import Accuracy, Judgement

PLACEMENT = lt.Placement(
    layers=(1, 4),
    substitute=lt.Window(64, sinks=4),
    n_layers=6,
    placeable=(0, 1, 3, 4),
    model="smollm2",
    chosen_by="greedy",
    notes=("a note",),
    config={"layer_types": ["sliding_attention"] * 6, "sliding_window": 64},
    linear_config={"attn": {"layers": [1, 4], "num_heads": 9}},
)
GOOD: dict[str, Any] = {
    "format": "layertracer-placement",
    "format_version": 1,
    "model": {"name": "smollm2", "n_layers": 6},
    "substitute": {"kind": "window", "size": 64, "sinks": 4},
    "kept": [1, 4],
    "placeable": [0, 1, 3, 4],
}


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    """Anybody's script finds model, substitute, layers and configuration by their names."""
    tree = json.loads(PLACEMENT.save(tmp_path / "p.json").read_text("utf-8"))
    assert {name: tree[name] for name in GOOD} == GOOD
    assert tree["config"] == PLACEMENT.config
    assert tree["linear_config"] == PLACEMENT.linear_config
    assert "cost" not in tree


def test_what_it_costs_is_written_for_people(tmp_path: Path) -> None:
    """A judged placement has its cost in the file; it is not read back."""
    interval = Interval(low=0.1, high=0.2)
    own = Accuracy(share=0.5, interval=interval, full_share=1.0, n_prompts=8, kl_nats=0.3, kl_interval=None)
    judgement = Judgement(
        kept=(1, 4), kl_nats=0.15, kl_interval=interval, nll_change=0.1, nll_interval=interval,
        accuracy={"recall": own}, n_rows=2, n_positions=20,
    )  # fmt: skip
    judged = lt.Placement(
        layers=(1, 4),
        substitute=lt.NoMixer(),
        n_layers=6,
        placeable=(1, 4),
        model="m",
        chosen_by="",
        judgement=judgement,
    )
    path = judged.save(tmp_path / "p.json")
    tree = json.loads(path.read_text("utf-8"))
    assert tree["cost"] == {"kl_nats": 0.15, "nll_change": 0.1, "accuracy": {"recall": 0.5}}
    assert lt.load_placement(path).judgement is None


@given(data=st.data(), n_layers=st.integers(1, 40), name=st.text(max_size=20))
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, data: Any, n_layers: int, name: str) -> None:
    """Layers, substitute, model and configuration come back, whatever they are."""
    layers = st.integers(0, n_layers - 1)
    placeable = tuple(sorted(data.draw(st.sets(layers, min_size=1))))
    kept = tuple(sorted(data.draw(st.sets(st.sampled_from(placeable)))))
    window = st.builds(lt.Window, st.integers(1, 999), sinks=st.integers(0, 9))
    placement = lt.Placement(
        layers=kept,
        substitute=data.draw(st.one_of(window, st.just(lt.NoMixer()), st.just(lt.MeanMixer()))),
        n_layers=n_layers,
        placeable=placeable,
        model=name.encode("utf-8", "replace").decode(),
        chosen_by="greedy",
    )
    path = tmp_path_factory.mktemp("placements") / "p.json"
    assert lt.load_placement(placement.save(path)) == placement


def test_a_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    """What lies there stays unless overwrite=True; folders are refused; nothing is left behind."""
    path = tmp_path / "p.json"
    path.write_text("mine", "utf-8")
    with pytest.raises(lt.RunError, match=r"p\.json exists\. Give another name, or overwrite=True"):
        PLACEMENT.save(path)
    assert path.read_text("utf-8") == "mine"
    with pytest.raises(lt.RunError, match="is a folder, and a placement is one file"):
        PLACEMENT.save(tmp_path, overwrite=True)
    PLACEMENT.save(path, overwrite=True)
    assert lt.load_placement(path) == PLACEMENT
    assert os.listdir(tmp_path) == ["p.json"]


def test_fields_of_later_versions_are_left_alone(tmp_path: Path) -> None:
    """A file with more in it, of the same version, is read."""
    path = tmp_path / "p.json"
    path.write_text(json.dumps(GOOD | {"colour": "green"}), "utf-8")
    assert lt.load_placement(path).layers == (1, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, r"format is 'other'"),
        ({"format_version": 0}, r"format_version is 0"),
        ({"format_version": True}, r"format_version is true"),
        ({"model": {"name": "m"}}, r"n_layers"),
        ({"model": {"name": "m", "n_layers": 1e3}}, r"n_layers is 1000\.0"),
        ({"kept": None}, r"kept is null"),
        ({"kept": [1, "4"]}, r"kept\W*1\W* is '4'"),
        ({"kept": [4, 1]}, r"kept must be ascending, each layer once"),
        ({"kept": [1, 1]}, r"kept must be ascending, each layer once"),
        ({"kept": [-1]}, r"is -1"),
        ({"kept": [2]}, r"kept names layer 2, which is not placeable"),
        ({"placeable": [1, 4, 6]}, r"placeable names layer 6 of a model of 6 layers"),
        ({"substitute": {}}, r"A substitute must be a dictionary with its kind"),
        ({"substitute": {"kind": "window", "size": 0, "sinks": 0}}, r"size must be at least 1"),
        ({"substitute": {"kind": "window", "size": 4}}, r"is stored with 'size'"),
        ({"substitute": {"kind": "windw"}}, r"Did you mean 'window'"),
        ({"config": [1]}, r"config is a list of 1"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """A value that no placement has is refused, with its place."""
    path = tmp_path / "p.json"
    path.write_text(json.dumps(GOOD | change), "utf-8")
    with pytest.raises(lt.DamagedRunError, match=message):
        lt.load_placement(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is no JSON of ours"),
        (b'{"format": "layertracer-placement"', "it is no JSON of ours"),
        (b"\xff\xfe", "it is no JSON of ours"),
        (b"[]", "it is no object"),
        (b"[" * 100_000, "it is no JSON of ours"),
        (b'{"config": ' + b'{"a": ' * 60 + b"1" + b"}" * 61, "nested more than 16 deep"),
        (b'{"kept": NaN}', "NaN is no number"),
        (b'{"kept": [1], "kept": [2]}', "a name stands twice"),
        (b'{"format": "\x1b[31m\\u001b[2J"}', "it is no JSON of ours"),
        (json.dumps(GOOD | {"format": "\x1b[2J"}).encode(), r"\\x1b\[2J"),
    ],
)
def test_what_is_no_placement_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """Damaged and hostile files are refused, and nothing of them acts on a terminal."""
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(lt.DamagedRunError, match=message) as caught:
        lt.load_placement(path)
    assert "\x1b" not in str(caught.value)


def test_a_newer_format_is_refused_as_such(tmp_path: Path) -> None:
    """A file of a later format says that LayerTracer is to be updated."""
    path = tmp_path / "p.json"
    path.write_text(json.dumps(GOOD | {"format_version": 2}), "utf-8")
    with pytest.raises(lt.RunFormatError, match=r"format version 2; this version of LayerTracer reads up to 1"):
        lt.load_placement(path)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Nothing there, a folder, a pipe and a file that is too large are refused; a pipe is not waited for."""
    pipe, large = tmp_path / "pipe", tmp_path / "large.json"
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(2**21)
    for path, message in (
        (tmp_path / "none.json", "There is no placement at"),
        (tmp_path, "cannot be read"),
        (pipe, "not a regular file"),
        (large, "may have 1048576"),
    ):
        with pytest.raises(lt.RunError, match=message):
            lt.load_placement(path)
