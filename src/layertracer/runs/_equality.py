"""Equality of records: arrays element by element, NaN equal to NaN."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np


def same_values(left: object, right: object) -> bool:
    """Whether two values of a record are equal.

    Laws: reflexive, also where values hold NaN; arrays of different shape or type differ; a list
    equals a tuple of the same values, since JSON knows only one of them.
    """
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return _same_arrays(left, right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same_values(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same_values, left, right))
    if dataclasses.is_dataclass(left) and not isinstance(left, type) and type(left) is type(right):
        names = [field.name for field in dataclasses.fields(left) if field.compare]
        return all(same_values(getattr(left, name), getattr(right, name)) for name in names)
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return bool(left == right)


def _same_arrays(left: object, right: object) -> bool:
    if not (isinstance(left, np.ndarray) and isinstance(right, np.ndarray)):
        return False
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    return bool(np.array_equal(left, right, equal_nan=left.dtype.kind == "f"))
