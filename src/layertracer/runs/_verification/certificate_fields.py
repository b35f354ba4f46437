"""What the field `certificate` of `run.json` may be."""

from __future__ import annotations

from layertracer.runs._json_rules import Fields, Items, Nullable, Number, Text, Whole

_COUNT = Whole(high=2**31 - 1)
_UNIT = Number(high=1 + 1e-5)
_ENDS = Items(Nullable(_UNIT))
_LAYERS = Items(Nullable(_COUNT))
CERTIFICATE = Fields(
    required={
        "layer": Nullable(_COUNT),
        "confidence": Number(low=1e-12, high=1 - 1e-12),
        "contenders": Items(_COUNT),
        "ending": Text(choices=("certified", "prompts", "budget", "stopped")),
        "n_cells": Whole(),
        "n_total": Whole(),
        "budget": Nullable(Whole(low=1)),
        "n_whole": _COUNT,
        "order": Items(_COUNT),
        "n_prompts": _COUNT,
        "js_bits": Items(Items(Number(low=-1e-5, high=1 + 1e-5))),
        "low_js_bits": _ENDS,
        "high_js_bits": _ENDS,
        "particles": _LAYERS,
        "particle": Fields(
            required={
                "layer": Nullable(_COUNT),
                "contenders": _LAYERS,
                "share_low": Items(_UNIT),
                "share_high": Items(_UNIT),
            },
            closed=True,
        ),
    },
    closed=True,
)
