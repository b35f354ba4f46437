"""Which families are examined, which of them every time and why, and which are refused and why: data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tests.support.models import registry
from tests.support.models.tiny_settings import D_VOCAB


@dataclass(frozen=True, kw_only=True)
class Case:
    """One family as the registry builds it, or with other settings.

    Attributes:
        name: Its model type.
        encoder_decoder: Whether the model of encoder and decoder is meant.
        settings: What its configuration has otherwise than in the registry.
        is_long: Whether windows and the like reach further than a short probe; see `long_settings`.
    """

    name: str
    encoder_decoder: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    is_long: bool = False

    @property
    def key(self) -> str:
        """Its name in the tables written by hand."""
        return f"encdec:{self.name}" if self.encoder_decoder else self.name

    @property
    def label(self) -> str:
        """Its name in reports."""
        changed = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.key}[{changed}]" if changed else self.key

    def build(self) -> nn.Module:
        """A fresh model that has not run."""
        if self.settings:
            return _variant(self)
        return registry.build(self.name, encoder_decoder=self.encoder_decoder, is_long=self.is_long)


def _variant(case: Case) -> nn.Module:
    """A model with settings of its own and no parameter at its default."""
    config = registry.tiny_config(case.name, encoder_decoder=case.encoder_decoder, is_long=case.is_long)
    for name, value in case.settings.items():
        setattr(config, name, value)
    auto: Any = AutoModelForSeq2SeqLM if case.encoder_decoder else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):  # transformers draws its own initial values from the global generator
        torch.manual_seed(0)
        module: nn.Module = auto.from_config(config).float().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_embedding = parameter.shape[0] == D_VOCAB
            scale = 0.3 if parameter.ndim == 1 else 0.6 if is_embedding else 1.3 / math.sqrt(parameter.shape[-1])
            parameter.copy_((parameter == 1) * (parameter.ndim == 1) + scale * noise)
    return module


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """How and why a family is refused.

    Attributes:
        error: Class of the error.
        message: A fragment of its message.
        reason: Why, for a reader who knows the model.
    """

    error: str
    message: str
    reason: str


_CODEBOOKS = Refusal(
    error="AnatomyError",
    message="could not be run on token ids",
    reason="reads several codebooks of audio: four rows of the batch are one sample, and a row alone is no prompt",
)
REFUSED: Mapping[str, Refusal] = MappingProxyType(
    {
        "blt": Refusal(
            error="AnatomyError",
            message="runs the layers of",
            reason="adds cross-attention between its last layers, outside them, so that no chain of layers leads to "
            "the output; it has three other stacks, for bytes, patches and where patches end",
        ),
        "hrm_text": Refusal(
            error="AnatomyError",
            message="",
            reason="runs its two stacks in turn, each layer several times: a layer has no single output",
        ),
        "musicgen": _CODEBOOKS,
        "musicgen_melody": _CODEBOOKS,
        "reformer": Refusal(
            error="AnatomyError",
            message="LayerTracer expects one axis for the batch",
            reason="pads prompts to whole chunks and carries two streams through reversible layers",
        ),
        "xlm": Refusal(
            error="AnatomyError",
            message="",
            reason="has no layers: the model itself runs attentions, norms and MLPs out of separate lists",
        ),
    }
)

# Decoders whose prompts do not go on from a prefix that they share; all others do.
NOT_SHARED = frozenset(
    {
        # What they remember does not give the same.
        *("axk2", "deepseek_v32", "dots3_note", "dots3_note_text", "glm_moe_dsa", "moshi"),
        # The same but for rounding, which decides more in it: 2e-5 bits, where 1e-5 are allowed.
        "hy_v4",
        # They cannot be run with a cache of their own, or go on from one with more rows.
        *("bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp", "pegasus", "plbart"),
        *("qwen4_exp", "qwen4_exp_text", "xlstm"),
        # They return no cache.
        *("openai-gpt", "recurrent_gemma", "xlnet"),
        # Several entries of the stream for a token.
        *("cpmant", "prophetnet"),
        # By the plain method.
        "inkling2_text",
    }
)

# Beyond what the registry builds: settings under which rows of a batch see one another.
VARIANTS: Mapping[Case, str] = MappingProxyType(
    {
        Case(name="doge", settings={"is_moe": True}): "a view in the router mixes positions and prompts",
        Case(
            name="nllb-moe", encoder_decoder=True, settings={"moe_eval_capacity_token_fraction": 0.3}
        ): "prompts compete for places at experts, and perturbed rows too where the clean ones all found one",
        Case(
            name="switch_transformers", encoder_decoder=True, settings={"expert_capacity": 2}
        ): "earlier tokens of a prompt take the places of later ones at an expert",
    }
)

# What runs every time: a family for each mechanism that those of `families.py` do not have.
MECHANISMS: Mapping[str, str] = MappingProxyType(
    {
        "bert": "residual and norm inside modules of the layer; an encoder run as a decoder",
        "blt": "several stacks, and work between layers",
        "cpmant": "learned positions in front of the tokens; nothing is causal",
        "deepseek_v4": "streams as an axis of their own; experts chosen by token id; latent, compressed attention",
        "falcon_h1": "two mixers in parallel, each with a multiplier",
        "gemma3n_text": "streams in front of the batch; keys and values of earlier layers; inputs for each layer",
        "gemma4_text": "keys and values handed on in a dictionary that layers write to; the stream is rescaled",
        "gpt_bigcode": "the output is reshaped to the shape of the input's batch",
        "hrm_text": "layers that run several times",
        "inkling2_text": "the model keeps a list of streams between its layers",
        "lfm2": "short convolutions",
        "llama4_text": "chunked attention; experts that see positions as rows of one matrix",
        "minimax": "lightning attention; the norm's output is the residual",
        "mllama": "layers in the list that never run on text",
        "musicgen": "four rows are one sample",
        "nemotron_h": "one branch in a layer: a mixer or an MLP",
        "openai-gpt": "layers return lists",
        "prophetnet": "several entries of the stream for each token",
        "qwen4_exp_text": "four streams side by side in the width; embeddings of n-grams inside layers",
        "recurrent_gemma": "gated linear recurrence; softcap; state kept in the module",
        "reformer": "two streams, and padding to chunks",
        "xlm": "no layer modules",
        "xlnet": "positions in front of the batch",
        "xlstm": "layers return their state; the tail has a softcap",
        "zamba2": "blocks that layers share, fed with the embeddings",
        "zaya": "a second output, the router's state, is the next layer's input",
        "encdec:bart": "cross-attention to an encoder; post-norm",
        "encdec:fsmt": "positions in front of the batch in a decoder; no cache argument is neutral",
        "encdec:t5": "the first layer's position bias is the others' input; three branches in a layer",
        "encdec:t5gemma2": "one softmax over the decoder's positions and the encoder's",
    }
)


# What runs every time on long prompts: a family for each way to reach beyond a short probe.
REACHES: Mapping[str, str] = MappingProxyType(
    {
        "gemma3_text": "windows beside full attention",
        "llama4_text": "chunks of positions",
        "mamba2": "chunks of a recurrence",
        "recurrent_gemma": "a window and a recurrence whose state stays in the module",
        "deepseek_v32": "as many keys as an indexer chooses",
        "phi3": "positions that scale with the length of the whole prompt",
        "roberta": "positions that are counted from what is no padding",
        "encdec:t5": "relative positions up to a distance; an encoder that requires gradients",
        "encdec:nllb-moe": "experts with room for some tokens of the whole batch",
    }
)


def all_cases() -> tuple[Case, ...]:
    """Every family of the installed transformers that can be built, and the variants."""
    causal = [Case(name=name) for name in registry.CAUSAL]
    pairs = [Case(name=name, encoder_decoder=True) for name in registry.ENCODER_DECODER]
    return *(case for case in causal + pairs if case.name not in registry.UNBUILDABLE), *VARIANTS


def default_cases() -> tuple[Case, ...]:
    """Those that run every time: one for each mechanism, and the variants."""
    return tuple(case for case in all_cases() if case.label in MECHANISMS or case in VARIANTS)


def long_cases() -> tuple[Case, ...]:
    """Those that run every time on long prompts."""
    return tuple(case for case in all_cases() if case.label in REACHES)
