"""SIGTERM and SIGHUP: whoever sends them wants what Ctrl-C wants, an end that keeps what is finished."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, MutableMapping
from types import FrameType
from typing import Any

_STOPPED_BY = "layertracer.stopped_by"
_NAMES = ("SIGTERM", "SIGHUP")


@contextlib.contextmanager
def stopping_on_signals(meta: MutableMapping[str, Any]) -> Iterator[None]:
    """Signals that ask for an end raise KeyboardInterrupt within; those that are ignored (nohup) stay so.

    Args:
        meta: Where it is kept which one it was.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        meta[_STOPPED_BY] = number
        raise KeyboardInterrupt

    asked = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    taken = [number for number in asked if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def interrupted_exit_code(meta: MutableMapping[str, Any]) -> int:
    """128 and the signal's number, as shells have it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + int(meta.get(_STOPPED_BY, signal.SIGINT))
