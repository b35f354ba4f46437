"""Calls in a process of their own, where neither time nor memory can be taken without end.

A thread cannot be ended inside a call that is not Python, such as a power of two large numbers, and has no memory of
its own. A process can be ended and can be given a limit.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from layertracer.tasks._deadline import TookTooLong, within

_MEMORY_BYTES = 2**29
"""So much a template may take, which takes a few MB."""

_PARALLELISM = "TOKENIZERS_PARALLELISM"


class CallFailedError(Exception):
    """What was called raised: the type and the message, since it was raised in another process."""


class ConfinedCall:
    """A function that is called in another process, which begins as a copy of this one with the first call.

    Where the system has no such copies (only Linux has safe ones), it is called in a thread, with its time limited and
    its memory not.

    Args:
        function: Takes and gives JSON values. What it changes stays in the other process.
        seconds: How long one call may take.
        seconds_in_all: How long all calls together may take.
        memory_bytes: So much more memory than this process has may be taken.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        seconds: float,
        seconds_in_all: float,
        memory_bytes: int = _MEMORY_BYTES,
    ) -> None:
        self._function, self._seconds, self._left_s = function, seconds, seconds_in_all
        self._memory_bytes = memory_bytes
        self._process: int | None = None
        self._connection: Connection | None = None
        self._can_copy = sys.platform == "linux"

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns.

        Raises:
            TookTooLong: If it does not return in time.
            CallFailedError: If it raises, or needs more memory than it may take.
        """
        if self._left_s <= 0:
            raise TookTooLong("all calls together did not come to an end in time")
        began_s = time.monotonic()
        try:
            return self._call(arguments)
        finally:
            self._left_s -= time.monotonic() - began_s

    def _call(self, arguments: tuple[Any, ...]) -> Any:
        if self._connection is None and self._can_copy:
            self._begin()
        if self._connection is None:
            return self._call_in_thread(arguments)
        try:
            self._connection.send_bytes(json.dumps(arguments).encode())
            if not self._connection.poll(self._seconds):
                raise TookTooLong(f"it did not come to an end within {self._seconds:.3g} s")
            answer = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            self.close()
            raise CallFailedError("it brought its process down, as a call without an end of its own can") from None
        except BaseException:  # Ctrl-C too: a process in an endless loop must not stay
            self.close()
            raise
        if "failed" in answer:
            raise CallFailedError(answer["failed"])
        return answer["returned"]

    def close(self) -> None:
        """End the other process."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
        self._process = self._connection = None

    def _call_in_thread(self, arguments: tuple[Any, ...]) -> Any:
        try:
            return within(self._seconds, lambda: self._function(*arguments))
        except TookTooLong:
            raise
        except Exception as error:
            raise CallFailedError(_describe(error)) from error

    def _begin(self) -> None:
        here, there = Pipe()
        # A copy has none of the threads: tokenizers says so unless it is told that it is known.
        is_set = _PARALLELISM in os.environ
        os.environ.setdefault(_PARALLELISM, "false")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of copies without threads: nothing there waits
                process = os.fork()
        except OSError:
            self._can_copy = False
            return
        finally:
            if not is_set:
                os.environ.pop(_PARALLELISM, None)
        if process == 0:
            here.close()  # else this side would never see that the other is gone
            _serve(there, self._function, self._seconds, self._memory_bytes)
        there.close()
        self._process, self._connection = process, here


def _serve(connection: Connection, function: Callable[..., Any], seconds: float, memory_bytes: int) -> NoReturn:
    """Answer calls until the other side is gone; this process ends here."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other side ends it
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        _limit_memory(memory_bytes)
        while True:
            arguments = json.loads(connection.recv_bytes())
            signal.setitimer(signal.ITIMER_REAL, seconds + 1)  # should the other side have been killed meanwhile
            connection.send_bytes(_answer(function, arguments))
            signal.setitimer(signal.ITIMER_REAL, 0)
    except BaseException:  # noqa: BLE001 - nothing may run on in a copy of somebody's program
        os._exit(1)


def _answer(function: Callable[..., Any], arguments: list[Any]) -> bytes:
    try:
        return json.dumps({"returned": function(*arguments)}).encode()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised on the other side
        return json.dumps({"failed": _describe(error)}).encode()


def _describe(error: Exception) -> str:
    message = " ".join(str(error)[:1_000].split())
    return f"{type(error).__name__}: {message or 'no message'}"


def _limit_memory(memory_bytes: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + memory_bytes
    _, highest = resource.getrlimit(resource.RLIMIT_AS)
    if highest != resource.RLIM_INFINITY:
        limit = min(limit, highest)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
