"""Panics of libraries written in Rust, which pass by `except Exception`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_MODULE = "pyo3_runtime"
"""Where Python finds the class of such a panic, which is a BaseException and can be imported from nowhere."""


class LibraryPanicError(Exception):
    """A library written in Rust met what it did not expect, such as a damaged tokenizer."""


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Within, a panic of a library written in Rust is raised as an `Exception`; interruptions stay what they are.

    Raises:
        LibraryPanicError: In place of a panic, with its message.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__module__ != _MODULE:
            raise
        raise LibraryPanicError(str(error)) from error
