"""Shapes in signatures are checked under test, and only they.

jaxtyping's hook wraps every function of the package: two compilations at import, and for each call a binding of its
arguments and two more calls. Most functions name no shape, and for some files of tests this was half of their time.
Types without shapes are for mypy, which runs nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jaxtyping

_jaxtyped = jaxtyping.jaxtyped


def check_only_shapes() -> None:
    """Let jaxtyping's hook leave alone what names no shape; for modules that are imported from now on."""
    jaxtyping.jaxtyped = _where_shapes  # type: ignore[assignment]  # the name that the hook writes into modules


def _where_shapes(*, typechecker: Any) -> Callable[[Any], Any]:
    """The decorator that the hook puts on a function, property or class."""
    return lambda thing: _jaxtyped(thing, typechecker=typechecker) if names_shapes(thing) else thing


def names_shapes(thing: Any) -> bool:
    """Whether one of the annotations of a function, property or class is, or holds, an array's shape."""
    return any(_is_shape(scope.get(word)) for text, scope in _annotations(thing) for word in re.findall(r"\w+", text))


def _is_shape(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, jaxtyping.AbstractDtype | jaxtyping.AbstractArray)


def _annotations(thing: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Annotations as they are written, each with the names that its module knows."""
    if isinstance(thing, type):
        for base in thing.__mro__[:-1]:
            scope = vars(sys.modules[base.__module__])
            yield from ((str(text), scope) for text in vars(base).get("__annotations__", {}).values())
        return
    parts = (thing.fget, thing.fset) if isinstance(thing, property) else (getattr(thing, "__func__", thing),)
    for part in parts:
        if part is not None:
            yield from ((str(text), part.__globals__) for text in part.__annotations__.values())
