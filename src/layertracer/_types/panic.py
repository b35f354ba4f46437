"""Panics of libraries written in Rust, which pass by `except Exception`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from layertracer._errors import printable_cause

_MODULE = "pyo3_runtime"
"""Where Python finds the class of such a panic, which is a BaseException and can be imported from nowhere."""


class LibraryPanicError(Exception):
    """A library written in Rust met what it did not expect, such as a damaged tokenizer."""


def is_panic(error: BaseException) -> bool:
    """Whether an exception is a panic of a library written in Rust."""
    return type(error).__module__ == _MODULE


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Within, a panic of a library written in Rust is raised as an `Exception`; interruptions stay what they are.

    Raises:
        LibraryPanicError: In place of a panic, with its message.
    """
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise LibraryPanicError(str(error)) from printable_cause(error)
