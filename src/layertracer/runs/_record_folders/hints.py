"""The types of a record's fields, looked at."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from jaxtyping import AbstractArray

from layertracer._types import Interval

NoneKind = type(None)


def is_array(hint: Any) -> bool:
    """Whether a field's type is an array of NumPy."""
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


def is_optional(hint: Any) -> bool:
    """Whether a field may be None."""
    return get_origin(hint) in (Union, types.UnionType) and NoneKind in get_args(hint)


def without_none(hint: Any) -> Any:
    """The type of a field that may be None where it is not."""
    return next(one for one in get_args(hint) if one is not NoneKind)


def is_interval(hint: Any) -> bool:
    """Whether a field is an interval, or may be one."""
    return (without_none(hint) if is_optional(hint) else hint) is Interval


def hints_of(kind: type) -> Mapping[str, Any]:
    """The types of a record's fields, in their order."""
    return _hints_of(cast("Any", kind))  # mypy takes the classes of some records for unhashable


@cache
def _hints_of(kind: Any) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def has_default(kind: type, name: str) -> bool:
    """Whether a record can be made without a field, as those can that were stored before there was one."""
    field = next(one for one in dataclasses.fields(kind) if one.name == name)
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
