"""Values as users give them, checked: text, token ids, whole numbers, numbers, arrays. No torch."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from layertracer._errors import UsageError

if TYPE_CHECKING:
    Text: TypeAlias = str
    Texts: TypeAlias = tuple[str, ...]
    Ids: TypeAlias = tuple[int, ...]
    Span: TypeAlias = tuple[int, int]
    Whole: TypeAlias = int
    Number: TypeAlias = float
else:  # under test, annotations are looked up when a value is made: what is none of these has an error of ours
    Text = Texts = Ids = Span = Whole = Number = Any

_SHOWN = 60


def shown(value: object) -> str:
    """The beginning of a value's representation, and its type, for messages."""
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'} ({type(value).__name__})"


def checked_text(name: str, value: object, *, hint: str) -> str | None:
    """A text, or None.

    Raises:
        UsageError: If it is anything else; the message ends with the `hint`.
    """
    if value is None or isinstance(value, str):
        return value
    raise UsageError(f"{name} must be text (str), got {shown(value)}. {hint}")


def checked_texts(name: str, value: object, *, hint: str) -> tuple[str, ...]:
    """Texts, out of a list or an array of them.

    Raises:
        UsageError: If it is anything else, a single text among that; the message ends with the `hint`.
    """
    plain: Any = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, str | bytes) or not isinstance(plain, Iterable):
        raise UsageError(f"{name} must be texts, got {shown(value)}. {hint}")
    texts = tuple(plain)
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(f"Each of {name} must be text (str), got {shown(text)}. {hint}")
    return texts


def checked_whole(name: str, value: object, *, hint: str = "Give a whole number.") -> int:
    """A whole number of Python's own type, out of NumPy's and 0-dimensional tensors too; never a truth value.

    Raises:
        UsageError: If it is none; the message ends with the `hint`.
    """
    plain = value.tolist() if hasattr(value, "tolist") else value
    try:
        if isinstance(plain, bool):
            raise TypeError
        return operator.index(cast("int", plain))
    except TypeError:
        raise UsageError(f"{name} must be a whole number, got {shown(value)}. {hint}") from None


def checked_ids(name: str, value: object) -> tuple[int, ...]:
    """Token ids of one prompt, out of a list, an array or a tensor; a single row [1, position] is that row.

    Raises:
        UsageError: If they are no row of whole numbers.
    """
    hint = "Give the token ids of one prompt, e.g. (1, 5, 9)."
    plain: Any = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, str | bytes) or not isinstance(plain, Iterable):
        raise UsageError(f"{name} must be token ids, got {shown(value)}. {hint}")
    ids = list(plain)
    if len(ids) == 1 and not isinstance(ids[0], str | bytes) and isinstance(ids[0], Iterable):
        first: Any = ids[0]
        if getattr(first, "ndim", 1):
            return checked_ids(name, first)
    return tuple(checked_whole(f"Each of {name}", token, hint=hint) for token in ids)


def checked_number(name: str, value: object, *, hint: str) -> float:
    """A number of Python's own type; never a truth value.

    Raises:
        UsageError: If it is none; the message ends with the `hint`.
    """
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        return float(value)
    raise UsageError(f"{name} must be a number, got {shown(value)}. {hint}")


def checked_masks(value: Any) -> NDArray[np.bool_]:
    """Masks [layer, draw, width] of 0 and 1, out of a list, an array or a tensor on any device; read-only.

    Raises:
        UsageError: If it has not three axes, or holds anything but 0 and 1.
    """
    if hasattr(value, "detach"):  # a tensor, wherever it lies and whether or not gradients are asked of it
        value = value.detach().cpu().float().numpy()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise UsageError(
            "Mask.explicit needs keep of shape [layer, draw, width], got lists of different lengths. Give every layer "
            f"as many draws, and every draw as many dimensions ({error})."
        ) from None
    if array.ndim != 3 or 0 in array.shape:
        got = f"shape {list(array.shape)}" if array.ndim else shown(value)
        raise UsageError(
            f"Mask.explicit needs keep of shape [layer, draw, width], got {got}. For one draw add an axis: "
            "keep[:, None, :]."
        )
    if array.dtype.kind not in "biuf":
        raise UsageError(
            f"Mask.explicit needs keep of 0 and 1 only (1 keeps, 0 masks), got {shown(array.flat[0])} among others. "
            "Give numbers or truth values."
        )
    if not np.isin(array, (0, 1)).all():
        n_nan = int(np.isnan(array).sum()) if array.dtype.kind == "f" else 0
        got = f"{n_nan} NaN" if n_nan else f"values from {array.min()} to {array.max()}"
        raise UsageError(f"Mask.explicit needs keep of 0 and 1 only (1 keeps, 0 masks), got {got}. Threshold it first.")
    kept = array.astype(bool)
    kept.setflags(write=False)
    return kept
