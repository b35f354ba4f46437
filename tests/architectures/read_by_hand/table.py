"""The table that was written by reading: what the decoder layers of every family are."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tests.architectures.read_by_hand.a_to_g import A_TO_G
from tests.architectures.read_by_hand.h_to_z import H_TO_Z
from tests.architectures.read_by_hand.reading import ReadByHand, all_layers

_PLAIN_MODULES = {  # tests/support/models/plain_modules.py
    "nanogpt": ReadByHand(
        layers="transformer.h",
        mixers=all_layers("attention", count="n_layers"),
        mlps=all_layers("dense", count="n_layers"),
        mixer_branch="attn",
        mlp_branch="mlp",
    ),
    "torch_encoder": ReadByHand(
        layers="encoder.layers",
        mixers=all_layers("attention", count="n_layers"),
        mlps=all_layers("dense", count="n_layers"),
        mixer_branch="self_attn",
        mlp_branch="linear2",
    ),
}

TABLE: Mapping[str, ReadByHand] = MappingProxyType(dict(A_TO_G) | dict(H_TO_Z) | _PLAIN_MODULES)
"""By model type; that of a decoder beside an encoder begins with "encdec:"."""
