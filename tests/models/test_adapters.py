"""Adapters (LoRA), merged or not: the same numbers, and folders that hold nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import layertracer as lt
from layertracer.models import fingerprint
from layertracer.models._calling.wrappers import forward_parameters
from layertracer.models._sources import load_parts

from tests.support.checkpoints.tiny import (
    edit_config,
    make_tokenizer,
    randomize,
    save_checkpoint,
    save_in_hub_cache,
    tiny_llama,
)
from tests.support.oracles.layer_caches import plain_state_js
from tests.support.oracles.plain_hooks import plain_js

peft: Any = pytest.importorskip("peft")

# peft asks transformers for a switch by its old name, and the hub for the configuration of a model without one.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Could not find a config file in:UserWarning"),
]

IDS = (1, 9, 4, 17, 12)
SAMPLES = [lt.Sample(prompt_ids=IDS, answer_id=7), lt.Sample(prompt_ids=IDS[::-1], answer_id=3)]
BASE = "somebody/base"
LONG = tuple((*(4, 5, 6, 7, 8, 9, 12, 3) * 6, 3 + row, 9, 4 + row) for row in range(4))
SHARING = [lt.Sample(prompt_ids=ids, answer_id=5) for ids in LONG]


def lora(model: Any, **settings: Any) -> Any:
    """The model with a random adapter on three kinds of maps."""
    config = peft.LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}
        | settings
    )
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    fresh = {name: parameter for name, parameter in adapted.named_parameters() if "lora_" in name}
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in fresh.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return adapted.eval()


def save_adapter(folder: Path, adapted: Any, *, base: str) -> Path:
    """The adapter alone in a folder, made for the model `base`."""
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A model, and an adapter that names it."""
    model = tiny_llama()
    base = save_checkpoint(tmp_path / "base", model)
    return base, save_adapter(tmp_path / "adapter", lora(model), base=str(base))


class TestWrapping:
    """Modules of peft."""

    def test_equals_the_merged_model(self) -> None:
        """A model with an adapter beside its weights gives the numbers of the merged one, within rounding."""
        adapted = lora(tiny_llama())
        beside = lt.wrap_model(adapted, make_tokenizer())
        assert beside.self_check.method == "ladder"
        assert [layer.path for layer in beside.anatomy.layers] == [f"base_model.model.model.layers.{i}" for i in (0, 1)]
        assert {layer.mixer for layer in beside.anatomy.layers} == {"attention"}
        text = [lt.Sample(prompt="hot cold wide ->", answer="narrow")]
        tokens = lt.trace(beside, text)
        trace = lt.trace(beside, SAMPLES)
        merged = lt.wrap_model(adapted.merge_and_unload(), make_tokenizer())
        assert type(merged.module).__name__ == "LlamaForCausalLM"
        np.testing.assert_allclose(trace.js_bits, lt.trace(merged, SAMPLES).js_bits, atol=1e-6)
        np.testing.assert_allclose(trace.target_prob, lt.trace(merged, SAMPLES).target_prob, atol=1e-6)
        np.testing.assert_allclose(tokens.target_prob, lt.trace(merged, text).target_prob, atol=1e-6)

    def test_equals_plain_hooks(self) -> None:
        """A model with an adapter gives the JS of plain hooks on itself, and not that of its base."""
        adapted = lora(tiny_llama())
        mask = lt.Mask(site="block_output", draws=5, seed=2)
        wrapped = lt.wrap_model(adapted)
        trace = lt.trace(wrapped, SAMPLES[:1], perturbation=mask)
        keep = mask.keep_array(n_layers=2, width=16)
        expected = plain_js(adapted, "base_model.model.model.layers", IDS, keep=keep)
        np.testing.assert_allclose(trace.js_bits[0], expected, atol=1e-6)
        base = lt.trace(lt.wrap_model(tiny_llama()), SAMPLES[:1], perturbation=mask)
        assert np.abs(trace.js_bits - base.js_bits).max() > 1e-4
        assert fingerprint(adapted) != fingerprint(tiny_llama())

    def test_an_adapter_that_is_switched_off(self) -> None:
        """Without its adapter, the model is its base again."""
        adapted = lora(tiny_llama())
        with adapted.disable_adapter():
            trace = lt.trace(lt.wrap_model(adapted), SAMPLES)
        np.testing.assert_array_equal(trace.js_bits, lt.trace(lt.wrap_model(tiny_llama()), SAMPLES).js_bits)

    def test_a_classifier_with_an_adapter(self) -> None:
        """An adapter on a classifier is refused as the classifier is."""
        from transformers import LlamaForTokenClassification

        module = randomize(LlamaForTokenClassification(tiny_llama().config), seed=0)
        adapted = peft.get_peft_model(module, peft.LoraConfig(r=2, target_modules=["q_proj"]))
        with pytest.raises(lt.AnatomyError, match=r"does not predict a next token \(it is a LlamaForTokenClass"):
            lt.wrap_model(adapted)


class TestCaches:
    """Adapters that learn no prompt: their models' caches are used as without an adapter."""

    @pytest.mark.parametrize("task_type", ["CAUSAL_LM", None])
    def test_prompts_share_their_prefix(self, task_type: str | None) -> None:
        """What prompts share is read once, and gives what plain hooks on the adapted model give for whole prompts."""
        adapted = lora(tiny_llama(), task_type=task_type)
        model, mask = lt.wrap_model(adapted), lt.Mask(draws=5, seed=2, site="block_output")
        assert lt.plan(model, SHARING, perturbation=mask, share_prefix=True).prefixes
        trace = lt.trace(model, SHARING, perturbation=mask, share_prefix=True)
        keep = mask.keep_array(n_layers=2, width=16)
        for row, ids in enumerate(LONG):
            expected = plain_js(adapted, "base_model.model.model.layers", ids, keep=keep)
            np.testing.assert_allclose(trace.js_bits[row], expected, atol=1e-6)

    def test_the_state_is_there(self) -> None:
        """The layers' memory is masked as in the model with its adapter merged."""
        adapted = lora(tiny_llama())
        mask = lt.Mask(site="state", fraction=1.0, scheme="random", draws=1)
        found = lt.trace(lt.wrap_model(adapted), SHARING[:1], perturbation=mask).js_bits[0, 0]
        merged = adapted.merge_and_unload()
        for layer, bits in enumerate(found):
            expected = plain_state_js(
                merged, LONG[0], lambda _, *shape: np.ones(shape, bool), layer=layer, mixer="attention"
            )
            assert bits == pytest.approx(expected, abs=1e-6)

    def test_learnt_prompts_are_no_such_adapter(self) -> None:
        """An adapter that puts learnt tokens in front takes no cache of its model: its own forward is asked."""
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        adapted = peft.get_peft_model(tiny_llama(), config)
        assert "use_cache" in forward_parameters(lora(tiny_llama()))
        assert "use_cache" not in forward_parameters(adapted)


class TestFolders:
    """Folders and repositories that hold an adapter alone."""

    def test_is_put_on_its_model(self, folders: tuple[Path, Path]) -> None:
        """An adapter's folder gives its model with the adapter on it, under the adapter's name, with a tokenizer."""
        _, adapter = folders
        model = lt.load_model(adapter, device="cpu")
        assert (model.name, model.self_check.method) == ("adapter", "ladder")
        assert model.tokenizer("hot cold").input_ids == make_tokenizer()("hot cold").input_ids
        own = lt.trace(lt.wrap_model(lora(tiny_llama())), SAMPLES)
        np.testing.assert_allclose(lt.trace(model, SAMPLES).js_bits, own.js_bits, atol=1e-7)
        assert not any(parameter.requires_grad for parameter in model.module.parameters())

    def test_names_its_model_from_where_it_lies(self, tmp_path: Path) -> None:
        """A model named by a relative path is looked for beside the adapter."""
        model = tiny_llama()
        adapter = save_adapter(tmp_path / "adapter", lora(model), base="parent")
        save_checkpoint(adapter / "parent", model)
        assert load_parts(adapter, device="cpu").name == "adapter"

    def test_from_the_hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """An adapter on the hub is put on the model that it names there, at the revision that it names."""
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        model = tiny_llama()
        save_in_hub_cache(tmp_path, BASE, model, commit="b" * 40, ref="v2")
        repository = tmp_path / "models--somebody--adapter"
        snapshot = repository / "snapshots" / ("a" * 40)
        save_adapter(snapshot, lora(model, revision="v2"), base=BASE)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("a" * 40)
        parts = load_parts("somebody/adapter", device="cpu")
        assert (parts.name, parts.revision, parts.source) == ("somebody/adapter", "a" * 40, "hub")
        with torch.no_grad():
            expected = lora(model)(input_ids=torch.tensor([IDS])).logits
            torch.testing.assert_close(parts.module(input_ids=torch.tensor([IDS])).logits, expected)

    def test_in_bfloat16(self, folders: tuple[Path, Path]) -> None:
        """An adapter on a model in another type passes the self-check of that type."""
        model = lt.load_model(folders[1], device="cpu", dtype="bfloat16")
        assert (model.dtype, model.self_check.method) == (torch.bfloat16, "ladder")


class TestRefusals:
    """Adapters that would give a wrong number, run code, or cannot be read."""

    def edit(self, folder: Path, **changes: object) -> None:
        """Change an adapter's configuration."""
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def test_lacks_weights(self, folders: tuple[Path, Path]) -> None:
        """Weights that the adapter lacks are an error with their names, not random numbers."""
        self.edit(folders[1], target_modules=["q_proj", "v_proj", "down_proj", "up_proj"])
        with pytest.raises(lt.ModelLoadError, match=r"lacks weights .*up_proj"):
            load_parts(folders[1], device="cpu")

    def test_holds_more_weights_than_it_uses(self, folders: tuple[Path, Path]) -> None:
        """Weights for maps that the configuration does not adapt are a note of the run."""
        assert load_parts(folders[1], device="cpu").notes == ()
        self.edit(folders[1], target_modules=["q_proj", "v_proj"])
        (note,) = lt.load_model(folders[1], device="cpu").self_check.notes
        assert "holds 4 weight(s)" in note
        assert "down_proj.lora_A.weight" in note

    def test_keeps_what_its_model_said(self, folders: tuple[Path, Path]) -> None:
        """What the run says of the model beneath stands beside what it says of the adapter."""
        edit_config(folders[0], num_hidden_layers=1)
        (cut, left) = load_parts(folders[1], device="cpu").notes
        assert "the weights go up to layer 1" in cut
        assert "layers.1.mlp.down_proj.lora_A.weight" in left

    def test_without_weights(self, folders: tuple[Path, Path]) -> None:
        """A configuration on its own is no adapter."""
        (folders[1] / "adapter_model.safetensors").unlink()
        with pytest.raises(lt.ModelLoadError, match=r"no weights: expected adapter_model\.safetensors"):
            load_parts(folders[1], device="cpu")

    def test_pickled(self, folders: tuple[Path, Path]) -> None:
        """Pickled weights are refused, and read where allow_pickle=True says so."""
        from safetensors.torch import load_file

        weights = folders[1] / "adapter_model.safetensors"
        torch.save(load_file(weights), folders[1] / "adapter_model.bin")
        weights.unlink()
        with pytest.raises(lt.ModelLoadError, match=r"pickled weights only.*allow_pickle=True"):
            load_parts(folders[1], device="cpu")
        assert load_parts(folders[1], device="cpu", allow_pickle=True).name == "adapter"

    def test_beside_a_whole_model(self, folders: tuple[Path, Path]) -> None:
        """A folder that holds a model and an adapter is refused: merged or not, it does not say."""
        save_checkpoint(folders[1], tiny_llama())
        with pytest.raises(lt.ModelLoadError, match="both a whole model and an adapter"):
            load_parts(folders[1], device="cpu")

    def test_of_another_task(self, folders: tuple[Path, Path]) -> None:
        """An adapter that makes a classifier is refused."""
        self.edit(folders[1], task_type="SEQ_CLS")
        with pytest.raises(lt.ModelLoadError, match="'SEQ_CLS', which does not predict a next token"):
            load_parts(folders[1], device="cpu")

    @pytest.mark.parametrize("base", [None, ""])
    def test_of_no_model(self, folders: tuple[Path, Path], base: str | None) -> None:
        """An adapter that does not say which model it belongs to is refused."""
        self.edit(folders[1], base_model_name_or_path=base)
        with pytest.raises(lt.ModelLoadError, match="does not say which model it belongs to"):
            load_parts(folders[1], device="cpu")

    def test_of_an_unknown_model(self, folders: tuple[Path, Path]) -> None:
        """An adapter whose model is not there says so by the model's name."""
        self.edit(folders[1], base_model_name_or_path="./gone")
        with pytest.raises(lt.UnknownNameError, match="gone"):
            load_parts(folders[1], device="cpu")

    def test_of_an_adapter(self, folders: tuple[Path, Path]) -> None:
        """An adapter on an adapter, itself among them, is refused."""
        self.edit(folders[1], base_model_name_or_path=str(folders[1]))
        with pytest.raises(lt.ModelLoadError, match="which is an adapter itself"):
            load_parts(folders[1], device="cpu")

    @pytest.mark.parametrize("content", ["{", "[]", "{}"])
    def test_broken_configuration(self, folders: tuple[Path, Path], content: str) -> None:
        """A configuration that is none is an error with its path."""
        (folders[1] / "adapter_config.json").write_text(content)
        with pytest.raises(lt.ModelLoadError, match=r"adapter_config\.json"):
            load_parts(folders[1], device="cpu")

    def test_without_the_package(self, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        """Where peft is not installed, the error says how to get it and what does without."""
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
        with pytest.raises(lt.ModelLoadError, match=r"pip install peft.*merge_and_unload"):
            load_parts(folders[1], device="cpu")
