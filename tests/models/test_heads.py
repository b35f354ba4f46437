"""Models that predict something else than the next token are refused, with what to load instead."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import layertracer as lt

from tests.support.checkpoints.tiny import edit_config, randomize, save_checkpoint, tiny_llama

INSTEAD = r".*AutoModelForCausalLM"


def llama(kind: str, **settings: Any) -> nn.Module:
    """A tiny Llama with the head of a class of transformers."""
    config = tiny_llama().config
    config.pad_token_id = 0
    for name, value in settings.items():
        setattr(config, name, value)
    return randomize(getattr(transformers, kind)(config), seed=0)


@pytest.mark.parametrize(
    "kind", ["LlamaForSequenceClassification", "LlamaForTokenClassification", "LlamaForQuestionAnswering"]
)
def test_classes_with_other_heads(kind: str) -> None:
    """Classifiers of sequences and of tokens and answerers of questions are refused by name."""
    with pytest.raises(lt.AnatomyError, match=f"{kind} does not predict a next token{INSTEAD}"):
        lt.wrap_model(llama(kind))


def test_subclasses_of_them() -> None:
    """A class derived from a classifier is one, whatever it is called."""

    class Tagger(transformers.LlamaForTokenClassification):
        """Derived."""

    config = tiny_llama().config
    with pytest.raises(lt.AnatomyError, match=f"Tagger does not .*LlamaForTokenClassification{INSTEAD}"):
        lt.wrap_model(randomize(Tagger(config), seed=0))


def test_masked_language_models() -> None:
    """A model that fills in blanks predicts no next token."""
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    with pytest.raises(lt.AnatomyError, match=f"BertForMaskedLM does not predict{INSTEAD}"):
        lt.wrap_model(transformers.BertForMaskedLM(config))


def test_without_a_head() -> None:
    """A bare model, whose hidden states look like logits, is refused."""
    with pytest.raises(lt.AnatomyError, match=f"last_hidden_state.*without its language-model head{INSTEAD}"):
        lt.wrap_model(llama("LlamaModel"))


class Scores(nn.Module):
    """A decoder with another head, under a name that says nothing."""

    def __init__(self, n_outputs: int, *, n_labels: int) -> None:
        super().__init__()
        self.body = tiny_llama().model
        self.head = nn.Linear(16, n_outputs)
        self.config = self.body.config
        self.config.num_labels = n_labels

    def forward(self, input_ids: Tensor) -> Tensor:
        """Scores [batch, position, n_outputs]."""
        return self.head(self.body(input_ids, use_cache=False).last_hidden_state)


def test_label_scores_under_any_name() -> None:
    """As many logits as the configuration has labels, and not as many as tokens: a classifier of tokens."""
    with pytest.raises(lt.AnatomyError, match=f"5 logits at a position, one for each label{INSTEAD}"):
        lt.wrap_model(Scores(5, n_labels=5))
    assert lt.wrap_model(Scores(32, n_labels=2)).anatomy.d_vocab == 32


def test_one_value_for_each_position() -> None:
    """A value head on its own is refused: a softmax over one number would be 1 everywhere."""
    with pytest.raises(lt.AnatomyError, match="value or reward head"):
        lt.wrap_model(Scores(1, n_labels=2))


class WithValue(nn.Module):
    """A language model with a value head beside its own, as reinforcement learning uses it."""

    def __init__(self, *, squeeze: bool) -> None:
        super().__init__()
        self.pretrained_model = tiny_llama()
        self.v_head = nn.Linear(16, 1)
        self.squeeze = squeeze

    def forward(self, input_ids: Tensor, **options: Any) -> tuple[Tensor, None, Tensor]:
        """Logits, no loss, and a value for each position."""
        output = self.pretrained_model(input_ids, **options | {"output_hidden_states": True})
        value = self.v_head(output.hidden_states[-1])
        return output.logits, None, value.squeeze(-1) if self.squeeze else value


@pytest.mark.parametrize("squeeze", [True, False])
def test_value_beside_logits(squeeze: bool) -> None:
    """A model that returns values beside its logits is refused, and its language model is traced."""
    module = WithValue(squeeze=squeeze)
    with pytest.raises(lt.AnatomyError, match=r"value or reward head.*wrap_model\(model\.pretrained_model\)"):
        lt.wrap_model(module)
    assert lt.wrap_model(module.pretrained_model).self_check.method == "ladder"


def test_class_with_a_value_head() -> None:
    """A class that says that it has a value head leads to the model inside."""

    class CausalLMWithValueHead(WithValue):
        """So called."""

    with pytest.raises(lt.AnatomyError, match=r"CausalLMWithValueHead .*wrap_model\(model\.pretrained_model\)"):
        lt.wrap_model(CausalLMWithValueHead(squeeze=True))


def test_folder_of_a_classifier(tmp_path: Any) -> None:
    """A checkpoint that was trained as a classifier is refused before its weights are read."""
    folder = save_checkpoint(tmp_path / "m", tiny_llama())
    edit_config(folder, architectures=["LlamaForTokenClassification"])
    with pytest.raises(lt.ModelLoadError, match="LlamaForTokenClassification, which does not predict a next token"):
        lt.load_model(folder, device="cpu")


def test_language_models_pass() -> None:
    """A language model with labels in its configuration, as every one of transformers has, is none of these."""
    module: Any = tiny_llama()
    assert module.config.num_labels == 2
    assert lt.wrap_model(module).self_check.method == "ladder"
    assert torch.is_floating_point(module(torch.tensor([[1]])).logits)
