"""Ctrl-C where nothing is lost by it: it waits while what was measured is made into a record."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
"""Signals by which people and systems ask a program to end."""

_TO_CLEAN_UP_S = 1.0
"""Time that what was interrupted has to take its hooks away; should it have gone on, it is interrupted again then."""


@dataclass(slots=True, kw_only=True)
class InterruptGate:
    """Lets signals through while something runs that may be interrupted, and keeps them back after it.

    Attributes:
        within: The code during which they are let through; None to keep all of them back.
        has_begun: Whether there is anything to be lost; until then, all are let through.
        kept_back: The signals that came while they were kept back.
    """

    within: CodeType | None
    has_begun: bool = False
    kept_back: list[int] = field(default_factory=list)
    _let_through_s: float = -math.inf
    _before: dict[int, Any] = field(default_factory=dict)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """What is called when a signal comes."""
        now_s = time.monotonic()
        is_cleaning_up = now_s - self._let_through_s < _TO_CLEAN_UP_S
        if self.has_begun and (is_cleaning_up or not self._is_within(frame)):
            self.kept_back.append(number)
            return
        self._let_through_s = now_s
        self.let_through(number, frame)

    def let_through(self, number: int, frame: FrameType | None) -> None:
        """What would have happened without this gate."""
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            raise KeyboardInterrupt

    def _is_within(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code is self.within:
                return True
            frame = frame.f_back
        return False

    def close(self) -> None:
        """Put back how signals were handled."""
        for number, before in self._before.items():
            signal.signal(number, before)

    def open(self) -> None:
        """Handle signals that are not ignored and that Python handles; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOPPING:
            before = signal.getsignal(number)
            if callable(before):
                self._before[number] = before
                signal.signal(number, self)


@contextmanager
def keeping_interrupts_back(within: Callable[..., Any] | None) -> Iterator[InterruptGate]:
    """Signals that were kept back count at the end of the block.

    Args:
        within: The function during which they are let through, once something has begun; None for none.

    Raises:
        KeyboardInterrupt: At the end, where one was kept back.
    """
    gate = InterruptGate(within=None if within is None else within.__code__, has_begun=within is None)
    gate.open()
    try:
        yield gate
    finally:
        gate.close()
    for number in gate.kept_back:
        gate.let_through(number, None)
