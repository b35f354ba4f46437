"""Checkpoints in several files, with tied and untied heads: the same model as from one file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import layertracer as lt
from layertracer.models import fingerprint
from layertracer.models._sources import load_parts

from tests.support.checkpoints.tiny import randomize, save_in_hub_cache, tiny_gpt2, tiny_llama

IDS = torch.tensor([[1, 3, 4, 5]])
SAMPLES = [lt.Sample(prompt_ids=(1, 3, 4, 5), answer_id=7)]


def save_sharded(folder: Path, model: torch.nn.Module) -> Path:
    """The model in many small files and an index."""
    model.save_pretrained(folder, max_shard_size="2KB")
    files = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(files) > 2
    assert not (folder / "model.safetensors").exists()
    return folder


@pytest.mark.parametrize("tied", [False, True], ids=["own head", "tied head"])
def test_gives_the_model_of_one_file(tmp_path: Path, tied: bool) -> None:
    """Shards give the same logits, fingerprint and trace as one file, and the self-check by the ladder."""
    model = tiny_llama(tied=tied)
    model.save_pretrained(tmp_path / "whole")
    whole = lt.load_model(tmp_path / "whole", device="cpu")
    sharded = lt.load_model(save_sharded(tmp_path / "sharded", model), device="cpu")
    assert torch.equal(sharded.module(IDS).logits, model(IDS).logits)
    assert fingerprint(sharded.module) == fingerprint(whole.module)
    assert sharded.self_check.method == "ladder"
    np.testing.assert_array_equal(lt.trace(sharded, SAMPLES).js_bits, lt.trace(whole, SAMPLES).js_bits)


def test_tied_and_untied_heads_differ(tmp_path: Path) -> None:
    """A tied head stays the input embedding; an untied one keeps values of its own."""
    for tied in (True, False):
        folder = save_sharded(tmp_path / str(tied), tiny_llama(tied=tied))
        module = load_parts(folder, device="cpu").module
        head, table = module.get_output_embeddings().weight, module.get_input_embeddings().weight
        assert (head is table) == tied
        stored = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
        assert ("lm_head.weight" in stored) != tied


def test_embeddings_that_are_tied_in_the_model_only(tmp_path: Path) -> None:
    """A GPT-2, whose files never hold its head, is loaded from shards."""
    model = tiny_gpt2()
    module = load_parts(save_sharded(tmp_path / "m", model), device="cpu").module
    assert torch.equal(module(IDS).logits, model(IDS).logits)


def test_a_missing_shard(tmp_path: Path) -> None:
    """A shard that is not there is an error with its name."""
    folder = save_sharded(tmp_path / "m", tiny_llama())
    victim = sorted(folder.glob("model-*.safetensors"))[1]
    victim.unlink()
    with pytest.raises(lt.ModelLoadError, match=rf"incomplete: {victim.name} is missing"):
        load_parts(folder, device="cpu")


def test_a_shard_of_another_model(tmp_path: Path) -> None:
    """A shard that lacks what the index promises is an error with the weights' names."""
    folder = save_sharded(tmp_path / "m", tiny_llama())
    shards = sorted(folder.glob("model-*.safetensors"))
    shards[1].write_bytes(shards[0].read_bytes())
    with pytest.raises(lt.ModelLoadError, match=r"lacks \d+ of the weights"):
        load_parts(folder, device="cpu")


def test_shards_in_the_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a repository in the hub's cache are found through their index."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = randomize(tiny_llama(), seed=4)
    snapshot = save_in_hub_cache(tmp_path, "somebody/large", model, commit="c" * 40)
    (snapshot / "model.safetensors").unlink()
    save_sharded(snapshot, model)
    module = load_parts("somebody/large", device="cpu").module
    assert torch.equal(module(IDS).logits, model(IDS).logits)
