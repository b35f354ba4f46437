"""Models by their names: the hub's local cache, and names that are not known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch

from layertracer import ModelLoadError, UnknownNameError, UsageError
from layertracer.models._sources import load_parts

from tests.support.checkpoints.tiny import WORDS, save_checkpoint, save_in_hub_cache, tiny_gpt2, tiny_llama

IDS = torch.tensor([[1, 3, 4, 5]])
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "fedcba9876543210fedcba9876543210fedcba98"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache that is used during this test instead of the user's."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


class TestHub:
    """The hub's local cache, without a network: tests have none."""

    def test_loads_from_the_cache(self, hub_cache: Path) -> None:
        """A model in the hub's cache loads without a network, with its id as name and its commit as revision."""
        model = tiny_llama()
        save_in_hub_cache(hub_cache, "org/tiny", model, commit=COMMIT)
        parts = load_parts("org/tiny", device="cpu")
        assert torch.equal(parts.module(IDS).logits, model(IDS).logits)
        assert (parts.name, parts.revision, parts.source) == ("org/tiny", COMMIT, "hub")
        assert parts.tokenizer("wide").input_ids == [WORDS.index("wide")]

    def test_loads_a_bare_name(self, hub_cache: Path) -> None:
        """An early model of the hub has no owner in its id."""
        save_in_hub_cache(hub_cache, "tinygpt", tiny_gpt2(), commit=COMMIT)
        assert load_parts("tinygpt", device="cpu").name == "tinygpt"

    @pytest.mark.parametrize("revision", ["v2", OTHER_COMMIT], ids=["tag", "commit"])
    def test_loads_a_revision(self, hub_cache: Path, revision: str) -> None:
        """A tag or a commit chooses among the snapshots of the cache."""
        save_in_hub_cache(hub_cache, "org/tiny", tiny_llama(seed=1), commit=COMMIT)
        model = tiny_llama(seed=2)
        save_in_hub_cache(hub_cache, "org/tiny", model, commit=OTHER_COMMIT, ref="v2")
        parts = load_parts("org/tiny", device="cpu", revision=revision)
        assert torch.equal(parts.module(IDS).logits, model(IDS).logits)
        assert parts.revision == OTHER_COMMIT

    def test_half_a_download(self, hub_cache: Path) -> None:
        """A snapshot of which the weights are missing is refused, not loaded at random."""
        snapshot = save_in_hub_cache(hub_cache, "org/tiny", tiny_llama(), commit=COMMIT)
        (snapshot / "model.safetensors").unlink()
        with pytest.raises(ModelLoadError, match=r"org/tiny .*(no weights|not completely)"):
            load_parts("org/tiny", device="cpu")

    def test_not_cached_and_offline(self, hub_cache: Path) -> None:
        """Without a network and a copy, the error says that both are missing."""
        with pytest.raises(ModelLoadError, match=r"org/absent .*local hub cache.*HF_HUB_OFFLINE=1 forbids"):
            load_parts("org/absent")
        assert not hub_cache.exists()

    def test_unknown_revision(self, hub_cache: Path) -> None:
        """A revision that the cache lacks is named in the error."""
        save_in_hub_cache(hub_cache, "org/tiny", tiny_llama(), commit=COMMIT)
        with pytest.raises(ModelLoadError, match="org/tiny at revision 'v3' is no local"):
            load_parts("org/tiny", revision="v3")

    def test_no_network_at_all(self, tmp_path: Path) -> None:
        """Where nothing answers and nobody said so before, a cached model loads and another one is an error."""
        save_in_hub_cache(tmp_path, "org/tiny", tiny_llama(), commit=COMMIT)
        program = (
            "from layertracer.models._sources import load_parts\n"
            "from layertracer import ModelLoadError\n"
            "print(load_parts('org/tiny', device='cpu').revision)\n"
            "try:\n    load_parts('org/absent', device='cpu')\n"
            "except ModelLoadError as error:\n    print(error)\n"
        )
        # Port 9 of this machine: refused at once.
        environment = os.environ | {
            "HF_HUB_OFFLINE": "0",
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "HF_HUB_CACHE": str(tmp_path),
        }
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert COMMIT in done.stdout
        assert "there is no network to the hub" in done.stdout


class TestNames:
    """Names that are not known."""

    @pytest.mark.usefixtures("hub_cache")
    def test_mistyped_embedded_name(self) -> None:
        """A mistyped name of the embedded model leads to it."""
        with pytest.raises(UnknownNameError, match=r"Unknown model 'smolm2'\. Did you mean 'smollm2'"):
            load_parts("smolm2")

    def test_mistyped_hub_id(self, hub_cache: Path) -> None:
        """A mistyped id leads to the one in the cache."""
        save_in_hub_cache(hub_cache, "org/tiny-llama", tiny_llama(), commit=COMMIT)
        with pytest.raises(ModelLoadError, match="Did you mean 'org/tiny-llama'"):
            load_parts("org/tiny-lama")

    @pytest.mark.usefixtures("hub_cache")
    def test_mistyped_path(self, tmp_path: Path) -> None:
        """A path to nothing leads to the model beside it that is called nearly so."""
        save_checkpoint(tmp_path / "tiny-llama", tiny_llama())
        with pytest.raises(UnknownNameError, match=r"tiny-lama'\. Did you mean '.*tiny-llama'"):
            load_parts(str(tmp_path / "tiny-lama"))

    @pytest.mark.usefixtures("hub_cache")
    @pytest.mark.parametrize("typed", ["tiny-lama/", "./tiny-lama", "../{}/tiny-lama/", "tiny-lama", "~/tiny-lama"])
    def test_mistyped_path_in_any_form(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
        """A path is recognised and seen from where the user stands, with a slash at its end, dots or a tilde."""
        save_checkpoint(tmp_path / "tiny-llama", tiny_llama())
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        with pytest.raises(UnknownNameError, match=r"tiny-lama'\. Did you mean '.*tiny-llama'"):
            load_parts(typed.format(tmp_path.name))
        assert load_parts(typed.format(tmp_path.name).replace("lama", "llama"), device="cpu").name == "tiny-llama"

    def test_says_where_it_looked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A path to nothing says the whole path, and which folder is not there."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(
            UnknownNameError, match=rf"no file or folder {tmp_path}/a/b/c/d, and no folder {tmp_path}/a/b/c"
        ):
            load_parts("a/b/c/d")
        with pytest.raises(UnknownNameError, match=rf"no file or folder {tmp_path}/nope\.safetensors\."):
            load_parts("nope.safetensors")

    @pytest.mark.parametrize(
        "page", ["https://huggingface.co/org/tiny/tree/main", "huggingface.co/org/tiny", "hf://org/tiny", "org/tiny/"]
    )
    def test_pages_of_the_hub(self, page: str) -> None:
        """The address of a page leads to the id that is meant."""
        with pytest.raises(UnknownNameError, match=r"model of the hub .*'org/tiny'"):
            load_parts(page)

    def test_before_the_hub_was_asked(self, tmp_path: Path) -> None:
        """A mistyped path is one clear error in a fresh process, in which nothing has used the hub's library yet."""
        program = (
            "from layertracer.models._sources import load_parts\n"
            "from layertracer import UnknownNameError\n"
            "for name in ('my-model/', './nope', '../x/y', '~/x/y', 'a/b/c/d', 'C:\\\\x', '/no/where/'):\n"
            "    try:\n        load_parts(name)\n"
            "    except UnknownNameError as error:\n        print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("There is no file or folder") == 7

    @pytest.mark.usefixtures("hub_cache")
    @pytest.mark.parametrize("name", ["", "a/b/c", "no such name", "x" * 300, "../absent", "absent.gguf", "~nobody/x"])
    def test_nonsense(self, name: str) -> None:
        """What cannot be a model's name is an unknown model, whatever characters it has."""
        with pytest.raises((UnknownNameError, ModelLoadError), match=r"is no local|Unknown model"):
            load_parts(name)

    def test_revision_of_something_local(self, tmp_path: Path) -> None:
        """A revision of what is not on the hub is a misunderstanding."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama())
        with pytest.raises(UsageError, match="not on the hub"):
            load_parts(folder, revision="main")
