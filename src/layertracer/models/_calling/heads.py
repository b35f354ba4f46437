"""Output heads that predict something else than the next token: told by class, by what they return, by their labels.

Each of them would otherwise give numbers that look right: the hidden states of a bare model are a tensor [batch,
position, width] as logits are, and the scores of a token classifier even come under the name of logits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from layertracer._errors import AnatomyError
from layertracer.models._calling.pytree import flatten

OTHER_HEADS = re.compile(
    r"(Classification|QuestionAnswering(Simple)?|MultipleChoice|MaskedLM|PreTraining|NextSentencePrediction|Regression"
    r"|ValueHead|RewardModel|ForReward|ForEmbedding|ForRetrieval|ForDecision|DoubleHeadsModel)$"
)
"""Names of classes whose head predicts something else than the next token."""

_INSTEAD = (
    "LayerTracer reads language models: token ids in, next-token logits out at every position. Load the language model "
    "that it was made from: load_model(its name), or AutoModelForCausalLM.from_pretrained and wrap_model."
)
_SUMS_TO_ONE = 1e-2  # in half precision, a vocabulary of probabilities sums to 1 to within this
_WITHOUT_VALUES = "Wrap the language model inside it instead (in TRL: wrap_model(model.pretrained_model))."


def refuse_other_class(module: nn.Module) -> None:
    """Refuse a module of a class, or of a subclass of a class, with another head.

    Raises:
        AnatomyError: If it is one; says what to load instead.
    """
    base: Any = getattr(module, "get_base_model", None)  # what an adapter of peft was put on
    for one in (module, base() if callable(base) else None):
        found = next((ancestor for ancestor in type(one).__mro__ if OTHER_HEADS.search(ancestor.__name__)), None)
        if found is None:
            continue
        name = type(module).__name__
        kind = "" if found is type(module) else f" (it is a {found.__name__})"
        instead = _WITHOUT_VALUES if hasattr(module, "pretrained_model") else _INSTEAD
        raise AnatomyError(
            f"{name} does not predict a next token{kind}, so there is nothing to read after its layers. {instead}"
        )


def refuse_other_outputs(output: Any, ids: Tensor) -> None:
    """Refuse an output without next-token logits, or with a value for each position beside them.

    Args:
        output: What the module returned.
        ids: The token ids [batch, position] that were fed.

    Raises:
        AnatomyError: If there are hidden states and no logits, or values.
    """
    if isinstance(output, Mapping):
        if "last_hidden_state" in output and "logits" not in output:
            raise AnatomyError(
                "The model returns hidden states (last_hidden_state) and no logits: it was loaded without its "
                f"language-model head, as AutoModel does. {_INSTEAD}"
            )
        return
    values = [list(leaf.shape) for _, leaf in flatten(output).tensors() if _is_value_of_tokens(leaf, ids)]
    if values:
        raise AnatomyError(
            f"The model returns one number for each position, of shape {values[0]} for {list(ids.shape)} token ids: a "
            f"value or reward head. {_WITHOUT_VALUES}"
        )


def refuse_probabilities(logits: Tensor) -> None:
    """Refuse outputs that went through a softmax; log-probabilities are logits like any others.

    Args:
        logits: What is taken for logits, [batch, position, d_vocab].

    Raises:
        AnatomyError: If they are nowhere negative and sum to 1 at every position.
    """
    rows = logits.float()
    sums = rows.sum(dim=-1)
    if rows.shape[-1] > 1 and bool((rows >= 0).all()) and bool(((sums - 1).abs() < _SUMS_TO_ONE).all()):
        raise AnatomyError(
            "The model returns probabilities, not logits: they are nowhere negative and sum to 1 at every position. "
            "Read as logits they would be nearly uniform. Let forward return what goes into the softmax, or its "
            "logarithm (log_softmax)."
        )


def refuse_labels(module: nn.Module, d_vocab: int) -> None:
    """Refuse a model whose logits are scores of the labels in its configuration, whatever its class is called.

    Args:
        module: A model that gives logits.
        d_vocab: How many at a position.

    Raises:
        AnatomyError: If they are as many as there are labels and not as many as there are tokens.
    """
    config = getattr(module, "config", None)
    n_labels, n_tokens = getattr(config, "num_labels", None), getattr(config, "vocab_size", None)
    if d_vocab == n_labels and isinstance(n_tokens, int) and n_tokens != d_vocab:
        raise AnatomyError(
            f"{type(module).__name__} gives {d_vocab} logits at a position, one for each label of its configuration, "
            f"where its vocabulary has {n_tokens} tokens: it classifies tokens. {_INSTEAD}"
        )


def _is_value_of_tokens(leaf: Tensor, ids: Tensor) -> bool:
    return torch.is_floating_point(leaf) and tuple(leaf.shape) in {tuple(ids.shape), (*ids.shape, 1)}
