"""Colours. Names refer to custom properties of the page's style sheet; the values are for terminal and paper."""

from __future__ import annotations

from collections.abc import Iterable

# Okabe and Ito (2008): told apart with every common form of colour vision.
GAIN = "#009E73"
LOSS = "#D55E00"
TARGET = "#0072B2"
JS = "#AA4499"
MUTED = "#8A8F98"

# The kinds of mixers that LayerTracer names; anything else takes the colours left over, in order of appearance.
_MIXER_SLOTS = {
    "attention": 0,
    "sliding_attention": 1,
    "mamba": 2,
    "mamba2": 3,
    "gated_deltanet": 4,
    "linear_attention": 5,
    "rwkv": 6,
    "xlstm": 7,
    "rg_lru": 2,
    "conv": 6,
    "none": 8,
}
MIXER_COLORS = (
    "#4477AA",
    "#88CCEE",
    "#DDCC77",
    "#CC6677",
    "#44AA99",
    "#999933",
    "#AA4499",
    "#EE8866",
    "#BBBBBB",
)


def mixer_slots(kinds: Iterable[str]) -> dict[str, int]:
    """Slot in the palette of every kind of mixer, in order of first appearance; no two share one while slots last.

    Example:
        >>> mixer_slots(["attention", "mamba", "attention", "rg_lru"])
        {'attention': 0, 'mamba': 2, 'rg_lru': 1}
    """
    slots: dict[str, int] = {}
    for kind in dict.fromkeys(kinds):
        wanted = _MIXER_SLOTS.get(kind)
        free = [slot for slot in range(len(MIXER_COLORS)) if slot not in slots.values()]
        if wanted is not None and (wanted in free or not free):
            slots[kind] = wanted
        else:
            slots[kind] = free[0] if free else len(MIXER_COLORS) - 1
    return slots
