"""Ctrl-C at one line of LayerTracer's own code, chosen by number."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import layertracer

PACKAGE = str(Path(layertracer.__file__).parent)


@dataclass(slots=True)
class Moment:
    """A line to interrupt at.

    Attributes:
        line: Its number, counted from where the moment is armed; 0 for none.
        armed: Whether lines are counted.
        n_seen: Lines counted so far.
    """

    line: int
    armed: bool = True
    n_seen: int = 0


@contextmanager
def interrupting(line: int, *, armed: bool = True) -> Iterator[Moment]:
    """KeyboardInterrupt at a line within, once."""
    moment = Moment(line, armed)

    def at_line(_frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        if event == "line" and moment.armed:
            moment.n_seen += 1
            if moment.n_seen == moment.line:
                sys.settrace(None)
                raise KeyboardInterrupt
        return at_line

    def at_call(frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        return at_line if frame.f_code.co_filename.startswith(PACKAGE) else None

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        yield moment
    finally:
        sys.settrace(before)
