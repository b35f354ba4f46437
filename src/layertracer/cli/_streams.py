"""Standard streams that may be gone: a pipe without a reader, a terminal that was closed, a full disk."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class _Forgiving:
    """A stream whose loss is no error: what cannot be written is left out."""

    def __init__(self, stream: Any) -> None:  # whatever stands in for standard error
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def forgiving_stderr() -> Iterator[None]:
    """Within, nothing fails because standard error is gone: progress and messages are not what was asked for."""
    if sys.stderr is None:
        yield
        return
    with contextlib.redirect_stderr(cast("TextIO", _Forgiving(sys.stderr))):
        yield


def give_up_stdout() -> None:
    """Let nothing be said of standard output any more, which cannot be written; Python would try again at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = sys.stdout.fileno()
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, descriptor)
        os.close(nothing)
