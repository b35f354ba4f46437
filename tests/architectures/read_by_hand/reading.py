"""What decoder layers really are, as one reads it in the source of their models: the form of the table.

`table.TABLE` holds one `ReadByHand` per family. It is written by reading what each model computes; nothing in it is
learned from LayerTracer.

Kinds of mixers:
    attention: Softmax attention to all earlier positions; a decoder's cross-attention does not change the name.
    sliding_attention: Sees a window only.
    chunked_attention: Sees its own block of positions only.
    latent_attention: Keys and values come out of a low-rank latent.
    sparse_attention: Sees positions that an indexer selects.
    mamba, mamba2, gated_deltanet, kimi_delta_attention, lightning_attention, linear_attention, rwkv, xlstm,
        rg_lru: Recurrent mixers.
    conv: A short convolution.
    none: No mixer, an MLP only.
    a+b: Two mixers of one layer, in the order in which the layer runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Kinds = Callable[[Any], tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class ReadByHand:
    """The decoder layers of one family.

    Attributes:
        layers: Dotted path of the container of decoder layers inside the causal model, "" where there is none, and
            `a+b` where two containers hold them, one after the other.
        mixers: From the configuration to the kind of every layer's mixer.
        mlps: From the configuration to the kind of every layer's MLP: "dense", "experts" or "none".
        mixer_branch: Name inside a layer of the module whose output is exactly what the mixer adds to the
            stream, up to the scalar that `note` names; None where no module's output is.
        mlp_branch: Likewise of the MLP. In both, `a|b` says that it is the last of the two that the layer holds,
            and `a+b` that the layer adds the outputs of both.
        note: What else a reader must know.
    """

    layers: str
    mixers: Kinds
    mlps: Kinds
    mixer_branch: str | None
    mlp_branch: str | None
    note: str = ""


def all_layers(kind: str, *, count: str = "num_hidden_layers") -> Kinds:
    """Every layer is of one kind; `count` names the attribute that holds how many layers there are."""
    return lambda config: (kind,) * getattr(config, count)


def by_layer_types(kinds: Mapping[str, str], *, attribute: str = "layer_types") -> Kinds:
    """Every layer is what the configuration's list says, translated by `kinds`."""
    return lambda config: tuple(kinds[layer_type] for layer_type in getattr(config, attribute))


def by_index(kind_of: Callable[[Any, int], str], *, count: str = "num_hidden_layers") -> Kinds:
    """Every layer is what a rule says of the configuration and the layer's index."""
    return lambda config: tuple(kind_of(config, index) for index in range(getattr(config, count)))


def of_text(kinds: Kinds) -> Kinds:
    """A rule for the text part of a configuration that holds several parts."""
    return lambda config: kinds(config.get_text_config())
