"""Safetensors files of users that are cut off or damaged: what is said of them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from layertracer import ModelLoadError
from layertracer.models._plausibility.safetensors_header import check_whole, read_header
from layertracer.models._sources import load_parts

from tests.support.checkpoints.tiny import save_checkpoint, tiny_llama


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole file."""
    save_file({"a": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def with_header(content: object) -> bytes:
    """A file that begins with what claims to be a header."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


def test_whole_file(path: Path) -> None:
    """A whole file is accepted, and its header lists its tensors."""
    check_whole(path, "m")
    assert {name: entry["shape"] for name, entry in read_header(path).items()} == {"a": [2, 3], "b": [4]}


@pytest.mark.parametrize("change", [-1, -20, 3])
def test_another_size(path: Path, change: int) -> None:
    """A file that is shorter or longer than its header says is an error with both sizes and what to do."""
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + b"x" * change)
    n, expected = f"{len(content) + change:,}", f"{len(content):,}"
    what = "is cut off" if change < 0 else "holds more than its weights"
    with pytest.raises(ModelLoadError, match=rf"m: model.safetensors {what}: it has {n} bytes, expected {expected} "):
        check_whole(path, "m")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes, and the file has 0"),
        (b"abc", "and the file has 3"),
        (b"\xff" * 40, "18,446,744,073,709,551,615 bytes, and the file has 40"),
        (with_header(b"{"), "no JSON"),
        (with_header(b"[" * 100_000), "no JSON"),
        (with_header([]), "a JSON list"),
        (with_header({"a": {"dtype": "F32"}}), "no place"),
        (with_header({"a": {"data_offsets": [0, "x"]}}), "no place"),
        (with_header({"a": 7}), "no place"),
    ],
    ids=["empty", "three bytes", "huge header", "no json", "nested", "list", "no offsets", "no number", "no entry"],
)
def test_no_header(path: Path, content: bytes, reason: str) -> None:
    """A file that does not begin with a header is an error with the reason and what to do."""
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=rf"cut off or damaged: .*{reason}.*Download or copy it again"):
        check_whole(path, "m")


def test_checkpoint_of_a_user(tmp_path: Path) -> None:
    """A checkpoint whose weight file is cut off says so before anything is loaded."""
    folder = save_checkpoint(tmp_path / "m", tiny_llama())
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelLoadError, match=r"model\.safetensors is cut off: it has [\d,]+ bytes, expected [\d,]+"):
        load_parts(folder, device="cpu")
