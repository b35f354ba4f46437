"""A call that may never return, given up after a while."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class TookTooLong(Exception):  # noqa: N818 - not a user's error: the caller says what it was that took too long
    """A call did not return in time."""


class _Stop(BaseException):
    """Raised inside a call that is given up."""


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """What a call returns or raises, in a thread of its own.

    Args:
        seconds: How long it may take.
        call: Python code; it is stopped at its next instruction where it takes longer.

    Raises:
        TookTooLong: If it takes longer.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="layertracer-deadline", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        # A thread cannot be killed, but an exception can be raised in it.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stop))
        raise TookTooLong(f"it did not come to an end within {seconds:.3g} s")
    if errors:
        raise errors[0]
    return results[0]
