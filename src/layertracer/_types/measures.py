"""Named numbers of a trace: what each is, its unit, and the values of a layer measure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from layertracer._errors import UsageError
from layertracer._types.given import Number, shown

MEASURE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""What a measure, a lens or a column may be called."""

RESERVED_NAMES: frozenset[str] = frozenset(
    {
        *("prompt", "draw", "layer", "effect", "mixer"),
        *("target_prob", "target_log_prob", "embedding_log_prob", "target_rank", "entropy_bits", "top_ids", "top_prob"),
        *("js_bits", "target_log_prob_loss", "dominant_dimension", "dominant_ratio", "dominant_hit"),
    }
)
"""Names that stand for something in every trace, in its tables and its data frame: no other measure can have them."""

MOST_UNIT, MOST_MEANING = 40, 400
"""The longest unit and the longest meaning, in characters."""


def is_line(text: object, most: int) -> bool:
    r"""Whether a value is one line of printable text of at most so many characters.

    Example:
        >>> is_line("bits", 40), is_line("", 40), is_line("\x1b[31m", 40), is_line("\u202e", 40)
        (True, False, False, False)
    """
    return isinstance(text, str) and 0 < len(text) <= most and text.isprintable()


def checked_name(what: str, name: object) -> str:
    """The name of a measure or a lens.

    Args:
        what: What is called so, for the message.
        name: The name.

    Raises:
        UsageError: If it is no identifier of plain letters, digits and underscores.
    """
    if isinstance(name, str) and MEASURE_NAME.fullmatch(name):
        return name
    raise UsageError(
        f"The name of a {what} must be an identifier of at most 64 letters, digits and underscores, got {shown(name)}. "
        "Name what is measured, with its unit at the end where it has one, e.g. 'block_influence' or 'loss_nats'."
    )


def refuse_reserved(what: str, name: str) -> None:
    """Refuse a name that stands for something in every trace.

    Args:
        what: What is called so, for the message.
        name: The name.

    Raises:
        UsageError: If it does.
    """
    if name in RESERVED_NAMES:
        raise UsageError(
            f"A {what} cannot be called {name!r}: that name stands for something else in every trace. Give it one of "
            "its own."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureInfo:
    """What a named number is; it stands in the header of a stored run.

    Attributes:
        name: An identifier that ends in its unit where it has one, e.g. "block_influence", "js_bits".
        unit: "bits", "nats", "share", "ratio", "half-turns", …
        meaning: What it says, in one sentence.
        low: The least that it may be; None where there is no least.
        high: The greatest, likewise.

    Raises:
        UsageError: If the name is no identifier, a text is no printable line, or the bounds are no bounds.
    """

    name: str
    unit: str
    meaning: str
    low: Number | None = None
    high: Number | None = None

    def __post_init__(self) -> None:
        """Refuse what could not be written, shown or held against values."""
        checked_name("measure", self.name)
        for field, most in (("unit", MOST_UNIT), ("meaning", MOST_MEANING)):
            if not is_line(getattr(self, field), most):
                raise UsageError(
                    f"The {field} of the measure {self.name!r} must be one line of 1 to {most} printable characters, "
                    f"got {shown(getattr(self, field))}. Say it in words, e.g. unit='bits'; a plain number is a "
                    "'ratio' or a 'share'."
                )
        for field in ("low", "high"):
            object.__setattr__(self, field, self._checked_bound(field))
        if self.low is not None and self.high is not None and self.low > self.high:
            raise UsageError(
                f"The measure {self.name!r} is to lie in [{self.low:g}, {self.high:g}], where nothing lies. Give low "
                "below high, or leave one out."
            )

    def _checked_bound(self, field: str) -> float | None:
        value = getattr(self, field)
        if value is None:
            return None
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            raise UsageError(
                f"{field} of the measure {self.name!r} must be a finite number or None, got {shown(value)}. Leave it "
                "out where there is no bound."
            )
        return float(value)


JS_BITS = MeasureInfo(
    name="js_bits",
    unit="bits",
    meaning="JS divergence between the clean and the perturbed output",
    low=0.0,
    high=1.0,
)
"""How far the output moves: the row measure that every perturbation has."""

TARGET_LOG_PROB = MeasureInfo(
    name="target_log_prob",
    unit="nats",
    meaning="log-probability of the target in the perturbed output, the sum over its tokens where several are followed",
    high=0.0,
)
"""What is left of the target."""

KNOWN_ROWS: Mapping[str, MeasureInfo] = MappingProxyType({info.name: info for info in (JS_BITS, TARGET_LOG_PROB)})
"""Row measures that every version knows; no other one can have a reserved name."""


def read_only(values: object, dtype: type[np.generic]) -> np.ndarray:
    """A copy of an array that nobody can write to; the array itself where it is one already."""
    if (
        isinstance(values, np.ndarray)
        and values.dtype == dtype
        and not values.flags.writeable
        and values.base is None
        and values.flags.c_contiguous
    ):
        return values
    array = np.array(values, dtype=dtype, order="C")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerMeasure:
    """A number of every layer for every prompt, with its name, unit and meaning.

    Attributes:
        info: What it is.
        values: The numbers, float32 [prompt, layer]; NaN where a layer has none.

    Raises:
        UsageError: If the values have not two axes.
    """

    info: MeasureInfo
    values: np.ndarray  # float32 [prompt, layer]

    def __post_init__(self) -> None:
        """Copy and freeze the values."""
        values = read_only(self.values, np.float32)
        if values.ndim != 2:
            raise UsageError(
                f"The layer measure {self.info.name!r} has values of shape {list(values.shape)}, and needs [prompt, "
                "layer]: one row per prompt and one column per layer of the model."
            )
        object.__setattr__(self, "values", values)

    @property
    def name(self) -> str:
        """Its name."""
        return self.info.name

    @property
    def unit(self) -> str:
        """Its unit."""
        return self.info.unit

    @property
    def meaning(self) -> str:
        """What it says, in one sentence."""
        return self.info.meaning

    @property
    def mean(self) -> NDArray[np.float64]:
        """Its mean over the prompts that have one, [layer]; NaN at layers where none has."""
        is_there = ~np.isnan(self.values)
        total = np.where(is_there, self.values, 0.0).sum(axis=0, dtype=np.float64)
        n_values = is_there.sum(axis=0)
        return np.where(n_values > 0, total / np.maximum(n_values, 1), np.nan)
