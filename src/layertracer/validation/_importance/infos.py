"""What other measures of a layer's importance are called, their units, and what they say."""

from __future__ import annotations

from collections.abc import Mapping

from layertracer._types import MeasureInfo

_REMOVED = {"skip": "the layer is bypassed", "zero_mixer": "its mixer adds nothing", "zero_mlp": "its MLP adds nothing"}
_WHAT = {"mixer": "what its mixer adds", "mlp": "what its MLP adds", "block": "all that the layer changes"}


def _removals() -> list[MeasureInfo]:
    return [
        info
        for name, words in _REMOVED.items()
        for info in (
            MeasureInfo(
                name=f"{name}_js_bits",
                unit="bits",
                meaning=f"JS divergence between the output and the output where {words}",
                low=0.0,
                high=1.0,
            ),
            MeasureInfo(
                name=f"{name}_loss_nats",
                unit="nats",
                meaning=f"what the target's log-probability loses where {words}",
            ),
        )
    ]


def _gradients() -> list[MeasureInfo]:
    return [
        MeasureInfo(
            name=f"gradient_{name}",
            unit="nats",
            meaning=f"first-order estimate of the change of the target's log-probability if {words} is taken away: "
            "minus gradient times addition, the sum over positions",
        )
        for name, words in _WHAT.items()
    ]


def _attributions() -> list[MeasureInfo]:
    found = []
    for name in ("mixer", "mlp"):
        adds = f"what {_WHAT[name].removeprefix('what ')} to the target's logit by the tail alone"
        held = "the final norm's statistics held (mean over the positions that are read)"
        found.append(MeasureInfo(name=f"dla_{name}", unit="logits", meaning=f"{adds}, {held}"))
        contrast = f"likewise to the target's logit less the contrast answer's, {held.partition(' (')[0]}"
        found.append(MeasureInfo(name=f"dla_{name}_difference", unit="logits", meaning=f"{adds}; {contrast}"))
    return found


INFOS: Mapping[str, MeasureInfo] = {info.name: info for info in (*_removals(), *_gradients(), *_attributions())}
"""Those that are measured beside what every trace has (block influence, angular distance)."""

IN_EVERY_TRACE = ("block_influence", "angular_distance")
"""Layer measures of every trace that are taken from it."""

IMPORTANCE_NAMES: tuple[str, ...] = (*IN_EVERY_TRACE, *INFOS)
"""Everything that can be asked for."""
