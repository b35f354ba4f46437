"""Progress on standard error: a moving bar on a terminal, a few plain lines in a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from layertracer._errors import printable
from layertracer.cli._console import can_show, is_interactive, say_aside

_SECONDS_BETWEEN_LINES = 10.0


@runtime_checkable
class ProgressDisplay(Protocol):
    """Shows how far a command is."""

    def begin(self, stage: str, detail: str = "") -> None:
        """Say what is being done now; the detail is left out where there is little room."""

    def note(self, text: str) -> None:
        """Say something that stays."""

    def advance(self, done: int, total: int, unit: str = "prompts") -> None:
        """Say how much of it is finished."""


def format_duration(seconds: float) -> str:
    """A time for people.

    Example:
        >>> format_duration(4.2), format_duration(75), format_duration(7265)
        ('4 s', '1 min 15 s', '2 h 1 min')
    """
    total = max(0, round(seconds))
    minutes, hours = total // 60, total // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {total % 60} s" if minutes else f"{total} s"


def estimate_remaining_s(done: int, total: int, *, elapsed_s: float) -> float | None:
    """Seconds until all is done, at the speed so far; None before anything is.

    Example:
        >>> estimate_remaining_s(8, 32, elapsed_s=10.0)
        30.0
    """
    return elapsed_s * (total - done) / done if done else None


class PlainProgress:
    """A line when a stage begins, one at most every ten seconds after that, and one at its end."""

    def __init__(self) -> None:
        self._began_s = self._said_s = time.monotonic()

    def begin(self, stage: str, detail: str = "") -> None:
        """Say what is being done now."""
        self._began_s = self._said_s = time.monotonic()
        say_aside(f"{stage}{': ' if detail else ''}{detail} ...")

    def note(self, text: str) -> None:
        """Say something that stays."""
        say_aside(text)

    def advance(self, done: int, total: int, unit: str = "prompts") -> None:
        """Say how much of it is finished, unless that was said just now."""
        now_s = time.monotonic()
        elapsed_s = now_s - self._began_s
        is_first = self._said_s == self._began_s and done > 0
        if done < total and not is_first and now_s - self._said_s < _SECONDS_BETWEEN_LINES:
            return
        self._said_s = now_s
        remaining_s = estimate_remaining_s(done, total, elapsed_s=elapsed_s)
        rest = f"{format_duration(elapsed_s)}"
        if done < total and remaining_s is not None:
            rest += f", about {format_duration(remaining_s)} left"
        say_aside(f"{done} of {total} {unit}, {rest}")


class LiveProgress:
    """A bar that moves, with the time left; it disappears when all is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
        from rich.table import Column

        is_wide = can_show(sys.stderr, "━⠋╸")
        self._progress = Progress(
            SpinnerColumn("dots" if is_wide else "line"),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rest]}", style="dim", table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=Console(stderr=True, markup=False, emoji=False),
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, rest="")
        self._began_s = time.monotonic()
        self._progress.start()

    def begin(self, stage: str, detail: str = "") -> None:
        """Say what is being done now."""
        del detail
        self._began_s = time.monotonic()
        self._progress.reset(self._task, description=printable(stage), total=None, rest="")

    def note(self, text: str) -> None:
        """Say something above the bar."""
        self._progress.console.print(printable(text), highlight=False)

    def advance(self, done: int, total: int, unit: str = "prompts") -> None:
        """Move the bar."""
        del unit
        remaining_s = estimate_remaining_s(done, total, elapsed_s=time.monotonic() - self._began_s)
        rest = "" if remaining_s is None else f"about {format_duration(remaining_s)} left"
        self._progress.update(self._task, completed=done, total=total, rest=rest)

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()


class ForgivingProgress:
    """Another display, for as long as it can be shown; where it is lost, nothing is shown, and the work goes on."""

    def __init__(self, make: Callable[[], PlainProgress | LiveProgress]) -> None:
        self._display: PlainProgress | LiveProgress | None = None
        self._try(lambda: setattr(self, "_display", make()))

    def begin(self, stage: str, detail: str = "") -> None:
        """Say what is being done now."""
        if (display := self._display) is not None:
            self._try(lambda: display.begin(stage, detail))

    def note(self, text: str) -> None:
        """Say something that stays."""
        if (display := self._display) is not None:
            self._try(lambda: display.note(text))

    def advance(self, done: int, total: int, unit: str = "prompts") -> None:
        """Say how much of it is finished."""
        if (display := self._display) is not None:
            self._try(lambda: display.advance(done, total, unit))

    def close(self) -> None:
        """Remove what should not stay."""
        if isinstance(display := self._display, LiveProgress):
            self._try(display.close)

    def _try(self, show: Callable[[], None]) -> None:
        try:
            show()
        except (Exception, SystemExit):  # noqa: BLE001 - whatever a terminal does; rich ends the program there
            self._display = None


@contextlib.contextmanager
def showing_progress() -> Iterator[ProgressDisplay]:
    """Progress on standard error within; a terminal or a pipe that is lost costs nothing but the display."""
    display = ForgivingProgress(LiveProgress if is_interactive(sys.stderr) else PlainProgress)
    try:
        yield display
    finally:
        display.close()
