"""Checkpoints whose weights and configuration do not belong together: what the run says of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import layertracer as lt
from layertracer import ModelLoadError
from layertracer.models._loading.checkpoint import Checkpoint, load_checkpoint
from layertracer.models._loading.placement import Placement
from layertracer.models._plausibility.contradictions import describe_contradictions
from layertracer.models._sources import load_parts

from tests.support.checkpoints.tiny import edit_config, save_checkpoint, tiny_gpt2, tiny_llama

IDS = torch.tensor([[1, 3, 4, 5]])


def save_altered(
    folder: Path,
    model: Any,
    *,
    extra: Mapping[str, torch.Tensor] | None = None,
    without: str | None = None,
    **config: object,
) -> Path:
    """A checkpoint with further weights, without one, or with another configuration."""
    save_checkpoint(folder, model)
    path = folder / "model.safetensors"
    weights = {name: value for name, value in load_file(path).items() if name != without} | dict(extra or {})
    save_file(weights, path, metadata={"format": "pt"})
    edit_config(folder, **config)
    return folder


class TestUnusedWeights:
    """Weights of a checkpoint that the model has no place for."""

    @pytest.mark.parametrize(
        "name",
        [
            "model.layers.0.self_attn.q_norm.weight",
            "model.layers.1.self_attn.o_proj.bias",
            "model.norm.bias",
            "model.embed_norm.weight",
            "lm_head.bias",
        ],
    )
    def test_are_a_note_of_the_run(self, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
        """Weights that the next token would depend on in another model are named in the run and in the log."""
        folder = save_altered(tmp_path / "m", tiny_llama(), extra={name: torch.ones(16)})
        (note,) = lt.load_model(folder, device="cpu").self_check.notes
        assert f"holds 1 weight(s) that LlamaForCausalLM does not use: {name}." in note
        assert note in caplog.text

    @pytest.mark.parametrize(("build", "count"), [(tiny_llama, "num_hidden_layers"), (tiny_gpt2, "n_layer")])
    def test_more_layers_than_the_configuration(self, tmp_path: Path, build: Any, count: str) -> None:
        """A configuration with fewer layers than the weights cuts the model, and the run says so."""
        model = build()
        parts = load_parts(save_altered(tmp_path / "m", model, **{count: 1}), device="cpu")
        (note,) = parts.notes
        assert "has 1 layer(s), as config.json says, and the weights go up to layer 1" in note
        blocks = model.model.layers if build is tiny_llama else model.transformer.h
        del blocks[1:]
        torch.testing.assert_close(parts.module(IDS, use_cache=False).logits, model(IDS, use_cache=False).logits)

    def test_more_layers_without_a_prefix(self, tmp_path: Path) -> None:
        """Likewise where the weights are called as in a model without a head."""
        model = tiny_gpt2()
        plain = {name.removeprefix("transformer."): value.clone() for name, value in model.state_dict().items()}
        del plain["lm_head.weight"]
        folder = save_altered(tmp_path / "m", model, n_layer=1)
        save_file(plain, folder / "model.safetensors", metadata={"format": "pt"})
        (note,) = load_parts(folder, device="cpu").notes
        assert "h has 1 layer(s)" in note
        assert "go up to layer 1" in note

    @pytest.mark.parametrize(
        ("names", "config"),
        [
            (["model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.self_attn.masked_bias"], {}),
            (["score.weight", "v_head.summary.weight"], {}),
            (["model.vision_tower.layers.0.weight", "multi_modal_projector.linear_1.weight"], {}),
            (["mtp.layers.0.weight", "model.mtp_block.norm.weight"], {}),
            (["model.layers.2.eh_proj.weight", "model.layers.2.norm.weight"], {"num_nextn_predict_layers": 1}),
        ],
        ids=["buffers", "heads", "vision", "further predictions", "layers of further predictions"],
    )
    def test_harmless_ones_are_not_shouted_about(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str], config: dict[str, object]
    ) -> None:
        """What takes no part in the next token is neither a note nor a warning."""
        folder = save_altered(tmp_path / "m", tiny_llama(), extra={name: torch.ones(4) for name in names}, **config)
        with caplog.at_level(logging.WARNING, logger="layertracer"):
            assert load_parts(folder, device="cpu").notes == ()
        assert caplog.text == ""

    def test_one_layer_more_than_further_predictions(self, tmp_path: Path) -> None:
        """Of two layers behind the last, the configuration may count one as a prediction; the other is named."""
        extra = {f"model.layers.{index}.norm.weight": torch.ones(4) for index in (2, 3)}
        folder = save_altered(tmp_path / "m", tiny_llama(), extra=extra, num_nextn_predict_layers=1)
        (note,) = load_parts(folder, device="cpu").notes
        assert "the weights go up to layer 3" in note


class TestContradictions:
    """Configurations that say otherwise than the weights."""

    @pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2])
    def test_an_unembedding_of_its_own(self, tmp_path: Path, build: Any) -> None:
        """Where config.json ties the unembedding and the file holds another one, that is used, and the run says so."""
        model = build()
        model.lm_head.weight = torch.nn.Parameter(model.get_input_embeddings().weight.detach().flip(0).clone())
        model.config.tie_word_embeddings = False
        head = {"lm_head.weight": model.lm_head.weight.detach()}
        folder = save_altered(tmp_path / "m", model, extra=head, tie_word_embeddings=True)
        parts = load_parts(folder, device="cpu")
        (note,) = parts.notes
        assert "config.json ties lm_head.weight" in note
        torch.testing.assert_close(parts.module(IDS).logits, model(IDS).logits)

    def test_a_tied_unembedding_that_was_dropped(self, tmp_path: Path) -> None:
        """A model whose own unembedding was replaced by the embedding is refused."""
        model = tiny_llama()
        folder = save_altered(tmp_path / "m", model, tie_word_embeddings=True)
        model.config.tie_word_embeddings = True
        model.lm_head.weight = model.model.embed_tokens.weight
        with pytest.raises(ModelLoadError, match=r"ties lm_head\.weight .* one would be dropped"):
            describe_contradictions(model, folder, ["model.safetensors"], "m")

    def test_the_same_unembedding_twice(self, tmp_path: Path) -> None:
        """A tied unembedding that the file holds again, as it is, is no contradiction."""
        model = tiny_llama(tied=True)
        extra = {"lm_head.weight": model.lm_head.weight.detach().clone()}
        assert load_parts(save_altered(tmp_path / "m", model, extra=extra), device="cpu").notes == ()

    @pytest.mark.parametrize(
        ("stored", "said"), [("float32", "float16"), ("bfloat16", "float16"), ("float16", "bfloat16")]
    )
    def test_rounded_to_the_configuration(self, tmp_path: Path, stored: str, said: str) -> None:
        """Weights that are rounded to the type that config.json names, where nobody asked for a type, are a note."""
        folder = save_altered(tmp_path / "m", tiny_llama().to(getattr(torch, stored)), dtype=said)
        checkpoint = Checkpoint(folder=folder, label="m")
        placement = Placement(device=torch.device("cpu"))
        module, _, (note,) = load_checkpoint(checkpoint, placement=placement, dtype=None)
        assert module.dtype == getattr(torch, said)
        assert f"stored in {stored} and config.json says {said}" in note
        assert load_checkpoint(checkpoint, placement=placement, dtype=torch.float32)[2] == ()

    def test_widened_to_the_configuration(self, tmp_path: Path) -> None:
        """A wider type than that of the file loses nothing and is no note."""
        folder = save_altered(tmp_path / "m", tiny_llama().to(torch.bfloat16), dtype="float32")
        placement = Placement(device=torch.device("cpu"))
        assert load_checkpoint(Checkpoint(folder=folder, label="m"), placement=placement, dtype=None)[2] == ()
