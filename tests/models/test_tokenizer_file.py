"""Checkpoints whose tokenizer.json and whose tokenizer in transformers are two things."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import layertracer as lt
from layertracer.models._tokenizers.tokenizer_file import compare_with_file

from tests.support.checkpoints.tiny import WORDS, make_tokenizer, randomize, save_checkpoint, tiny_llama


def _save_mixture(folder: Path) -> Path:
    """A Qwen3.5 mixture of experts that knows words: transformers reads the text of its kind as bytes."""
    from transformers import Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig

    config = Qwen3_5MoeTextConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        linear_num_key_heads=1,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        moe_intermediate_size=8,
        shared_expert_intermediate_size=8,
        num_experts=2,
        num_experts_per_tok=1,
    )
    return save_checkpoint(folder, randomize(Qwen3_5MoeForCausalLM(config), seed=0))


def test_another_reading_is_told_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A text that becomes other tokens than the file says is a warning at load, and stands in every run."""
    folder = _save_mixture(tmp_path)
    with caplog.at_level(logging.WARNING, logger="layertracer"):
        model = lt.load_model(folder)
    assert "in another way than the checkpoint's own tokenizer.json" in caplog.text
    trace = lt.trace(model, [lt.Sample(prompt_ids=(3, 7), answer_id=4)], perturbation=lt.Mask(draws=1))
    (note,) = [one for one in trace.warnings if "tokenizer.json" in one]
    assert "PreTrainedTokenizerFast(tokenizer_file=...)" in note
    own = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    assert not any("tokenizer.json" in note for note in lt.wrap_model(model.module, own).self_check.notes)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "qwen3", "mistral"])
def test_files_that_are_read_as_they_are(model_type: str, tmp_path: Path) -> None:
    """Model types whose class leaves the file alone pass without a word."""
    make_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    assert compare_with_file(AutoTokenizer.from_pretrained(tmp_path), tmp_path) == ()


def test_byte_level_tokenizers_agree_with_their_files(tmp_path: Path) -> None:
    """A class that builds byte-pair tokenizers agrees with a file that it wrote, with and without a space in front."""
    from transformers import GPT2Tokenizer

    letters = {chr(code): code - 33 for code in range(33, 127)} | {"\u0120": 94, "\u010a": 95, "<|endoftext|>": 96}
    for folder, adds_space in ((tmp_path / "plain", False), (tmp_path / "spaced", True)):
        GPT2Tokenizer(vocab=letters, merges=[], add_prefix_space=adds_space).save_pretrained(folder)
        tokenizer = GPT2Tokenizer.from_pretrained(folder)
        assert len(tokenizer("hot").input_ids) == 3 + adds_space
        assert compare_with_file(tokenizer, folder) == ()


def test_a_wrong_vocabulary_is_found(tmp_path: Path) -> None:
    """Where ordinary text is unknown to both, words of the file's own vocabulary tell them apart."""
    from transformers import GPT2Tokenizer

    make_tokenizer().save_pretrained(tmp_path)
    other = GPT2Tokenizer(vocab={"<|endoftext|>": 0}, merges=[])
    (note,) = compare_with_file(other, tmp_path)
    assert "GPT2Tokenizer" in note


def test_no_file_is_no_difference(tmp_path: Path) -> None:
    """Checkpoints without tokenizer.json, or without a tokenizer, have nothing to compare."""
    save_checkpoint(tmp_path, tiny_llama(), with_tokenizer=False)
    assert compare_with_file(None, tmp_path) == ()
    assert compare_with_file(make_tokenizer(), tmp_path) == ()
